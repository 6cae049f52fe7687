"""Results of a horizon search: ``horizon.json``, the cause of each limit, and an intervention to try."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, final

from seqlab.contracts import Remedy
from seqlab.errors import UserError
from seqlab.io.atomic import write_json
from seqlab.io.curves import read_curves, whole_rows
from seqlab.plugins.config import targets
from seqlab.runs.commands import quote_for_hydra, shell_command
from seqlab.runs.run_folder import METRICS, RESULTS, read_json
from seqlab.runs.scores import deciding_verdict
from seqlab.study.horizon.search import Finding
from seqlab.study.horizon.trials import Trial
from seqlab.sweeps.overrides import key_of

if TYPE_CHECKING:
    from seqlab.study.horizon.rows import Row
    from seqlab.study.horizon.runner import RowSearch, SearchRunner


Cause = Literal["gradient", "saturation", "capacity", "budget", "none", "unknown"]

FLOW = Path("curves") / "gradient_flow.csv"
SATURATION = Path("curves") / "saturation.csv"

VANISHED, EXPLODED = 1e-3, 1e3
"""Ratio of the gradient at the first step to that at the last, from which on it counts as vanished or exploded."""
SATURATED = 0.5
"""Share of a gate's activations in the outer tenths of its range, from which on it counts as saturated."""
STILL_IMPROVING = 0.05
"""Part of the way from chance to solved that the last quarter of training still went."""


@final
@dataclass(frozen=True)
class Signs:
    """What one run left behind.

    Attributes:
        ratio: of the gradient's norm at the first step to that at the last, over all layers and leaves of the state
            where it flows best, and over all moments the one nearest to 1; ``None`` without the probe.
        saturation: the largest share of a gate's activations at either end of its range at the last moment, and the
            gate's name; ``None`` without the probe.
        improving: part of the way from chance to solved that the last quarter of training went; ``None`` where that
            cannot be told.
        verdict: on the validation split: ``learning`` or ``at chance``.
    """

    ratio: float | None
    saturation: tuple[float, str] | None
    improving: float | None
    verdict: str


def read_signs(folder: Path) -> Signs:
    """Read what a finished run left behind; files that are missing or cut are as if the probe had been off."""
    record = read_json(folder / RESULTS)
    return Signs(_ratio(folder), _saturation(folder), _improving(folder, record), deciding_verdict(record))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        return [row for row in whole_rows(path) if None not in row.values()]
    except (OSError, UserError, ValueError):
        return []


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _ratio(folder: Path) -> float | None:
    """At each moment take the leaf that carries most; of the moments the one at which most arrives."""
    norms: dict[tuple[int, str], dict[int, float]] = {}
    for row in _rows(folder / FLOW):
        norm, step, distance = (_number(row.get(key)) for key in ("norm", "step", "distance"))
        if norm is not None and step is not None and distance is not None and math.isfinite(step + distance):
            path = f"{row.get('layer')} {row.get('direction')} {row.get('state')}"
            norms.setdefault((int(step), path), {})[int(distance)] = norm
    ratios: dict[int, list[float]] = {}
    for (step, _), by_distance in norms.items():
        last = by_distance[min(by_distance)]
        if len(by_distance) > 1 and last > 0:
            ratios.setdefault(step, []).append(by_distance[max(by_distance)] / last)
    best = [max(found) for found in ratios.values()]
    return min(best, key=lambda ratio: abs(math.log(max(ratio, 1e-300)))) if best else None


def _saturation(folder: Path) -> tuple[float, str] | None:
    rows = _rows(folder / SATURATION)
    steps = [step for row in rows if (step := _number(row.get("step"))) is not None]
    found: list[tuple[float, str]] = []
    for row in rows:
        low, high = _number(row.get("low")), _number(row.get("high"))
        if steps and _number(row.get("step")) == max(steps) and low is not None and high is not None:
            found.append((low + high, str(row.get("gate"))))
    return max(found, default=None)


def _improving(folder: Path, record: Mapping[str, Any]) -> float | None:
    monitor, mode = record["best"]["monitor"], record["best"]["mode"]
    (bounds, *_) = record["tables"].get("bounds") or [{}]
    chance, solved = bounds.get("chance"), bounds.get("solved")
    scores = [_number(row.get(f"valid/{monitor}")) for row in read_curves(folder / METRICS)]
    known = [score for score in scores if score is not None]
    if chance is None or solved is None or chance == solved or len(known) < 4:
        return None
    best = max if mode == "max" else min
    before = best(known[: -(len(known) // 4)])
    gain: float = (best(known) - before) / (solved - chance)
    return gain


def explain_limit(found: Sequence[Signs], *, reached_the_end: bool, budget_limited: bool | None) -> tuple[Cause, str]:
    """Name the likely cause of a limit, and say in a sentence by which figures.

    The rules, in order; a figure is the median over the runs:

    1. No limit was met: ``none``.
    2. Twice the budget solves the distance that no seed solved: ``budget``.
    3. The gradient of the first step's state is less than a thousandth, or more than a thousandfold, of the last
       step's, even where and when it flows best: ``saturation``, if half of the activations of some gate or more are in
       the outer tenths of its range, so that its slope is nearly 0; else ``gradient``.
    4. The last quarter of training still went 5 % of the way from chance to solved: ``budget``.
    5. The gradient arrives and the run is better than chance, but no longer improves: ``capacity``.
    6. ``unknown``.

    Args:
        found: of the runs at the smallest distance that is not solved.
        reached_the_end: whether the largest distance was solved.
        budget_limited: whether twice the budget moved the horizon.
    """
    if reached_the_end:
        return "none", "the largest distance of the search is solved"
    if budget_limited:
        return "budget", "with twice the training the distance that no seed solved is solved"
    if not found:
        return "unknown", "no run beyond the horizon ended"
    ratio, improving = _median(each.ratio for each in found), _median(each.improving for each in found)
    if ratio is not None and not VANISHED <= ratio <= EXPLODED:
        return _of_gradient(found, ratio)
    if improving is not None and improving >= STILL_IMPROVING:
        return "budget", f"the last quarter of training still went {improving:.0%} of the way from chance to solved"
    learning = sum(each.verdict == "learning" for each in found)
    state = "the probe was off" if ratio is None else f"the first step's gradient is {ratio:.2g} of the last step's"
    if ratio is not None and 2 * learning > len(found):
        return "capacity", f"{state}, and {learning} of {len(found)} runs stopped improving between chance and solved"
    return "unknown", f"{state}; {len(found) - learning} of {len(found)} runs stayed at chance"


def _of_gradient(found: Sequence[Signs], ratio: float) -> tuple[Cause, str]:
    what = "vanishes" if ratio < 1 else "explodes"
    because = f"the gradient {what}: at the first step it is {ratio:.1e} of what it is at the last"
    gates = [each.saturation for each in found if each.saturation is not None]
    share = _median(each for each, _ in gates)
    if share is None:
        return "gradient", because
    gate = max(gates)[1]
    if share >= SATURATED:
        return "saturation", f"{because}, while {share:.0%} of the activations of {gate} are saturated"
    return "gradient", f"{because}, while no gate is saturated by more than {share:.0%}"


def _median(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(median(known)) if known else None


def intervention(row: "Row", cause: "Cause", found: Finding, conductor: "SearchRunner") -> dict[str, str] | None:
    """Choose one thing that should move a row's horizon.

    A cell may know a remedy of its own (:meth:`seqlab.Cell.remedy`) where the gradient or saturation is the cause. Else
    a larger state helps a capacity that is too small, and longer training what is left.

    Returns:
        ``text`` and ``command``; ``None`` where there is nothing to move.
    """
    if cause == "none":
        return None
    if cause == "capacity" and row.hidden_size is not None:
        text, words = "twice the hidden size", [f"{row.sized_by}.hidden_size={2 * row.hidden_size}"]
    elif cause in ("gradient", "saturation") and (remedy := _own(row, cause, found)) is not None:
        text, words = remedy.text, [f"cell.{option}={value}" for option, value in remedy.options.items()]
    else:
        text, words = "four times the training", row.longer(4)
    return {"text": text, "command": _command(row, words, conductor)}


def _own(row: "Row", cause: str, found: Finding) -> Remedy | None:
    if row.sized_by != "cell":
        return None
    target: Any
    (target,) = targets("cell", str(row.config.cell.name))
    options = {str(key): value for key, value in row.config.cell.items() if key != "name"}
    remedy: Remedy | None = target.remedy(cause, found.upper or 2 * (found.horizon or 1), options)
    return remedy


def _command(row: "Row", words: list[str], conductor: "SearchRunner") -> str:
    """Give the search again for this row alone, with other words."""
    settings, typed = conductor.settings, conductor.words
    kept = [word for word in typed if word.startswith(("hydra/", "hydra.sweeper.")) and ".only=" not in word]
    changed = {key_of(word) for word in words}
    if settings.rows or settings.tasks:
        own = [word for word in typed if not word.startswith(("hydra/", "hydra."))]
        kept.append(f"hydra.sweeper.only=[{quote_for_hydra(row.name)}]")
    else:
        own = list(row.asked)
    own = [word for word in own if key_of(word) not in changed]
    return shell_command("-m", *own, *words, *kept)


FILE = "horizon.json"
SCHEMA = 1


def write_search(conductor: "SearchRunner") -> None:
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


def read_search(folder: Path) -> dict[str, Any]:
    """Read it.

    Raises:
        UserError: it is missing or damaged.
    """
    return read_json(folder / FILE)


def _row(line: "RowSearch", conductor: "SearchRunner") -> dict[str, Any]:
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


def _explained(line: "RowSearch", conductor: "SearchRunner") -> tuple[Cause, str]:
    if line.pending is not None:
        return "unknown", "the search goes on"
    if line.explained is None:
        line.explained = explain_limit(
            _signs(line, conductor.folder),
            reached_the_end=line.finding.horizon == conductor.settings.rules.ladder.rungs[-1],
            budget_limited=line.finding.budget_limited,
        )
    return line.explained


def _signs(line: "RowSearch", folder: Path) -> list[Signs]:
    """Look at the runs that failed at the smallest distance beyond the horizon."""
    horizon = line.finding.horizon or 0
    beyond = [each for each in line.trials if each.batch.budget == 1 and each.batch.distance > horizon]
    failing = [each for each in beyond if each.solved is False]
    nearest = min((each.batch.distance for each in failing), default=0)
    return [read_signs(folder / each.name) for each in _at_best_rate(failing, nearest, line.finding.rate)]


def _at_best_rate(trials: Sequence[Trial], distance: int, rate: float | None) -> list[Trial]:
    here = [trial for trial in trials if trial.batch.distance == distance]
    return [trial for trial in here if trial.batch.rate == rate] or here
