"""Unit tests of ``maggy.views.progress``, ``lines`` and ``block``."""

from __future__ import annotations

import dataclasses
import io
import logging
import subprocess
import sys
import time
import types
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from maggy.core.summary import Summary
from maggy.events import (
    ExperimentStarted,
    MetricReported,
    StopDecided,
    Suggested,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    TrialStopped,
    WorkerJoined,
    WorkerLost,
)
from maggy.testing.stores import story
from maggy.trial import TrialError
from maggy.views.block import BlockDisplay
from maggy.views.lines import LineDisplay
from maggy.views.notebook import NotebookDisplay
from maggy.views.progress import Output, Silence, in_notebook, make_display

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from maggy.events import Event
    from maggy.views.progress import Display


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def play(display: Display, events: Sequence[Event], *, group: int = 1) -> Summary:
    """Show a run as an engine would, ``group`` events at a time."""
    summary = Summary()
    for start in range(0, len(events), group):
        news = events[start : start + group]
        for event in news:
            summary.apply(event)
        display.update(summary, news, news[-1].at)
    return summary


def block(stream: io.StringIO, width: int = 80, height: int = 24, **options: Any) -> BlockDisplay:
    """A terminal's display of a given size."""
    console = Console(
        file=stream, force_terminal=True, width=width, height=height, **options, _environ={}
    )
    return BlockDisplay(Output(stream), console, None)


def screen(text: str, width: int = 80) -> list[str]:
    """What a terminal without colours would show: only the moves that the display uses."""
    rows: list[str] = [""]
    while text:
        if text.startswith("\x1b["):
            end = next(i for i, char in enumerate(text[2:], 2) if char.isalpha())
            code, text = text[2 : end + 1], text[end + 1 :]
            if code.endswith("F"):
                rows = [*rows[: -1 - int(code[:-1])], ""]
            else:
                assert code == "J", code
        elif text[0] == "\n":
            rows, text = [*rows, ""], text[1:]
        else:
            rows[-1], text = rows[-1] + text[0], text[1:]
    assert all(len(row) <= width for row in rows)
    return rows


# Which display


def test_quiet_shows_nothing() -> None:
    """Not a character, whatever the stream."""
    stream = Terminal()
    display = make_display(stream, quiet=True)
    display.close(play(display, story()))
    assert isinstance(display, Silence)
    assert stream.getvalue() == ""


def test_the_stream_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets a block, a file, a dumb terminal and that of a CI service get lines."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("CI", "true")
    assert isinstance(make_display(Terminal(), quiet=False), LineDisplay)
    monkeypatch.delenv("CI")
    assert isinstance(make_display(Terminal(), quiet=False), BlockDisplay)
    assert isinstance(make_display(io.StringIO(), quiet=False), LineDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_display(Terminal(), quiet=False), LineDisplay)


class Shell:
    """What ``IPython.get_ipython`` gives; a kernel's has a kernel."""

    def __init__(self, kernel: object) -> None:
        self.kernel = kernel


@pytest.mark.parametrize(
    ("shell", "kind"),
    [(Shell(object()), NotebookDisplay), (Shell(None), LineDisplay), (None, LineDisplay)],
)
def test_a_kernel_gets_html(
    shell: Shell | None, kind: type[Display], monkeypatch: pytest.MonkeyPatch
) -> None:
    """IPython in a terminal, or merely imported, is no notebook; quiet is quiet there, too."""
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert in_notebook() is (kind is NotebookDisplay)
    assert isinstance(make_display(io.StringIO(), quiet=False), kind)
    assert isinstance(make_display(io.StringIO(), quiet=True), Silence)


def test_without_ipython_there_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for, never imported."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    assert "IPython" not in sys.modules


def test_lines_do_not_load_rich() -> None:
    """A run whose output goes to a file does not pay for the terminal's library."""
    code = (
        "import io, sys; from maggy.views.progress import make_display;"
        "make_display(io.StringIO(), quiet=False); sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


# Lines


def test_lines_tell_the_story(tmp_path: Path) -> None:
    """Start, each end, trouble and the summary, in plain text."""
    stream = io.StringIO()
    display = make_display(stream, quiet=False, path=tmp_path)
    display.close(play(display, story()))
    text = stream.getvalue()
    assert text.splitlines()[:4] == [
        f"story: randomsearch, 6 trials, maximising accuracy; run folder {tmp_path}",
        "   0:01  trial 1 failed: ValueError: no such unit  lr=0.2  units=64  shape=()",
        "   0:02  trial 0 completed: 0.625 (best so far)"
        "  lr=0.1  units=32  shape=(3, (4, 5))  [2.00 s]",
        "   0:03  trial 2 stopped: 0.1 at step 1 is below the median 0.55 of 1 trial",
    ]
    assert "   best  0.875  trial 3" in text
    assert text.count("Traceback") == 1
    assert "\x1b" not in text


def crowd(count: int, seconds: float) -> list[Event]:
    """Trials that complete one after the other, evenly in time, each better than the last."""
    error = TrialError(type="E", message="oops")
    events: list[Event] = [
        ExperimentStarted(at=0.0, config={"name": "crowd", "num_trials": count}),
        WorkerJoined(at=0.0, worker="w"),
    ]
    for number in range(count):
        at = seconds * number / count
        run: dict[str, Any] = {"at": at, "trial": number, "attempt": 0}
        events += [
            Suggested(at=at, trial=number, hparams={"x": number}),
            TrialStarted(**run, worker="w"),
            TrialFailed(**run, error=error)
            if number == count // 2
            else TrialFinished(**run, value=number / count),
        ]
    return events


@pytest.mark.parametrize("group", [30, 750])
def test_lines_condense_a_crowd(group: int) -> None:
    """At a thousand events a second some twenty lines a second stay, and none is lost count of."""
    stream = io.StringIO()
    display = LineDisplay(Output(stream), None)
    play(display, events := crowd(5000, 15.0), group=group)
    lines = stream.getvalue().splitlines()
    assert 15 < len(lines) <= 20 * 16
    more = [line for line in lines if "more event" in line]
    left_out = sum(int(line.split("and ")[1].split(" ")[0].replace(",", "")) for line in more)
    told = [line for line in lines[1:] if "more event" not in line]
    untold = display._untold.total() + len(display._held)
    assert left_out + len(told) + untold == 5000
    assert any("trial 2500 failed: E: oops" in line for line in told)
    assert "best so far" in more[-1]
    assert len(events) == 15_002


def test_lines_close_counts_the_rest() -> None:
    """What was held back at the end is counted before the summary."""
    stream = io.StringIO()
    display = LineDisplay(Output(stream), None)
    summary = play(display, crowd(100, 0.0), group=1)
    display.close(summary)
    lines = stream.getvalue().splitlines()
    assert any("trial 50 failed: E: oops" in line for line in lines)
    rest = next(line for line in lines if "more event" in line)
    assert rest.endswith("completed; best so far 0.99, trial 99")
    assert lines.index(rest) < lines.index("crowd not finished after 0.00 s")


# Block


def test_the_block_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Title, bar, best, counts, workers and the last events, redrawn in place."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    play(block(stream, color_system=None), story()[:-1])
    assert screen(stream.getvalue()) == [
        "story  randomsearch, 6 trials, maximising accuracy                          0:06",
        "━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━──────────────────  4 of 6  1 s left",
        "   best  0.875  trial 3  lr=0.4  units=16  shape=(2,)",
        " trials  1 running · 2 completed · 1 stopped early · 1 failed",
        "workers  1 of 2 busy, 85% of the time, 1 lost",
        "   0:05  the optimizer failed: RuntimeError: no more ideas",
        "   0:05  the workers failed: RuntimeError: no more ideas",
        "   0:06  interrupted: running trials have 0.50 s to leave",
        "",
    ]


def test_a_long_configuration_takes_more_lines() -> None:
    """Three at most, aligned, so that every usual configuration can be read at 80 columns."""
    hparams: dict[str, Any] = {f"hyperparameter_{i}": i / 7 for i in range(20)}
    events: list[Event] = [
        ExperimentStarted(at=0.0, config={"name": "long", "num_trials": 1}),
        Suggested(at=0.0, trial=0, hparams=hparams),
        TrialStarted(at=0.0, trial=0, attempt=0, worker="w"),
        TrialFinished(at=1.0, trial=0, attempt=0, value=0.5),
    ]
    stream = Terminal()
    display = block(stream, color_system=None)
    summary = play(display, events)
    rows = screen(stream.getvalue())
    assert rows[2] == "   best  0.5  trial 0  hyperparameter_0=0  hyperparameter_1=0.1429"
    assert rows[3] == "              hyperparameter_2=0.2857  hyperparameter_3=0.4286"
    assert rows[5].startswith(" trials  ")
    display.close(summary)
    rows = screen(stream.getvalue())
    assert rows[2].startswith("         hyperparameter_")
    assert any("hyperparameter_19" in row for row in rows)


@pytest.mark.parametrize("width", [10, 40, 80, 200])
@pytest.mark.parametrize("height", [3, 24])
def test_the_block_fits_any_terminal(width: int, height: int) -> None:
    """No line is wider and no block higher than the terminal, wide characters included."""
    config: dict[str, Any] = {"name": "日本語" * 5, "num_trials": 9, "optimizer": "x" * 90}
    events: list[Event] = [ExperimentStarted(at=0.0, config=config), *story()[1:]]
    stream = Terminal()
    display = block(stream, width, height, color_system=None)
    play(display, events)
    rows = screen(stream.getvalue(), width)
    assert 1 < len(rows) <= height


def test_the_block_is_redrawn_five_times_a_second() -> None:
    """However often it is called."""
    stream = Terminal()
    display = block(stream)
    events = crowd(1000, 10.0)
    play(display, events)
    assert 40 <= stream.getvalue().count("\x1b[J") <= 50


def test_the_block_before_the_first_trial() -> None:
    """Nothing is known yet, and that is shown without an estimate."""
    stream = Terminal()
    play(block(stream, color_system=None), story()[:1])
    rows = screen(stream.getvalue())
    assert rows[1].endswith("─  0 of 6")
    assert rows[2:5] == ["   best  none yet", " trials  0 running", "workers  starting"]


def test_who_waits_for_workers_is_told() -> None:
    """Workers started by hand have not joined yet; of those that are gone none is here."""
    begun, *rest = story()
    assert isinstance(begun, ExperimentStarted)
    begun = dataclasses.replace(begun, config={**begun.config, "engine": "manual"})
    stream = Terminal()
    play(block(stream, color_system=None), [begun])
    assert screen(stream.getvalue())[4] == "workers  none has joined yet"
    gone = [event for event in rest if isinstance(event, WorkerJoined)]
    lost = [WorkerLost(at=2.0, worker=event.worker, reason="gone") for event in gone]
    stream = Terminal()
    play(block(stream, color_system=None), [begun, *gone, *lost], group=1 + 2 * len(gone))
    assert screen(stream.getvalue())[4] == f"workers  none is here, {len(lost)} lost"


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """The logger of maggy where the user has set up no logging."""
    logger = logging.getLogger("maggy")
    monkeypatch.setattr(logger, "hasHandlers", lambda: False)  # without pytest's own
    return logger


def test_warnings_stay_above_the_block(unheard: logging.Logger) -> None:
    """What maggy warns of is not erased by the next drawing, and tears nothing."""
    stream = Terminal()
    display = block(stream, color_system=None)
    play(display, story()[:8])
    summary = Summary()
    summary.apply(story()[0])
    logging.getLogger("maggy.engines").warning("nobody is there\nnor was")
    display.update(summary, [], 1.01)
    display.update(summary, [], 9.0)
    unheard.warning("the end")
    display.close(summary)
    rows = screen(stream.getvalue())
    assert rows[:3] == ["warning  nobody is there", "warning  nor was", "warning  the end"]
    assert rows[3].startswith("story not finished")


def test_a_closed_display_leaves_the_logger_alone(unheard: logging.Logger) -> None:
    """Warnings take their usual way before and after."""
    before = list(unheard.handlers)
    display = block(Terminal())
    assert len(unheard.handlers) == len(before) + 1
    display.close(Summary())
    assert unheard.handlers == before


def test_where_logging_is_set_up_warnings_take_their_usual_way() -> None:
    """The user's handlers get them, here those of pytest, and nothing is shown twice."""
    stream = Terminal()
    display = block(stream)
    logging.getLogger("maggy.engines").warning("nobody is there")
    display.close(Summary())
    assert "nobody" not in stream.getvalue()


def test_a_search_of_the_whole_space_has_no_bar() -> None:
    """Where nobody knows the number of trials, those that ended are counted."""
    stream = Terminal()
    play(block(stream, color_system=None), [ExperimentStarted(at=0.0, config={"name": "g"})])
    assert screen(stream.getvalue())[1] == "0 trials ended"


def test_users_text_is_no_markup() -> None:
    """Brackets stay brackets and escapes are shown, in both displays."""
    evil = "[bold red]x[/] \x1b]0;title\x07"
    events: list[Event] = [
        ExperimentStarted(at=0.0, config={"name": evil, "num_trials": 1}),
        WorkerJoined(at=0.0, worker=evil),
        Suggested(at=0.0, trial=0, hparams={evil: evil}),
        TrialStarted(at=0.0, trial=0, attempt=0, worker=evil),
        WorkerLost(at=1.0, worker=evil, reason=evil),
        TrialStarted(at=1.0, trial=0, attempt=1, worker=evil),
        TrialFinished(at=2.0, trial=0, attempt=1, value=1.0),
    ]
    plain, terminal = io.StringIO(), Terminal()
    for display in (LineDisplay(Output(plain), None), block(terminal, 300, color_system=None)):
        display.close(play(display, events))
    for text in (plain.getvalue(), terminal.getvalue()):
        assert r"[bold red]x[/] \x1b]0;title\x07" in text
        assert "\x07" not in text


def test_colours_follow_the_terminal() -> None:
    """Where there are none, or the user wants none, only moves are sent."""
    for options in ({"color_system": None}, {"no_color": True}):
        stream = Terminal()
        play(block(stream, **options), story())
        assert "\x1b[3" not in stream.getvalue()
    stream = Terminal()
    play(block(stream, color_system="standard"), story())
    assert "\x1b[32m" in stream.getvalue()


def test_the_block_gives_way_to_the_summary() -> None:
    """At the end the last block is erased, and the summary stands in its place."""
    stream = Terminal()
    display = block(stream, color_system=None)
    display.close(play(display, story()))
    rows = screen(stream.getvalue())
    assert rows[0] == "story interrupted after 6.50 s"
    assert rows[1] == "   best  0.875  trial 3  lr=0.4  units=16  shape=(2,)"
    assert not any("━" in row for row in rows)
    assert "  ValueError: no such unit" in rows


def noted() -> list[Event]:
    """The story of a search that had something to say."""
    notes = [
        "The grid has 6 points.",
        "A second note with [brackets] that is too long for a line.",
    ]
    config: dict[str, Any] = {"name": "noted", "num_trials": 6, "notes": notes}
    return [ExperimentStarted(at=0.0, config=config), *story()[1:]]


def test_notes_stand_above_the_block_for_good() -> None:
    """They are written once, and neither redrawn nor erased."""
    stream = Terminal()
    display = block(stream, 40, color_system=None)
    display.close(play(display, noted()))
    rows = screen(stream.getvalue(), 40)
    assert rows[:4] == [
        "   note  The grid has 6 points.",
        "   note  A second note with [brackets]",
        "         that is too long for a line.",
        "noted interrupted after 6.50 s",
    ]
    assert stream.getvalue().count("The grid") == 1


def test_notes_are_lines_elsewhere() -> None:
    """After the first line, once."""
    stream = io.StringIO()
    display = LineDisplay(Output(stream), None)
    display.close(play(display, noted()))
    assert stream.getvalue().splitlines()[1:3] == [
        "   note  The grid has 6 points.",
        "   note  A second note with [brackets] that is too long for a line.",
    ]
    assert stream.getvalue().count("The grid") == 1


def test_the_time_saved_is_shown_while_it_grows() -> None:
    """As soon as a stopped trial can be compared with completed ones."""
    events: list[Event] = [
        ExperimentStarted(at=0.0, config={"name": "s", "num_trials": 3}),
        WorkerJoined(at=0.0, worker="w"),
    ]
    for number, steps in enumerate((10, 4)):
        at = 10.0 * number
        run: dict[str, Any] = {"trial": number, "attempt": 0}
        events.append(Suggested(at=at, trial=number, hparams={}))
        events.append(TrialStarted(at=at, worker="w", **run))
        events += [MetricReported(at=at, step=step, value=0.5, **run) for step in range(steps)]
    events.insert(-6, TrialFinished(at=10.0, trial=0, attempt=0, value=0.5))
    stream = Terminal()
    play(block(stream, color_system=None), events)
    assert "saved" not in screen(stream.getvalue())[4]
    events += [
        StopDecided(at=13.5, trial=1, attempt=0, reason="bad"),
        TrialStopped(at=14.0, trial=1, attempt=0),
    ]
    stream = Terminal()
    play(block(stream, color_system=None), events)
    assert screen(stream.getvalue())[4] == (
        "workers  0 of 1 busy, 100% of the time · about 6.00 s saved by stopping early"
    )


def test_an_unfinished_run_is_called_what_it_is() -> None:
    """Every display tells a run that goes on from one that was killed."""
    plain, terminal = io.StringIO(), Terminal()
    for display in (LineDisplay(Output(plain), None), block(terminal, color_system=None)):
        display.close(play(display, story()[:12]), unfinished="still running")
    for stream in (plain, terminal):
        assert "story still running after" in stream.getvalue()


# Streams


def test_a_broken_stream_does_not_end_the_search(caplog: pytest.LogCaptureFixture) -> None:
    """A closed pipe or file is logged once; the display goes on in silence."""
    stream = io.StringIO()
    display = make_display(stream, quiet=False)
    stream.close()
    with caplog.at_level(logging.WARNING):
        display.close(play(display, story()))
    assert [record.getMessage() for record in caplog.records] == [
        "the display ends, the search goes on: I/O operation on closed file"
    ]


def test_a_strict_display_ends_with_its_stream() -> None:
    """Where to write is all there is to do, a closed pipe is an end."""
    stream = io.StringIO()
    display = make_display(stream, quiet=False, strict=True)
    stream.close()
    with pytest.raises(ValueError, match="closed file"):
        play(display, story())


def test_a_stream_of_another_encoding_gets_what_it_can_take() -> None:
    """Where lines and bullets cannot be written, ASCII stands in."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Output(stream).write("━━─ a · b… ü\n")
    assert raw.getvalue() == b"==- a , b. ?\n"
    stream.detach()


def test_a_display_costs_next_to_nothing() -> None:
    """Ten seconds at a thousand events a second take well under a second of work."""
    events = crowd(3333, 10.0)
    for display in (LineDisplay(Output(io.StringIO()), None), block(Terminal())):
        summary = Summary()
        spent = 0.0
        for start in range(0, len(events), 250):
            news = events[start : start + 250]
            for event in news:
                summary.apply(event)
            began = time.process_time()
            display.update(summary, news, news[-1].at)
            spent += time.process_time() - began
        assert spent < 0.5
