"""What if: ``maggy whatif`` judges a run again, ``maggy simulate`` runs its trainings again."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from maggy.cli.options import FOLDER, JSON, RUN, Taught
from maggy.earlystop import POLICY_NAMES, resolve_policy
from maggy.store.folder import open_run
from maggy.store.sqlite import SqliteLog
from maggy.views.whatif import sentences, what_if
from maggy.views.wording import count, number, seconds

if TYPE_CHECKING:
    from maggy.core.summary import Summary

__all__ = ["simulate", "whatif"]

_POLICY = click.option(
    "--es-policy",
    type=click.Choice(POLICY_NAMES),
    default="median",
    show_default=True,
    help="The rule that stops trials.",
)
_ES_MIN = click.option(
    "--es-min", default=10, show_default=True, help="Completed trials before anything is stopped."
)


@click.command(cls=Taught, examples=["maggy whatif digits --es-policy curve"])
@RUN
@FOLDER
@JSON
@_POLICY
@_ES_MIN
@click.option("--es-interval", default=1, show_default=True, help="Reports between two looks.")
@click.option("--all", "every", is_flag=True, help="List every stop with its reason.")
def whatif(
    run: str,
    folder: str,
    *,
    as_json: bool,
    es_policy: str,
    es_min: int,
    es_interval: int,
    every: bool,
) -> None:
    """Tell what another stopping rule would have saved in a run, and what it would have lost.

    The run's own order of events is kept.  Most telling for a run without early stopping: how a
    stopped trial would have gone on nobody knows.
    """
    policy = resolve_policy(es_policy, es_min=es_min)
    with SqliteLog.open(open_run(run, folder=folder).database) as log:
        told = what_if(log.read(), policy, es_min=es_min, es_interval=es_interval)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(told)))
        return
    click.echo("\n".join(sentences(told)))
    for stop in told.stopped if every else ():
        click.echo(f"  trial {stop.trial}: {stop.reason}")


@click.command(
    cls=Taught,
    examples=[
        "maggy simulate digits --workers 64",
        "maggy simulate digits --workers 64 --optimizer asha --trials 500",
    ],
)
@RUN
@FOLDER
@JSON
@click.option("--workers", type=click.IntRange(min=1), required=True, help="Trials at a time.")
@click.option("--optimizer", help="Proposes configurations; left out: those of the run.")
@click.option("--trials", type=click.IntRange(min=1), help="Configurations to try.")
@click.option(
    "--es-policy",
    type=click.Choice(POLICY_NAMES),
    default="none",
    show_default=True,
    help="The rule that stops trials.",
)
@_ES_MIN
@click.option("--seed", default=0, show_default=True, help="Of the simulated search.")
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
    """Simulate another search over the trainings of a run, in virtual time.

    A configuration that another optimizer proposes trains like the nearest one of the run, so the
    best value cannot be better than the run's own: compare times.
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
    outcome = _outcome(done.summary)
    if as_json:
        click.echo(json.dumps(outcome | {"workers": workers, "made_up_ends": recorded.continued}))
        return
    best = "nothing completed" if outcome["best_val"] is None else number(outcome["best_val"])
    click.echo(
        f"{count(outcome['num_trials'], 'trial')} on {count(workers, 'worker')} take "
        f"{seconds(outcome['duration'])}; {outcome['early_stopped']} stopped early; best {best}."
    )
    click.echo(f"The workers are busy {outcome['utilisation']:.0%} of the time.")
    if recorded.continued:
        click.echo(
            f"The run had stopped {count(recorded.continued, 'trial')}: their ends are made up."
        )


def _outcome(summary: Summary) -> dict[str, Any]:
    """The numbers of a simulated search."""
    from maggy.views.result import Result

    result = Result(summary)
    wanted = ("num_trials", "early_stopped", "failed", "duration", "best_val", "best_hp")
    spent, running = summary.crew.seconds(summary.now)
    there = max(1, summary.crew.here) * summary.now
    return {name: result[name] for name in wanted} | {
        "utilisation": (spent + running) / there if there else 0.0
    }
