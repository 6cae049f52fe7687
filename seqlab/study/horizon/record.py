"""``horizon.json``: what a search found, written anew after every decision."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.study.cause import Cause, Signs, explain, signs
from seqlab.study.horizon.intervention import intervention
from seqlab.study.horizon.runs import Trial
from seqlab.training.runfolder import read_json, write_json

if TYPE_CHECKING:
    from seqlab.study.horizon.conduct import Conductor, Line

FILE = "horizon.json"
SCHEMA = 1


def write(conductor: "Conductor") -> None:
    """Write what is known now; atomically, so that a search that is killed leaves its last decision."""
    monitors = {trial.results["monitor"] for line in conductor.lines for trial in line.trials if trial.results}
    record = {
        "schema": SCHEMA,
        "command": conductor.command,
        "settings": conductor.settings.record(),
        "metric": ", ".join(sorted(monitors)),
        "runs": conductor.runs,
        "grid_runs": conductor.grid_runs,
        "finished": conductor.finished,
        "rows": [_row(line, conductor) for line in conductor.lines],
    }
    write_json(conductor.folder / FILE, record)


def read(folder: Path) -> dict[str, Any]:
    """Read it.

    Raises:
        UserError: it is missing or damaged.
    """
    return read_json(folder / FILE)


def _row(line: "Line", conductor: "Conductor") -> dict[str, Any]:
    found, row = line.finding, line.row
    usual = [trial for trial in line.trials if trial.batch.budget == 1]
    done = [trial for trial in line.trials if trial.results]
    cost = done[0].results["cost"] if done else {}
    cause, because = _explained(line, conductor)
    proposed = intervention(row, cause, found, conductor)
    return {
        "label": row.label,
        "words": [*row.words, *row.sized],
        "task": row.task,
        "task_words": list(row.task_words),
        "horizon": found.horizon,
        "lower": found.lower,
        "upper": found.upper,
        "budget_limited": found.budget_limited,
        "learning_rate": found.rate,
        "parameters": cost.get("parameters"),
        "hidden_size": row.hidden_size,
        "state_size": cost.get("state_size"),
        "finished": found.complete,
        "cause": cause,
        "because": because,
        "intervention": proposed,
        "trials": [trial.record() for trial in usual],
        "longer": [{"budget": trial.batch.budget, **trial.record()} for trial in line.trials if trial not in usual],
    }


def _explained(line: "Line", conductor: "Conductor") -> tuple[Cause, str]:
    if line.pending is not None:
        return "unknown", "the search goes on"
    if line.explained is None:
        line.explained = explain(
            _signs(line, conductor.folder),
            reached_the_end=line.finding.horizon == conductor.settings.rules.ladder.rungs[-1],
            budget_limited=line.finding.budget_limited,
        )
    return line.explained


def _signs(line: "Line", folder: Path) -> list[Signs]:
    """Look at the runs that failed at the smallest distance beyond the horizon."""
    horizon = line.finding.horizon or 0
    beyond = [each for each in line.trials if each.batch.budget == 1 and each.batch.distance > horizon]
    failing = [each for each in beyond if each.solved is False]
    nearest = min((each.batch.distance for each in failing), default=0)
    return [signs(folder / each.name) for each in _at_best_rate(failing, nearest, line.finding.rate)]


def _at_best_rate(trials: Sequence[Trial], distance: int, rate: float | None) -> list[Trial]:
    here = [trial for trial in trials if trial.batch.distance == distance]
    return [trial for trial in here if trial.batch.rate == rate] or here
