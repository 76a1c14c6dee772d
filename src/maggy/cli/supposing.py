"""What would have been: ``maggy whatif`` and ``maggy simulate``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from maggy.cli.options import FOLDER, JSON, RUN, Taught
from maggy.store.folder import open_run
from maggy.store.sqlite import SqliteLog
from maggy.trial import TrialStatus
from maggy.views.wording import configuration, count, number, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.engines.rerun import RecordedRun
    from maggy.engines.simulator import Simulated

__all__ = ["simulate", "whatif"]

_ES_POLICY = "A stopping rule, such as median, percentile, patience, threshold, curve or none."
_ES_MIN = "Trials that must have completed before anything is stopped."


@click.command(
    cls=Taught,
    short_help="Tell what a stopping rule would have saved.",
    examples=["maggy whatif digits --es-policy curve", "maggy whatif 1f2e --es-policy median"],
)
@RUN
@FOLDER
@JSON
@click.option("--es-policy", required=True, metavar="NAME", help=_ES_POLICY)
@click.option("--es-min", default=10, show_default=True, type=click.IntRange(0), help=_ES_MIN)
@click.option(
    "--es-interval",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="The rule looks at a trial after every so many reports.",
)
def whatif(
    run: str, folder: str, *, as_json: bool, es_policy: str, es_min: int, es_interval: int
) -> None:
    """Tell what a stopping rule would have saved in a run, and what it would have lost."""
    from maggy.earlystop import resolve_policy
    from maggy.views.whatif import sentences, what_if

    policy = resolve_policy(es_policy, es_min=es_min)
    with SqliteLog.open(open_run(run, folder=folder).database) as log:
        told = what_if(log.read(), policy, es_min=es_min, es_interval=es_interval)
    if as_json:
        facts = {
            **asdict(told),
            "reports_saved": told.reports_saved,
            "seconds_saved": told.seconds_saved,
            "regret": told.regret,
        }
        click.echo(json.dumps(facts))
    else:
        click.echo("\n".join(sentences(told)))


@click.command(
    cls=Taught,
    short_help="Run a run's trainings again in virtual time.",
    examples=[
        "maggy simulate digits --workers 64",
        "maggy simulate digits --workers 8 --optimizer asha --es-policy none",
    ],
)
@RUN
@FOLDER
@JSON
@click.option("--workers", required=True, type=click.IntRange(1), help="Trials at a time.")
@click.option(
    "--optimizer", metavar="NAME", help="Another optimizer; else the run's trials, in its order."
)
@click.option("--trials", type=click.IntRange(1), help="How many; else as many as the run has.")
@click.option("--es-policy", default="none", show_default=True, metavar="NAME", help=_ES_POLICY)
@click.option("--es-min", default=10, show_default=True, type=click.IntRange(0), help=_ES_MIN)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
def simulate(
    run: str,
    folder: str,
    *,
    as_json: bool,
    workers: int,
    optimizer: str | None,
    trials: int | None,
    es_policy: str,
    es_min: int,
    seed: int,
) -> None:
    """Run a run's trainings again in virtual time, on other workers or with another search.

    With --optimizer, a configuration trains like the nearest one of the run, so the best value
    cannot be better than the run's own: compare the times.
    """
    from maggy.engines.rerun import record_run, simulate_run

    with SqliteLog.open(open_run(run, folder=folder).database) as log:
        recorded = record_run(log.read())
    done = simulate_run(
        recorded,
        workers=workers,
        optimizer=optimizer,
        num_trials=trials,
        es_policy=es_policy,
        es_min=es_min,
        seed=seed,
    )
    click.echo(json.dumps(_facts(done)) if as_json else "\n".join(_lines(done, recorded, workers)))


def _facts(done: Simulated) -> dict[str, object]:
    best = done.summary.standing.best
    return {
        "seconds": done.seconds,
        "num_trials": done.summary.started,
        "early_stopped": done.summary.counts[TrialStatus.STOPPED],
        "failed": done.summary.counts[TrialStatus.FAILED],
        "utilisation": done.summary.crew.utilisation,
        "best_val": None if best is None else best[1],
        "best_hp": None if best is None else dict(done.summary.trials[best[0]].hparams),
    }


def _lines(done: Simulated, recorded: RecordedRun, workers: int) -> Sequence[str]:
    summary = done.summary
    stopped = summary.counts[TrialStatus.STOPPED]
    lines = [
        f"{count(workers, 'worker')}: {seconds(done.seconds)} for "
        f"{count(summary.started, 'trial')}, {stopped:,} of them stopped early."
    ]
    if summary.standing.best is not None:
        trial, value = summary.standing.best
        lines.append(f"Best: {number(value)}  {configuration(summary.trials[trial].hparams)}")
    if summary.crew.utilisation is not None:
        lines.append(f"Workers busy {summary.crew.utilisation:.1%} of the time.")
    if recorded.continued:
        made_up = count(recorded.continued, "trial")
        lines.append(
            f"The run had stopped {made_up} early; here they go on with their last value."
        )
    return lines
