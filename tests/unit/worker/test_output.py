"""Each trial's output in a file of its own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from maggy.worker.output import Output, add_output, tail

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Output]:
    """Output into a temporary folder, of which 1,000 bytes are kept at each end."""
    output = Output(tmp_path / "trials", kept=1000, slack=500)
    yield output
    output.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The file of trial 3."""
    return tmp_path / "trials" / "000003.log"


def write(text: str) -> None:
    """Print as a training function does."""
    sys.stdout.write(text)


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(list(Path("/dev/fd").iterdir()))


def test_everything_that_is_written_is_caught_in_order(output: Output, log: Path) -> None:
    """Python's streams, C's, raw descriptors and child processes all end up in the file."""
    with output.trial(3, 0):
        write("python\n")
        sys.stderr.write("error\n")
        os.write(1, b"raw\n")
        subprocess.run(["/bin/sh", "-c", "echo child; echo child-error >&2"], check=True)
        ctypes.CDLL(None).printf(b"c code\n")
    assert log.read_text() == "python\nerror\nraw\nchild\nchild-error\nc code\n"
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700


def test_streams_and_descriptors_come_back(tmp_path: Path) -> None:
    """Afterwards the process writes where it wrote before, through the same objects."""
    before = (sys.stdout, sys.stderr, os.fstat(1).st_ino, os.fstat(2).st_ino)
    open_before = descriptors()
    output = Output(tmp_path)
    with output.trial(0, 0):
        write("x")
    assert (os.fstat(1).st_ino, os.fstat(2).st_ino) == before[2:]
    output.close()
    assert (sys.stdout, sys.stderr) == before[:2]
    assert descriptors() == open_before


def test_a_silent_trial_leaves_no_file(output: Output, log: Path) -> None:
    """An empty file is removed, and so is one that holds only the header of an attempt."""
    with output.trial(3, 0):
        assert log.exists()
    assert not log.exists()
    with output.trial(3, 1):
        pass
    assert not log.exists()


def test_a_later_attempt_continues_the_file(output: Output, log: Path) -> None:
    """The output of all attempts is kept, each later one under a header; the tail is its own."""
    with output.trial(3, 0):
        write("one\n")
    with output.trial(3, 1):
        assert output.tail() == ""
        write("two\n")
        assert output.tail() == "two"
    with output.trial(3, 2):
        pass
    assert log.read_text() == "one\n--- attempt 1 ---\ntwo\n--- attempt 2 ---\n"


def test_a_trial_may_leave_the_streams_in_any_state(output: Output, log: Path) -> None:
    """Streams that a trial replaced, broke or closed work again in the next one."""

    class Broken:
        def flush(self) -> None:
            raise LookupError

    for attempt in range(3):
        with output.trial(3, attempt):
            write(f"hello {attempt}\n")
            sys.stderr = Broken()
            if attempt == 1:
                sys.stdout.close()
                os.close(2)
    assert [row for row in log.read_text().splitlines() if "hello" in row] == [
        "hello 0",
        "hello 1",
        "hello 2",
    ]


def test_anything_can_be_printed(output: Output, log: Path) -> None:
    """Texts that UTF-8 cannot hold are escaped rather than failing the trial."""
    with output.trial(3, 0):
        write("ä \udc80\n")
    assert log.read_text(encoding="utf-8") == "ä \\udc80\n"


def test_of_a_long_file_both_ends_are_kept(output: Output, log: Path) -> None:
    """The middle of a file that is too long gives way to a line that says how much was cut."""
    with output.trial(3, 0):
        write("a" * 1500 + "z" * 1500)
    text = log.read_text()
    assert text == "a" * 1000 + "\n[maggy cut 1000 bytes here]\n" + "z" * 1000


def test_a_running_trial_is_cut_with_slack_and_the_count_goes_on(
    output: Output, log: Path
) -> None:
    """A file is cut again and again while it grows; a child that writes to it is not lost."""
    with output.trial(3, 0):
        write("a" * 2400)
        output.trim()
        sys.stdout.flush()
        assert log.stat().st_size == 2400
        child = subprocess.Popen(["/bin/sh", "-c", "read go; echo child"], stdin=subprocess.PIPE)
        write("b" * 600)
        sys.stdout.flush()
        output.trim()
        assert "[maggy cut 1000 bytes here]" in log.read_text()
        write("c" * 1000)
        sys.stdout.flush()
        output.trim()
        assert "[maggy cut 2000 bytes here]" in log.read_text()
        child.communicate(b"go\n")
    text = log.read_text()
    assert text.startswith("a" * 1000 + "\n[maggy cut 2006 bytes here]\n")
    assert text.endswith("c" * 994 + "child\n")
    assert len(output.tail()) == 0


def test_the_tail_of_a_cut_file_is_its_end(output: Output) -> None:
    """The last lines are found although the file was cut behind the place where they began."""
    with output.trial(3, 1):
        write("x" * 5000)
        sys.stdout.flush()
        output.trim()
        write("\nlast")
        assert output.tail(1) == "last"


def test_cutting_and_ending_do_not_collide(output: Output) -> None:
    """Another thread may trim at any moment, also between trials."""
    ended = threading.Event()

    def trim() -> None:
        while not ended.is_set():
            output.trim()

    thread = threading.Thread(target=trim)
    thread.start()
    for trial in range(50):
        with output.trial(trial, 0):
            write("x" * 3000)
    ended.set()
    thread.join()


def test_a_missing_folder_costs_only_the_output(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A trial runs although its file cannot be opened, and the worker says why."""
    (tmp_path / "file").write_text("")
    output = Output(tmp_path / "file" / "trials")
    with output.trial(1, 0):
        write("")
        assert output.tail() == ""
    output.close()
    assert "no output of trials is kept" in caplog.text
    assert "the output of trial 1 is not kept" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_costs_only_the_output(tmp_path: Path) -> None:
    """Printing to a full disk raises nothing."""
    (tmp_path / "000001.log").symlink_to("/dev/full")
    output = Output(tmp_path)
    with output.trial(1, 1):
        write("lost\n")
        sys.stdout.flush()
        sys.stderr.write("lost too\n")
    output.close()


def test_tail_shows_the_last_lines(tmp_path: Path) -> None:
    """At most so many lines, the last state of each progress bar, nothing for a missing file."""
    path = tmp_path / "x.log"
    assert tail(path) == ""
    path.write_bytes(b"one\r\ntwo\n 10%\r 20%\r 30%\n\xff\n")
    assert tail(path, 3) == "two\n 30%\n\ufffd"
    path.write_bytes(b"x" * 10**6)
    assert len(tail(path)) == 16_384
    path.write_bytes(b"")
    assert tail(path) == ""


def test_output_from_elsewhere_continues_the_file(tmp_path: Path) -> None:
    """A further attempt's output comes behind what is there, and both ends are kept."""
    path, part = tmp_path / "000003.log", tmp_path / "part"
    part.write_bytes(b"a" * 15)
    add_output(path, part, kept=20)
    part.write_bytes(b"b" * 40)
    add_output(path, part, kept=20)
    head, cut, end = path.read_text().partition("\n[maggy cut 15 bytes here]\n")
    assert (head, bool(cut), end) == ("a" * 15 + "b" * 5, True, "b" * 20)
    assert path.stat().st_mode & 0o777 == 0o600
