"""Messages: each side accepts exactly what the other may say."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from maggy.errors import WireError
from maggy.trial import TrialError
from maggy.wire.handshake import introduce
from maggy.wire.messages import (
    Failed,
    Finished,
    Heartbeat,
    Hello,
    Logged,
    Part,
    Quit,
    Ready,
    Run,
    Setup,
    Stop,
    decode_from_agent,
    decode_from_files,
    decode_from_worker,
    decode_to_agent,
    decode_to_files,
    decode_to_worker,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.trial import Value


def _report(**changes: Any) -> bytes:
    body = {"t": "Report", "trial": 1, "attempt": 0, "points": [[0, 0.5, None]], **changes}
    return json.dumps(body).encode()


def test_wire_form() -> None:
    """A message is compact JSON with its kind under `t`."""
    assert encode(Ready()) == b'{"t":"Ready"}'
    assert encode(Stop(trial=3, attempt=1, reason="worse")) == (
        b'{"t":"Stop","trial":3,"attempt":1,"reason":"worse"}'
    )


def test_tuples_in_hyperparameters_survive() -> None:
    """Tuples, which JSON does not know, come back as such; bool, int and float keep apart."""
    hparams: dict[str, Value] = {
        "layers": (64, (32, "relu")),
        "flag": True,
        "one": 1,
        "float": 1.0,
        "none": None,
    }
    run = Run(trial=0, attempt=0, hparams=hparams, budget=3, seed=7)
    back = decode_to_worker(encode(run))
    assert isinstance(back, Run)
    assert back == run
    assert [type(value) for value in back.hparams.values()] == [
        tuple,
        bool,
        int,
        float,
        type(None),
    ]


def test_whole_budget_stays_whole() -> None:
    """An int budget comes back as int, a float one as float."""
    for budget in (3, 3.5, None):
        message = Run(trial=0, attempt=0, hparams={}, budget=budget, seed=0)
        back = decode_to_worker(encode(message))
        assert isinstance(back, Run)
        assert type(back.budget) is type(budget)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_only_finite_numbers_leave(value: float) -> None:
    """A number that is not finite is refused by the sender, wherever it hides."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(Finished(trial=0, attempt=0, value=value, info=None))
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(Finished(trial=0, attempt=0, value=0.0, info={"x": [value]}))


def test_what_is_no_json_does_not_leave() -> None:
    """An object that JSON cannot hold is a ValueError that names the message."""
    info: Any = {"model": object()}
    with pytest.raises(ValueError, match="Finished cannot be written as JSON"):
        encode(Finished(trial=0, attempt=0, value=0.0, info=info))


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is no message"),
        (b"{", "is no message"),
        (b"\xff\xfe", "is no message"),
        ('{"t":"Ready"}'.encode("utf-16"), "is no message"),
        (b"[]", "JSON object"),
        (b'"Ready"', "JSON object"),
        (b"{}", "kind `t`"),
        (b'{"t":1}', "kind `t`"),
        (b'{"t":"Nope"}', "must be one of Hello, Ready"),
        (b'{"t":"Quit"}', "must be one of Hello, Ready"),
        (b'{"t":"Ready","x":1}', "Ready must have"),
        (b'{"t":"Stopped","trial":1}', "Stopped must have"),
        (b"[" * 100_000, "is no message"),
        (b'{"t":' * 100_000, "is no message"),
        (b"9" * 5000, "is no message"),
        (pickle.dumps({"t": "Ready"}), "is no message"),
    ],
)
def test_not_a_message(data: bytes, match: str) -> None:
    """What has not the shape of a worker's message is a WireError that says why."""
    with pytest.raises(WireError, match=match):
        decode_from_worker(data)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"trial": "1"}, "`trial` must be a whole number"),
        ({"trial": True}, "`trial` must be a whole number"),
        ({"trial": 1.0}, "`trial` must be a whole number"),
        ({"trial": -1}, "`trial` must be at least 0"),
        ({"attempt": 2**63}, "`attempt` must be a whole number of at most 64 bits"),
        ({"points": {}}, "a list of points"),
        ({"points": [[0, 0.5]]}, "step, value, others"),
        ({"points": [["0", 0.5, None]]}, "`step` must be"),
        ({"points": [[2**70, 0.5, None]]}, "`step` must be"),
        ({"points": [[0, None, None]]}, "`value` must be a finite number"),
        ({"points": [[0, True, None]]}, "`value` must be a finite number"),
        ({"points": [[0, 10**400, None]]}, "`value` must be a finite number"),
        ({"points": [[0, 0.5, {"loss": "low"}]]}, "`loss` must be a finite number"),
        ({"points": [[0, 0.5, [1]]]}, "`points` must be an object"),
    ],
)
def test_wrong_fields(changes: dict[str, Any], match: str) -> None:
    """Each field is checked, and the error names the field."""
    with pytest.raises(WireError, match=match):
        decode_from_worker(_report(**changes))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_only_finite_numbers_arrive(number: str) -> None:
    """A number that is not finite is refused in free JSON, too."""
    text = f'{{"t":"Finished","trial":0,"attempt":0,"value":0,"info":{{"x":{number}}}}}'
    with pytest.raises(WireError, match="no finite number"):
        decode_from_worker(text.encode())


def test_depth() -> None:
    """Free JSON is refused where it is nested too deep to be safely written again."""
    info: Any = 1
    for _ in range(60):
        info = [info]
    data = encode(Finished(trial=0, attempt=0, value=0.0, info={"x": info}))
    assert isinstance(decode_from_worker(data), Finished)
    for _ in range(10):
        info = [info]
    data = encode(Finished(trial=0, attempt=0, value=0.0, info={"x": info}))
    with pytest.raises(WireError, match="nested at most 64 deep"):
        decode_from_worker(data)


@pytest.mark.parametrize(
    ("decode", "data", "match"),
    [
        (decode_to_files, b'{"t":"Part","size":-2}', "`size` must be at least 0"),
        (decode_to_files, b'{"t":"Part","size":-1.0}', "`size` must be a whole number"),
        (decode_to_files, b'{"t":"Refused","reason":"","again":0}', "`again` must be true or"),
        (decode_from_files, b'{"t":"Fetch","name":"x","offset":0,"size":-1}', "at least 0"),
        (decode_from_agent, b'{"t":"Heartbeat"}', "must be one of Hello"),
        (decode_from_agent, b'{"t":"Ack","received":-1}', "`received` must be at least 0"),
        (decode_to_agent, b'{"t":"Hire","worker":1}', "`worker` must be text"),
    ],
)
def test_other_roles(decode: Callable[[bytes], object], data: bytes, match: str) -> None:
    """Messages of agents, and those about files, are checked like a worker's."""
    with pytest.raises(WireError, match=match):
        decode(data)


def test_no_such_file() -> None:
    """The size of a file that does not exist is -1, there and nowhere else."""
    assert decode_to_files(encode(Part(size=-1))) == Part(size=-1)


@pytest.mark.parametrize("role", ["driver", "", None, ["worker"]])
def test_unknown_role(role: Any) -> None:
    """A connection is for one of three things."""
    body = json.loads(encode(introduce("w0")))
    with pytest.raises(WireError, match="`role` must be one of worker, agent, files"):
        decode_from_worker(json.dumps({**body, "role": role}).encode())


def test_half_a_surrogate_pair() -> None:
    """Text that no file could hold is repaired on arrival; other text is untouched."""
    message = decode_from_worker(encode(Logged(trial=0, attempt=0, text="a\udc80b \U0001f600 é")))
    assert message == Logged(trial=0, attempt=0, text="a?b \U0001f600 é")


def test_incomplete_error() -> None:
    """An error without all of its texts is refused."""
    error = TrialError(type="ValueError", message="no", traceback="t", output="o")
    good = encode(Failed(trial=0, attempt=0, error=error))
    assert decode_from_worker(good) == Failed(trial=0, attempt=0, error=error)
    body = json.loads(good)
    del body["error"]["output"]
    with pytest.raises(WireError, match="a complete error"):
        decode_from_worker(json.dumps(body).encode())
    body["error"] = {"type": 1}
    with pytest.raises(WireError, match="`type` must be text"):
        decode_from_worker(json.dumps(body).encode())


def test_each_side_has_its_own_words() -> None:
    """A worker's message is none for a worker, and a driver's none for a driver."""
    with pytest.raises(WireError):
        decode_to_worker(encode(Heartbeat()))
    with pytest.raises(WireError):
        decode_from_worker(encode(Quit()))


def test_setup_is_checked() -> None:
    """A driver's message is checked like a worker's."""
    setup = Setup(sys_path=["/a"], cwd="/", log_dir="/l", hb_interval=1.0, plan={"names": ["x"]})
    assert decode_to_worker(encode(setup)) == setup
    body = json.loads(encode(setup))
    with pytest.raises(WireError, match="`sys_path` must be a list of texts"):
        decode_to_worker(json.dumps({**body, "sys_path": [1]}).encode())
    with pytest.raises(WireError, match="`plan` must be an object"):
        decode_to_worker(json.dumps({**body, "plan": None}).encode())


def test_long_values_are_cut_in_errors() -> None:
    """An error about a long value stays short, and a wild value cannot break it."""
    hello = Hello(worker="w", pid=1, host="h", python="3.11.1", version="2", protocol=1)
    body = json.loads(encode(hello))
    for value in (["x" * 10_000] * 100, json.loads("[" * 500 + "]" * 500)):
        with pytest.raises(WireError) as caught:
            decode_from_worker(json.dumps({**body, "worker": value}).encode())
        assert len(str(caught.value)) < 500
