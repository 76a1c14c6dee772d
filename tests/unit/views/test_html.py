"""Unit tests of ``maggy.views.html``."""

from __future__ import annotations

from maggy.views.html import chips, details, facts, outcome_tone, page, pictures, text

EVIL = "<script>alert('x')</script> & \x1b[31m\n\"quoted\""
SHOWN = "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; \\x1b[31m &quot;quoted&quot;"


def test_users_text_is_shown_never_interpreted() -> None:
    """Everywhere it can come in."""
    assert text(EVIL) == SHOWN
    pieces = [
        chips({EVIL: EVIL}),
        facts([(EVIL, text(EVIL))]),
        details(EVIL, EVIL),
        pictures([(EVIL, "<svg/>")]),
    ]
    for piece in pieces:
        assert "<script" not in piece
        assert "alert(&#x27;x&#x27;)" in piece
        assert "\x1b" not in piece


def test_long_texts_are_cut() -> None:
    """One line by its end, a story in its middle: its first call and its error stay."""
    assert text("x" * 9000).endswith("x…")
    assert len(text("x" * 9000)) == 2000
    story = details("failed", f"begin\n{'x' * 99_999}\nend")
    assert len(story) < 4200
    assert "begin" in story
    assert "end</pre>" in story


def test_stories_keep_their_lines() -> None:
    """A traceback is shown as it is indented."""
    assert "<pre>a\n    b</pre>" in details("t", "a\n\tb".replace("\t", "    "))


def test_many_hyperparameters_are_counted() -> None:
    """A configuration of a hundred values does not fill the page."""
    shown = chips({f"h{number}": number for number in range(100)})
    assert shown.count("maggy-chip") == 40
    assert shown.endswith("and 60 more")


def test_nothing_to_show_is_nothing() -> None:
    """No table without rows, no figure without a picture."""
    assert facts([]) == ""
    assert pictures([("caption", "")]) == ""


def test_a_page_brings_its_style_and_nothing_from_elsewhere() -> None:
    """It holds no script, no link and no address, and its colours come from around it."""
    whole = page(["<p>words</p>"])
    assert whole.startswith('<div class="maggy"><style>.maggy{')
    assert whole.endswith("<p>words</p></div>")
    for word in ("<script", "http", "url(", "@import", "<link", "\n", "prefers-color-scheme"):
        assert word not in whole


def test_outcomes_have_the_colour_of_a_status() -> None:
    """Good, bad, under way, and anything else."""
    outcomes = ("completed", "exhausted", "failed", "killed", "running", "interrupted", "?")
    assert [outcome_tone(outcome) for outcome in outcomes] == [
        *("completed", "completed", "failed", "failed", "running", "stopped", "stopped")
    ]
