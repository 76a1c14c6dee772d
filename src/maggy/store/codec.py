"""Events as rows of the log and back: typed columns for what is queried, JSON for the rest.

A row is ``(at, kind, trial, attempt, step, value, worker, status, text, body)``.  ``kind`` is the
event's class name, ``text`` a sentence for people, ``body`` a JSON object.  A number that is not
finite is never stored as a number: in a column its place is empty and ``status`` says ``nan``,
``inf`` or ``-inf``; inside JSON it is ``{"$float": "nan"}``.  Zero has no sign.
"""

from __future__ import annotations

import json
import math
import zlib
from typing import TYPE_CHECKING, Any, TypeAlias

from maggy.errors import RunError
from maggy.events import (
    CancelRequested,
    CheckpointSaved,
    EngineFailed,
    ExperimentFinished,
    ExperimentStarted,
    LogWritten,
    MetricReported,
    OptimizerFailed,
    SearchExhausted,
    StopDecided,
    Suggested,
    Tick,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    TrialStopped,
    WaitSuggested,
    WorkerJoined,
    WorkerLost,
)
from maggy.trial import TrialError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from maggy.events import Event
    from maggy.trial import Value

__all__ = ["Row", "checksum", "decode", "encode"]

Row: TypeAlias = (
    "tuple[float, str, int | None, int | None, int | None, float | None, str | None, str | None,"
    " str | None, str | None]"
)

_MARK = "$float"
_to_json = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


def checksum(seq: int, row: Row) -> int:
    """The CRC-32 of event number ``seq``; the same under every version of Python."""
    return zlib.crc32(ascii((seq, *row)).encode("ascii"))


def encode(event: Event) -> Row:
    """The row of an event.

    Raises:
        RunError: The event holds something that JSON has no words for.
    """
    kind = type(event)
    try:
        columns = _ENCODERS[kind](event)
        return (event.at + 0.0, kind.__name__, *columns)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        msg = f"{kind.__name__} cannot be written to the event log: {error}. Given: {event!r:.300}"
        raise RunError(msg) from error


def decode(row: Row, written_by: Callable[[], str] = lambda: "(unknown)") -> Event:
    """The event of a row.

    Args:
        row: What ``encode`` made of it.
        written_by: Looks up the version of maggy that wrote the log, for the error message.

    Raises:
        RunError: The row is of a kind that only another version of maggy knows.
    """
    decoder = _DECODERS.get(row[1])
    if decoder is None:
        from importlib.metadata import version  # slow to load, rarely needed

        msg = (
            f"the event log holds a {row[1]!r}, which maggy {version('maggy')} does not know; "
            f"it was written by maggy {written_by()}. Open it with that version or a newer one."
        )
        raise RunError(msg)
    event: Event = decoder(row)
    return event


# Parts of rows

_Columns: TypeAlias = (
    "tuple[int | None, int | None, int | None, float | None, str | None, str | None,"
    " str | None, str | None]"
)


def _number(value: float) -> tuple[float | None, str | None]:
    """The columns ``value`` and ``status`` for a number."""
    number = float(value)
    return (number + 0.0, None) if math.isfinite(number) else (None, str(number))


def _json(value: object) -> str:
    try:
        text = _to_json(value)
    except ValueError:  # a number that is not finite
        text = _to_json(_mark(value))
    else:
        if _MARK in text:
            text = _to_json(_mark(value))
    return _text(text)


def _text(text: str) -> str:
    """Text that UTF-8 can hold: lone surrogates, which come from undecodable output, go."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _mark(value: Any) -> Any:
    """The same JSON with ``$float`` objects for numbers that are not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return {_MARK: str(value)}
    if isinstance(value, (list, tuple)):
        return [_mark(item) for item in value]
    if isinstance(value, dict):
        marked = {key: _mark(item) for key, item in value.items()}
        return {_MARK: marked} if _MARK in marked else marked
    return value


def _unmark(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmark(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = value.get(_MARK)
    if isinstance(inner, str) and len(value) == 1:
        return float(inner)
    if isinstance(inner, dict) and len(value) == 1:
        value = inner
    return {key: _unmark(item) for key, item in value.items()}


def _from_json(text: str | None) -> Any:
    value = None if text is None else json.loads(text)
    return _unmark(value) if text is not None and _MARK in text else value


def _error_to_json(error: TrialError) -> str:
    return _json(
        {name: getattr(error, name) for name in ("type", "message", "traceback", "output")}
    )


def _error(text: str | None) -> TrialError:
    return TrialError(**_from_json(text))


def _hparams(value: Mapping[str, Any]) -> dict[str, Value]:
    return {name: _from_lists(item) for name, item in value.items()}


def _from_lists(value: Any) -> Value:
    return tuple(_from_lists(item) for item in value) if isinstance(value, list) else value


# One pair of functions for each kind

_NOTHING = (None,) * 8


def _encode_started(event: ExperimentStarted) -> _Columns:
    return None, None, None, None, None, None, None, _json(dict(event.config))


def _encode_joined(event: WorkerJoined) -> _Columns:
    status = "once" if event.once else None
    return None, None, None, None, event.worker, status, None, None


def _encode_lost(event: WorkerLost) -> _Columns:
    return None, None, None, None, event.worker, None, _text(event.reason), None


def _encode_suggested(event: Suggested) -> _Columns:
    body = {"hparams": dict(event.hparams), "budget": event.budget, "state": event.state}
    return event.trial, None, None, None, None, "pending", None, _json(body)


def _encode_metric(event: MetricReported) -> _Columns:
    value, status = _number(event.value)
    body = None if event.others is None else _json(dict(event.others))
    return event.trial, event.attempt, event.step, value, None, status, None, body


def _decode_metric(row: Row) -> MetricReported:
    value = row[5]
    return MetricReported(
        at=row[0],
        trial=_int(row[2]),
        attempt=_int(row[3]),
        step=_int(row[4]),
        value=float(str(row[7])) if value is None else value,
        others=None if row[9] is None else _from_json(row[9]),
    )


def _encode_log(event: LogWritten) -> _Columns:
    return event.trial, event.attempt, None, None, None, None, _text(event.text), None


def _encode_checkpoint(event: CheckpointSaved) -> _Columns:
    body = _json({"size": event.size})
    return event.trial, event.attempt, event.step, None, None, None, None, body


def _encode_finished(event: TrialFinished) -> _Columns:
    value, status = _number(event.value)
    body = None if event.info is None else _json(dict(event.info))
    status = status or "completed"
    return event.trial, event.attempt, None, value, None, status, None, body


def _decode_finished(row: Row) -> TrialFinished:
    value = row[5]
    return TrialFinished(
        at=row[0],
        trial=_int(row[2]),
        attempt=_int(row[3]),
        value=float(str(row[7])) if value is None else value,
        info=None if row[9] is None else _from_json(row[9]),
    )


def _encode_failed(event: TrialFailed) -> _Columns:
    error = event.error
    text, body = _text(str(error)), _error_to_json(error)
    return event.trial, event.attempt, None, None, None, "failed", text, body


def _encode_broken(event: OptimizerFailed | EngineFailed) -> _Columns:
    error = event.error
    return None, None, None, None, None, None, _text(str(error)), _error_to_json(error)


def _encode_stopped(event: TrialStopped) -> _Columns:
    return event.trial, event.attempt, None, None, None, "stopped", None, None


def _encode_cancel(event: CancelRequested) -> _Columns:
    return None, None, None, None, None, None, None, _json({"grace": event.grace})


def _encode_trial_started(event: TrialStarted) -> _Columns:
    return event.trial, event.attempt, None, None, event.worker, "running", None, None


def _encode_stop(event: StopDecided) -> _Columns:
    body = None if event.threshold is None else _json({"threshold": event.threshold})
    final, text = None if event.final is None else event.final + 0.0, _text(event.reason)
    return event.trial, event.attempt, None, final, None, "stopping", text, body


def _decode_stop(row: Row) -> StopDecided:
    threshold = None if row[9] is None else _from_json(row[9])["threshold"]
    return StopDecided(
        at=row[0],
        trial=_int(row[2]),
        attempt=_int(row[3]),
        reason=str(row[8]),
        threshold=threshold,
        final=row[5],
    )


def _encode_end(event: ExperimentFinished) -> _Columns:
    return None, None, None, None, None, event.outcome, _text(event.reason), None


def _encode_exhausted(event: SearchExhausted) -> _Columns:
    return None, None, None, None, None, None, _text(event.reason), None


def _int(value: int | None) -> int:
    assert value is not None, "a checked row has the columns of its kind"
    return value


_ENCODERS: dict[type[Any], Callable[[Any], _Columns]] = {
    ExperimentStarted: _encode_started,
    WorkerJoined: _encode_joined,
    WorkerLost: _encode_lost,
    Suggested: _encode_suggested,
    WaitSuggested: lambda _: _NOTHING,
    SearchExhausted: _encode_exhausted,
    OptimizerFailed: _encode_broken,
    EngineFailed: _encode_broken,
    MetricReported: _encode_metric,
    LogWritten: _encode_log,
    CheckpointSaved: _encode_checkpoint,
    TrialFinished: _encode_finished,
    TrialFailed: _encode_failed,
    TrialStopped: _encode_stopped,
    CancelRequested: _encode_cancel,
    Tick: lambda _: _NOTHING,
    TrialStarted: _encode_trial_started,
    StopDecided: _encode_stop,
    ExperimentFinished: _encode_end,
}

_DECODERS: dict[str, Callable[[Row], Event]] = {
    "ExperimentStarted": lambda r: ExperimentStarted(at=r[0], config=_from_json(r[9])),
    "WorkerJoined": lambda r: WorkerJoined(at=r[0], worker=str(r[6]), once=r[7] == "once"),
    "WorkerLost": lambda r: WorkerLost(at=r[0], worker=str(r[6]), reason=str(r[8])),
    "Suggested": lambda r: _suggested(r, _from_json(r[9])),
    "WaitSuggested": lambda r: WaitSuggested(at=r[0]),
    "SearchExhausted": lambda r: SearchExhausted(at=r[0], reason=str(r[8])),
    "OptimizerFailed": lambda r: OptimizerFailed(at=r[0], error=_error(r[9])),
    "EngineFailed": lambda r: EngineFailed(at=r[0], error=_error(r[9])),
    "MetricReported": _decode_metric,
    "LogWritten": lambda r: LogWritten(
        at=r[0], trial=_int(r[2]), attempt=_int(r[3]), text=str(r[8])
    ),
    "CheckpointSaved": lambda r: CheckpointSaved(
        at=r[0],
        trial=_int(r[2]),
        attempt=_int(r[3]),
        step=_int(r[4]),
        size=_from_json(r[9])["size"],
    ),
    "TrialFinished": _decode_finished,
    "TrialFailed": lambda r: TrialFailed(
        at=r[0], trial=_int(r[2]), attempt=_int(r[3]), error=_error(r[9])
    ),
    "TrialStopped": lambda r: TrialStopped(at=r[0], trial=_int(r[2]), attempt=_int(r[3])),
    "CancelRequested": lambda r: CancelRequested(at=r[0], grace=_from_json(r[9])["grace"]),
    "Tick": lambda r: Tick(at=r[0]),
    "TrialStarted": lambda r: TrialStarted(
        at=r[0], trial=_int(r[2]), attempt=_int(r[3]), worker=str(r[6])
    ),
    "StopDecided": _decode_stop,
    "ExperimentFinished": lambda r: ExperimentFinished(
        at=r[0], outcome=str(r[7]), reason=str(r[8])
    ),
}


def _suggested(row: Row, body: Mapping[str, Any]) -> Suggested:
    return Suggested(
        at=row[0],
        trial=_int(row[2]),
        hparams=_hparams(body["hparams"]),
        budget=body["budget"],
        state=body["state"],
    )
