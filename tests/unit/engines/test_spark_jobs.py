"""Jobs are kept running, whatever happens to them, until the run ends or that is hopeless."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from maggy.engines import spark_jobs
from maggy.engines.launcher import Invitation
from maggy.engines.spark_jobs import JobKeeper, slot_name
from maggy.wire.token import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

INVITATION = Invitation(host="127.0.0.1", port=1, token=Token.new(), hb_interval=1.0)
LIMIT = 20.0

PYTHON = "Traceback (most recent call last):\n  File ...\nImportError: No module named 'x'\n"


class Killed(Exception):
    """As py4j tells of a job whose Python processes are gone."""

    java_exception: Any

    def __init__(self) -> None:
        super().__init__("Python worker exited unexpectedly (crashed)")
        self.java_exception = None


class Fake:
    """A cluster whose jobs end as ``ends`` says: an exception, None, or not before ``cancel``."""

    def __init__(self, ends: Callable[[int], BaseException | str | None]) -> None:
        self.ends = ends
        self.lock = threading.Lock()
        self.submitted: list[tuple[int, ...]] = []
        self.cancelled = threading.Event()
        self.changed = threading.Condition(self.lock)
        self.inside = 0

    def slots(self) -> int:
        return 2

    def hosts(self) -> tuple[str, str]:
        return "127.0.0.1", "127.0.0.1"

    def where(self) -> str:
        return "nowhere"

    def submit(self, invitation: Invitation, slots: Sequence[int]) -> None:
        assert invitation is INVITATION
        with self.changed:
            number = len(self.submitted)
            self.submitted.append(tuple(slots))
            self.changed.notify_all()
        end = self.ends(number)
        if isinstance(end, BaseException):
            raise end
        if end == "stays":
            self.cancelled.wait(LIMIT)

    def cancel(self) -> None:
        self.cancelled.set()

    def inheriting(self) -> Callable[[Callable[[], None]], None]:
        def inside(call: Callable[[], None]) -> None:
            with self.lock:
                self.inside += 1
            call()

        return inside

    def wait_for(self, jobs: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.submitted) >= jobs, LIMIT)


class Desk:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.gone: list[tuple[str, str]] = []
        self.reasons: list[str] = []
        self.over = threading.Event()

    def vanished(self, slot: str, reason: str) -> None:
        self.gone.append((slot, reason))

    def hopeless(self, reason: str, output: str = "") -> None:
        self.reasons.append(reason)
        self.over.set()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody waits for long here, and no thread is left."""
    monkeypatch.setattr(spark_jobs, "_BACK_OFF", 0.001)
    monkeypatch.setattr(spark_jobs, "_LONGEST_BACK_OFF", 0.002)
    monkeypatch.setattr(spark_jobs, "_GRACE", 0.01)
    yield
    assert not [t for t in threading.enumerate() if t.name.startswith("maggy-spark")]


def until(event: threading.Event) -> None:
    """End in good order once this has happened."""
    assert event.wait(LIMIT)


def keep(cluster: Fake, count: int = 2) -> tuple[JobKeeper, Desk]:
    """A keeper at work."""
    keeper, desk = JobKeeper(cluster, cluster.inheriting()), Desk()
    keeper.start(INVITATION, desk, count)
    return keeper, desk


def test_each_agent_is_a_job_of_its_own() -> None:
    """On a thread of its own, with the settings of the one that called."""
    cluster = Fake(lambda _: "stays")
    keeper, desk = keep(cluster, 3)
    cluster.wait_for(3)
    keeper.close()
    assert sorted(cluster.submitted) == [(0,), (1,), (2,)]
    assert cluster.inside == 4
    assert (desk.gone, desk.reasons) == ([], [])


def test_many_agents_share_a_hundred_jobs() -> None:
    """Every slot is in one of them."""
    cluster = Fake(lambda _: "stays")
    keeper, _ = keep(cluster, 1001)
    cluster.wait_for(91)
    keeper.close()
    assert len(cluster.submitted) <= 100
    assert sorted(slot for slots in cluster.submitted for slot in slots) == list(range(1001))


def test_a_job_that_ends_is_submitted_again_after_its_agents_are_reported() -> None:
    """Whether it failed or came to its end; nobody else is touched."""
    cluster = Fake(lambda number: [None, Killed(), "stays"][min(number, 2)])
    keeper, desk = keep(cluster, 1)
    cluster.wait_for(3)
    keeper.close()
    assert [slot for slot, _ in desk.gone] == [slot_name(0)] * 2
    assert desk.gone[0][1] == "its Spark job ended"
    assert "exited unexpectedly" in desk.gone[1][1]
    assert desk.reasons == []


def test_errors_in_a_row_end_the_run_with_the_last_one() -> None:
    """Again and again, and jobs go on until ``close``: whether it ends is not for us to decide."""
    cluster = Fake(lambda _: RuntimeError(PYTHON))
    keeper, desk = keep(cluster)
    assert desk.over.wait(LIMIT)
    cluster.wait_for(9)
    keeper.close()
    assert len(desk.reasons) >= 2
    assert set(desk.reasons) == {
        "Spark could not run any agent: ImportError: No module named 'x'."
    }


def test_kills_are_borne_longer_than_errors() -> None:
    """A machine that loses processes is no reason to give up."""
    cluster = Fake(lambda number: Killed() if number < 15 else "stays")
    keeper, desk = keep(cluster, 1)
    cluster.wait_for(16)
    keeper.close()
    assert (len(desk.gone), desk.reasons) == (15, [])
    cluster = Fake(lambda _: Killed())
    keeper, desk = keep(cluster, 1)
    assert desk.over.wait(LIMIT)
    keeper.close()
    assert len(desk.reasons) >= 1


def test_a_job_that_lasted_is_no_failure_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had an agent that worked."""
    monkeypatch.setattr(spark_jobs, "_SOON", 0.0)
    cluster = Fake(lambda number: RuntimeError(PYTHON) if number < 9 else "stays")
    keeper, desk = keep(cluster, 1)
    cluster.wait_for(10)
    keeper.close()
    assert desk.reasons == []


def test_agents_that_leave_need_no_cancelling(monkeypatch: pytest.MonkeyPatch) -> None:
    """And their ends are no news any more."""
    monkeypatch.setattr(spark_jobs, "_GRACE", LIMIT)
    leave = threading.Event()
    cluster = Fake(lambda _: until(leave))
    keeper, desk = keep(cluster)
    cluster.wait_for(2)
    closing = threading.Thread(target=keeper.close)
    closing.start()
    assert keeper._closing.wait(LIMIT)
    leave.set()
    closing.join(LIMIT)
    assert not cluster.cancelled.is_set()
    assert desk.gone == []


def test_close_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cluster that neither cancels nor answers is left behind with a warning."""
    monkeypatch.setattr(spark_jobs, "_PATIENCE", 0.05)
    release = threading.Event()
    cluster = Fake(lambda _: until(release))

    def refuse() -> None:
        msg = "the session is gone"
        raise ConnectionError(msg)

    monkeypatch.setattr(cluster, "cancel", refuse)
    keeper, _ = keep(cluster, 1)
    cluster.wait_for(1)
    keeper.close()
    assert "have not ended" in caplog.text
    release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("maggy-spark"):
            thread.join(LIMIT)


def test_what_was_never_started_can_be_closed() -> None:
    """When the run ends before agents were asked for."""
    cluster = Fake(lambda _: "stays")
    JobKeeper(cluster, cluster.inheriting()).close()
    assert cluster.submitted == []
