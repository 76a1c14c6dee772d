"""What the driver gives to agents and takes from them."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from maggy.engines.files import Files
from maggy.trial import CheckpointName
from maggy.wire.messages import Fetch, Part, Refused, Store, Stored
from maggy.worker.checkpoints import Checkpoints
from maggy.worker.drafts import list_entries, pack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Client:
    """Asks as an agent does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "data").write_bytes(b"0123456789")
        self._data = os.open(folder / "data", os.O_RDONLY)
        self._files = Files(
            data_fd=self._data,
            trials=folder / "trials",
            checkpoints=folder / "checkpoints",
            limit=1000,
        )

    def fetch(self, name: str, offset: int = 0, size: int = 2**20) -> tuple[int, bytes]:
        """The length of the file and a piece of it."""
        request = Fetch(name=name, offset=offset, size=size)
        answer, blob = asyncio.run(self._files.answer("a", request, None))
        assert isinstance(answer, Part)
        assert blob is not None
        return answer.size, blob

    def store(self, name: str, blob: bytes, offset: int = 0, *, last: bool = True) -> str:
        """The driver's refusal, "" for none."""
        request = Store(name=name, offset=offset, last=last)
        answer, none = asyncio.run(self._files.answer("a", request, blob))
        assert none is None
        if isinstance(answer, Refused):
            return answer.reason
        assert isinstance(answer, Stored)
        return ""

    def close(self) -> None:
        """End the service."""
        self._files.close()
        os.close(self._data)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A service with everything."""
    client = Client(tmp_path)
    yield client
    client.close()


def test_pieces_of_the_data_sets(client: Client) -> None:
    """Any piece can be had, and each tells how much there is."""
    assert client.fetch("data") == (10, b"0123456789")
    assert client.fetch("data", 3, 4) == (10, b"3456")
    assert client.fetch("data", 20) == (10, b"")


def test_beyond_the_end_there_is_nothing(client: Client) -> None:
    """However far: no number that an agent asks with is the driver's trouble."""
    assert client.fetch("data", offset=10) == (10, b"")
    assert client.fetch("data", offset=2**70) == (10, b"")


def test_what_is_not_there_is_no_error(client: Client) -> None:
    """An agent can ask whether there is something."""
    name = CheckpointName(0, 1, 2, 3, 4)
    assert client.fetch("code") == (-1, b"")
    assert client.fetch("checkpoints/000001/0000") == (-1, b"")
    assert client.fetch(f"checkpoints/000001/{name}") == (-1, b"")
    assert client.fetch(f"checkpoints/000001/{name}/0") == (-1, b"")


@pytest.mark.parametrize(
    "name",
    [
        "", "/etc/passwd", "data/", "data\n", "../data", "trials/../../x/0000",
        "trials/000001.log",
        "checkpoints/../000001/0000", "checkpoints/000001/..", "checkpoints/1/0000",
        "checkpoints/000001/abc", "checkpoints/000001/0000-000001-2-3-00000004/../x",
        "checkpoints/000001/0000-000001-2-3-00000004/data", "x" * 10_000,
    ],
)  # fmt: skip
def test_no_name_leads_astray(client: Client, name: str) -> None:
    """Whatever is asked for or brought, nothing outside the grammar is read or written."""
    before = sorted(client.folder.rglob("*"))
    request = Fetch(name=name, offset=0, size=10)
    answer, _ = asyncio.run(client._files.answer("a", request, None))
    assert isinstance(answer, Refused)
    assert client.store(name, b"x")
    assert sorted(client.folder.rglob("*")) == before


def test_output_of_attempts_adds_up(client: Client) -> None:
    """Each attempt's output is added once, when it is whole, however often its end is sent."""
    log = client.folder / "trials" / "000004.log"
    assert client.store("trials/000004/0000", b"first, ", last=False) == ""
    assert not log.exists()
    assert client.store("trials/000004/0000", b"first, ", last=False) == ""
    for _ in range(2):
        assert client.store("trials/000004/0000", b"half\n", 7) == ""
    assert client.store("trials/000004/0001", b"second\n") == ""
    assert client.store("trials/000004/0001", b"second\n") == ""
    assert log.read_text() == "first, half\nsecond\n"
    assert log.stat().st_mode & 0o777 == 0o600
    assert "came before" in client.store("trials/000005/0000", b"x", 7)


def test_output_that_was_not_finished_goes(client: Client, tmp_path: Path) -> None:
    """Nothing of half an upload is left at the end."""
    client.store("trials/000004/0000", b"half", last=False)
    client._files.close()
    assert list((tmp_path / "trials").iterdir()) == []


def _upload(client: Client, source: Path, trial: int = 3) -> str:
    """Bring a checkpoint as an agent does; the first refusal."""
    place = f"checkpoints/{trial:06d}/{source.name}"
    entries = list_entries(source)
    refusal = client.store(place, pack(entries))
    for number, entry in enumerate(entries):
        if entry.size > 0 and not refusal:
            content = (source / entry.path).read_bytes()
            refusal = client.store(f"{place}/{number}", content)
    return refusal or client.store(f"{place}/whole", b"")


def _checkpoint(folder: Path, data: bytes, step: int, attempt: int = 0) -> Path:
    """A checkpoint of trial 3 on an agent's machine."""
    checkpoints = Checkpoints(folder, 3, attempt)
    checkpoints.save(data, step)
    return checkpoints.folder / str(checkpoints.newest())


def test_a_checkpoint_there_and_back(client: Client, tmp_path: Path) -> None:
    """What one attempt has brought the next one gets, and takes over."""
    source = _checkpoint(tmp_path / "agent", b"weights", 5)
    for _ in range(2):
        assert _upload(client, source) == ""
    size, name = client.fetch("checkpoints/000003/0002")
    assert size == len(name)
    taken = CheckpointName.parse(name.decode())
    assert taken is not None
    assert (taken.attempt, taken.number, taken.step, taken.size) == (2, 0, 5, 7)
    place = f"checkpoints/000003/{name.decode()}"
    assert client.fetch(place)[1] == b'[["data",7]]'
    assert client.fetch(f"{place}/0", 2, 3) == (7, b"igh")
    assert client.fetch(f"{place}/1") == (-1, b"")
    late = _checkpoint(tmp_path / "agent", b"late", 6)
    assert "taken over" in _upload(client, late)
    assert client.fetch("checkpoints/000003/0002")[1] == name


def test_half_a_checkpoint_is_none(client: Client, tmp_path: Path) -> None:
    """Before all is there nothing counts, and what is missing is not made up."""
    source = _checkpoint(tmp_path / "agent", b"weights", 5)
    place = f"checkpoints/000003/{source.name}"
    assert "list" in client.store(f"{place}/0", b"weights")
    assert client.store(place, pack(list_entries(source))) == ""
    assert client.store(f"{place}/0", b"weig", last=False) == ""
    assert client.fetch("checkpoints/000003/0001") == (-1, b"")
    assert "damaged" in client.store(f"{place}/whole", b"")
    assert client.fetch("checkpoints/000003/0001") == (-1, b"")
    assert list((tmp_path / "checkpoints" / "000003").iterdir()) == []


def test_a_new_upload_ends_the_one_before(client: Client, tmp_path: Path) -> None:
    """An agent that was given up cannot go on with what it had begun."""
    old = _checkpoint(tmp_path / "agent", b"older", 1)
    entries = pack(list_entries(old))
    assert client.store(f"checkpoints/000003/{old.name}", entries) == ""
    new = _checkpoint(tmp_path / "other", b"newer", 2, attempt=1)
    assert _upload(client, new) == ""
    assert "list" in client.store(f"checkpoints/000003/{old.name}/0", b"older")
    assert [path.name for path in (tmp_path / "checkpoints/000003").iterdir()] == [new.name]


def test_an_agent_that_was_given_up_ends_no_upload(client: Client, tmp_path: Path) -> None:
    """What it begins to send of an attempt that is over is refused; the later one's goes on."""
    new = _checkpoint(tmp_path / "other", b"newer", 2, attempt=1)
    assert client.store(f"checkpoints/000003/{new.name}", pack(list_entries(new))) == ""
    old = _checkpoint(tmp_path / "agent", b"older", 1)
    refusal = client.store(f"checkpoints/000003/{old.name}", pack(list_entries(old)))
    assert "later attempt" in refusal
    assert client.store(f"checkpoints/000003/{new.name}/0", b"newer") == ""
    assert client.store(f"checkpoints/000003/{new.name}/whole", b"") == ""
    assert [path.name for path in (tmp_path / "checkpoints/000003").iterdir()] == [new.name]


def test_large_checkpoints_are_refused(client: Client, tmp_path: Path) -> None:
    """The limit counts before anything is written."""
    source = _checkpoint(tmp_path / "agent", bytes(1001), 5)
    assert "1000 bytes" in _upload(client, source)
    assert not (tmp_path / "checkpoints").exists()


def test_lists_come_in_pieces(client: Client, tmp_path: Path) -> None:
    """A list may be cut anywhere, and each piece may come again."""
    source = _checkpoint(tmp_path / "agent", b"weights", 5)
    place, packed = f"checkpoints/000003/{source.name}", pack(list_entries(source))
    for _ in range(2):
        assert client.store(place, packed[:4], 0, last=False) == ""
    for _ in range(2):
        assert client.store(place, packed[4:], 4) == ""
    assert client.store(f"{place}/0", b"weights") == ""
    assert client.store(f"{place}/whole", b"") == ""
    assert client.fetch("checkpoints/000003/0000")[1].decode() == source.name


def test_trouble_of_the_disk_is_told(client: Client, tmp_path: Path) -> None:
    """A refusal says what could not be kept and why."""
    (tmp_path / "trials").touch()
    reason = client.store("trials/000001/0000", b"x")
    assert reason.startswith("trials/000001/0000 cannot be had or kept on the driver's machine")


def test_without_checkpoints_nothing_is_kept(tmp_path: Path) -> None:
    """A run whose checkpoints are shared takes none."""
    files = Files(data_fd=None, trials=tmp_path, checkpoints=None)
    fetch = Fetch(name="data", offset=0, size=1)
    assert asyncio.run(files.answer("a", fetch, None)) == (Part(size=-1), b"")
    name = f"checkpoints/000001/{CheckpointName(0, 1, 2, 3, 4)}"
    answer, _ = asyncio.run(files.answer("a", Store(name=name, offset=0, last=True), b""))
    assert isinstance(answer, Refused)
    files.close()
