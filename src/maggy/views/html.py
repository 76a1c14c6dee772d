"""HTML for notebooks: plain tables and inline pictures, without scripts, widgets or downloads.

Colours are those of the page, so the same HTML fits light and dark themes.  Whatever comes from
users goes through ``text``: it is shown, never interpreted.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from maggy.views.wording import literal, one_line, printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maggy.trial import Hparams

__all__ = ["chips", "details", "facts", "outcome_tone", "page", "pictures", "text"]

_LONGEST = 2000
"""Characters of one piece of a user's text."""

_CHIPS = 40
"""Hyperparameters of one configuration that are shown."""

_STYLE = """
.maggy{font-size:13px;line-height:1.55;max-width:64rem;font-variant-numeric:tabular-nums;
 --good:#2da44e;--bad:#e5534b;--stop:#c98a00;--busy:#3b82d6;--line:rgba(128,128,128,.28)}
.maggy .maggy-head{display:flex;flex-wrap:wrap;gap:0 .8em;align-items:baseline;margin:.2em 0 .4em}
.maggy .maggy-head b{font-size:15px}
.maggy .maggy-end{margin-left:auto}
.maggy .maggy-faint{opacity:.65}
.maggy .maggy-bar{height:6px;border-radius:3px;background:var(--line);overflow:hidden}
.maggy .maggy-bar div{height:6px;border-radius:3px;background:var(--good)}
.maggy .maggy-under{display:flex;justify-content:space-between;opacity:.75;margin-bottom:.3em}
.maggy.maggy table{border-collapse:collapse;border:0;margin:.3em 0;font-size:13px;width:auto;
 color:inherit}
.maggy.maggy td,.maggy.maggy th{border:0;padding:.12em 1em .12em 0;text-align:left;
 vertical-align:baseline;background:none;white-space:nowrap;max-width:none}
.maggy.maggy tr,.maggy.maggy tbody tr:hover,
.maggy.maggy tbody tr:nth-child(odd){background:none!important}
.maggy.maggy .maggy-facts th{font-weight:normal;opacity:.65;text-align:right;min-width:4.3em}
.maggy.maggy .maggy-facts td{white-space:normal;overflow-wrap:anywhere}
.maggy .maggy-scroll{overflow-x:auto}
.maggy.maggy .maggy-trials th{font-weight:600;opacity:.65}
.maggy.maggy .maggy-trials th,.maggy.maggy .maggy-trials td{border-bottom:1px solid var(--line);
 vertical-align:middle}
.maggy.maggy .maggy-trials .maggy-right{text-align:right}
.maggy .maggy-trials svg{display:block}
.maggy .maggy-best{color:var(--good);font-weight:600}
.maggy .maggy-completed{color:var(--good)} .maggy .maggy-failed{color:var(--bad)}
.maggy .maggy-stopped,.maggy .maggy-interrupted{color:var(--stop)}
.maggy .maggy-running,.maggy .maggy-stopping{color:var(--busy)}
.maggy .maggy-chip{display:inline-block;border:1px solid var(--line);border-radius:4px;
 padding:0 .45em;margin:0 .35em .15em 0;white-space:nowrap;line-height:1.4}
.maggy .maggy-chip i{font-style:normal;opacity:.65}
.maggy .maggy-pictures{display:flex;flex-wrap:wrap;gap:.4em 2em;margin:.5em 0}
.maggy .maggy-pictures figure{margin:0;flex:1 1 300px;max-width:460px}
.maggy .maggy-pictures figcaption{opacity:.65;font-size:12px}
.maggy .maggy-pictures svg{display:block;width:100%;height:auto}
.maggy details{margin:.3em 0} .maggy summary{cursor:pointer}
.maggy.maggy pre{font-size:12px;line-height:1.4;white-space:pre-wrap;overflow-wrap:anywhere;
 background:none;color:inherit;border:0;border-left:3px solid var(--line);padding:.1em .8em;
 margin:.3em 0}
.maggy.maggy code{background:none;color:inherit;font-size:12px;padding:0;border:0}
"""
_SHEET = _STYLE.replace("\n", "")


_TONES = {
    "running": "running",
    "completed": "completed",
    "exhausted": "completed",
    "failed": "failed",
    "killed": "failed",
}


def page(parts: Iterable[str]) -> str:
    """One piece of HTML from its parts, with its style."""
    return f'<div class="maggy"><style>{_SHEET}</style>{"".join(parts)}</div>'


def text(words: str, limit: int = _LONGEST) -> str:
    """A user's text on one line, escaped, at most ``limit`` characters of it."""
    return html.escape(shorten(one_line(words), limit))


def chips(hparams: Hparams) -> str:
    """A configuration: a small box for each hyperparameter, as many as people read."""
    boxes = [
        f'<span class="maggy-chip"><i>{text(name, 60)}</i> {text(literal(value))}</span>'
        for name, value in list(hparams.items())[:_CHIPS]
    ]
    hidden = len(hparams) - _CHIPS
    return "".join(boxes) + (f"and {hidden} more" if hidden > 0 else "")


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A table of labels and what is to be said under them; the latter is HTML already."""
    cells = "".join(f"<tr><th>{text(label)}</th><td>{what}</td></tr>" for label, what in rows)
    return f'<table class="maggy-facts">{cells}</table>' if cells else ""


def pictures(captioned: Iterable[tuple[str, str]]) -> str:
    """Pictures side by side, each with its caption; those that are ``""`` are left out."""
    figures = "".join(
        f"<figure><figcaption>{text(caption)}</figcaption>{picture}</figure>"
        for caption, picture in captioned
        if picture
    )
    return f'<div class="maggy-pictures">{figures}</div>' if figures else ""


def outcome_tone(outcome: str) -> str:
    """The status whose colour a run's outcome has."""
    return _TONES.get(outcome, "stopped")


def details(title: str, story: str) -> str:
    """A line that unfolds to several lines of a user's text; both are escaped here."""
    lines = html.escape(_middle_cut(printable(story)))
    return f"<details><summary>{text(title)}</summary><pre>{lines}</pre></details>"


def _middle_cut(story: str) -> str:
    """Both ends of a long text: a traceback's first call and its error."""
    if len(story) <= 2 * _LONGEST:
        return story
    return f"{story[:_LONGEST]}\n…\n{story[-_LONGEST:]}"
