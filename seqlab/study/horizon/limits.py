"""Likely cause of a horizon's limit, and an intervention to try."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any, Literal, final

from seqlab.contracts import Remedy
from seqlab.errors import UserError
from seqlab.io.csv_files import read_csv
from seqlab.io.formatting import quote_for_hydra, shell_command
from seqlab.runs.run_folder import CURRICULUM, METRICS, RESULTS, read_json
from seqlab.runs.scores import deciding_verdict
from seqlab.study.advice import cell_remedy
from seqlab.study.gradient_flow import FlowRow, SaturationRow, read
from seqlab.study.horizon.search import Finding
from seqlab.study.horizon.settings import Row, Settings
from seqlab.sweeps.overrides import override_key

Cause = Literal["optimisation", "analogue drift", "gradient", "saturation", "capacity", "budget", "none", "unknown"]

VANISHED, EXPLODED = 1e-3, 1e3
"""Ratio of the gradient at the first step to that at the last beyond which it counts as vanished or exploded."""
SATURATED = 0.5
"""Share of a gate's activations in the outer tenths of its range from which on the gate counts as saturated."""
STILL_IMPROVING = 0.05
"""Part of the way from baseline to solved covered by the last quarter of training from which on it still improves."""
STILL_GROWING = 0.75
"""Share of a run's steps after which the last growth of a curriculum counts as recent."""
FURTHER = 2
"""Ratio of a curriculum's horizon to the length that no fixed training solves from which on it solves more."""
DRIFT = 100
"""Ratio of the horizons for symbols and for real numbers from which on real numbers are what is lost."""


@final
@dataclass(frozen=True)
class Diagnostics:
    """Measurements of one run.

    Attributes:
        ratio: gradient norm at the first step over that at the last, of the layer and state tensor with the largest,
            at the measurement where it is nearest to 1; ``None`` without ``callbacks=gradient_flow``.
        saturation: largest share of a gate's activations at either end of its range at the last measurement, and the
            gate's name; ``None`` without ``callbacks=gradient_flow``.
        improving: part of the way from baseline to solved covered by the last quarter of training; ``None`` if unknown.
        verdict: on the validation split.
        growing: share of the training steps when a curriculum's last length was solved; ``None`` without one.
    """

    ratio: float | None
    saturation: tuple[float, str] | None
    improving: float | None
    verdict: str
    growing: float | None = None


def read_diagnostics(folder: Path) -> Diagnostics:
    """Read the measurements of a finished run; missing or damaged files count as not measured."""
    record = read_json(folder / RESULTS)
    try:
        flow = read(folder)
    except (UserError, OSError):
        flow = None
    rows, gates = (flow.rows, flow.saturation) if flow else ((), ())
    verdict, lengths = deciding_verdict(record), record.get("lengths") or {}
    if lengths.get("protocol") != "curriculum":
        return Diagnostics(_ratio(rows), _saturation(gates), _improving(folder, record), verdict)
    growing = (lengths["steps"] or 0) / max(record["cost"]["steps"], 1)
    return Diagnostics(_ratio(rows), _saturation(gates), _improving(folder, record), verdict, growing)


def _ratio(rows: Iterable[FlowRow]) -> float | None:
    norms: dict[tuple[int, int, str, str], dict[int, float]] = {}
    for row in rows:
        if not math.isnan(row.norm):
            norms.setdefault((row.step, row.layer, row.direction, row.state), {})[row.distance] = row.norm
    ratios: dict[int, list[float]] = {}
    for (step, *_), by_distance in norms.items():
        last = by_distance[min(by_distance)]
        if len(by_distance) > 1 and last > 0:
            ratios.setdefault(step, []).append(by_distance[max(by_distance)] / last)
    return min(map(max, ratios.values()), key=lambda ratio: abs(math.log(max(ratio, 1e-300))), default=None)


def _saturation(rows: Sequence[SaturationRow]) -> tuple[float, str] | None:
    last = max((row.step for row in rows), default=None)
    shares = [(row.low + row.high, row.gate) for row in rows if row.step == last]
    return max((each for each in shares if not math.isnan(each[0])), default=None)


def _improving(folder: Path, record: Mapping[str, Any]) -> float | None:
    monitor, mode = record["best"]["monitor"], record["best"]["mode"]
    (bounds, *_) = record["tables"].get("bounds") or [{}]
    baseline, solved = bounds.get("chance"), bounds.get("solved")
    if (folder / CURRICULUM).exists():
        rows = read_csv(folder / CURRICULUM)
        scores = [_number(row.get("score")) for row in rows if row.get("ceiling") == rows[-1].get("ceiling")]
    else:
        scores = [_number(row.get(f"valid/{monitor}")) for row in read_csv(folder / METRICS)]
    known = [score for score in scores if not math.isnan(score)]
    if baseline is None or solved is None or baseline == solved or len(known) < 4:
        return None
    best = max if mode == "max" else min
    gain: float = (best(known) - best(known[: -(len(known) // 4)])) / (solved - baseline)
    return gain


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def explain_limit(
    runs: Sequence[Diagnostics],
    *,
    reached_the_end: bool,
    budget_limited: bool | None,
    optimisation: str | None = None,
    drift: str | None = None,
) -> tuple[Cause, str]:
    """Return the likely cause of a limit, and the figures that suggest it.

    The first rule that applies, from medians over the runs just beyond the horizon:

    1. There is no limit: ``none``.
    2. :func:`explain_optimisation` finds a reason: ``optimisation``.
    3. :func:`explain_drift` finds a reason: ``analogue drift``.
    4. Twice the budget solves what no seed solved, or a curriculum grew in the last quarter of its steps: ``budget``.
    5. The rules of :func:`explain_measurements`.

    Args:
        runs: measurements at the smallest distance not solved, or of curricula that end below the largest.
        reached_the_end: whether the largest distance of the search is solved.
        budget_limited: whether twice the budget solves what no seed solved; ``None`` if that was not tried.
        optimisation: reason that the row's curriculum gives.
        drift: reason that its curricula on other tasks give.
    """
    if reached_the_end:
        return "none", "the largest distance of the search is solved"
    if optimisation:
        return "optimisation", optimisation
    if drift:
        return "analogue drift", drift
    if budget_limited:
        return "budget", "twice the training solves the distance that no seed solved"
    if not runs:
        return "unknown", "no run beyond the horizon finished"
    if (growing := _median(run.growing for run in runs)) is not None and growing >= STILL_GROWING:
        return "budget", f"the last length was solved after {growing:.0%} of the training steps"
    return explain_measurements(runs, growing)


def explain_measurements(runs: Sequence[Diagnostics], growing: float | None) -> tuple[Cause, str]:
    """Return the likely cause of a limit by gradients and scores, and the figures that suggest it.

    The first rule that applies, from medians over the runs:

    1. The gradient of the first step's state is < 1/1000 or > 1000 times that of the last, even at the best measurement
       and for the best state tensor: ``saturation`` if at least half of the activations of a gate are in the outer
       tenths of its range, where its slope is nearly 0; else ``gradient``.
    2. The last quarter of training (of a curriculum: at its last length) covered 5 % of the way from baseline to
       solved: ``budget``.
    3. The gradient arrives, and most runs are better than baseline but no longer improve: ``capacity``.
    4. ``unknown``.

    Args:
        runs: measurements of these runs.
        growing: median of theirs.
    """
    ratio, improving = _median(run.ratio for run in runs), _median(run.improving for run in runs)
    if ratio is not None and not VANISHED <= ratio <= EXPLODED:
        return _explain_gradient(runs, ratio)
    if improving is not None and improving >= STILL_IMPROVING:
        return "budget", f"the last quarter of training covered {improving:.0%} of the way from baseline to solved"
    learning = sum(run.verdict == "learning" for run in runs)
    if ratio is None and growing is not None:
        flow = f"no longer length was solved after {growing:.0%} of the training steps"
    elif ratio is None:
        flow = "gradient flow was not measured"
    else:
        flow = f"the gradient at the first step is {ratio:.2g} times that at the last"
    if ratio is not None and 2 * learning > len(runs):
        return "capacity", f"{flow}, and {learning} of {len(runs)} runs stopped improving between baseline and solved"
    return "unknown", f"{flow}; {len(runs) - learning} of {len(runs)} runs are no better than baseline"


def explain_optimisation(fixed: Finding, curriculum: Finding) -> str | None:
    """Return why training at a fixed length is what fails; ``None`` if nothing says so.

    ``optimisation``: the curriculum of the same row, with the same budget for each run, reaches at least twice the
    smallest length that no run solves when trained at it.
    """
    if fixed.upper is None or (curriculum.horizon or 0) < FURTHER * fixed.upper:
        return None
    return (
        f"trained at {fixed.upper:,} no run solves it; trained on lengths that grow, 2/3 reach {curriculum.horizon:,}"
    )


def explain_drift(real: Finding, recall: Mapping[str, Finding]) -> str | None:
    """Return why it is real numbers that a row loses; ``None`` if nothing says so.

    ``analogue drift``: under a curriculum the same model keeps symbols at least 100 times as far as real-valued sums. A
    symbol can be held by an attractor of the state, which corrects small errors; a real number cannot.

    Args:
        real: of a task whose targets are real numbers.
        recall: of the tasks with symbols, by name.
    """
    task, horizon = max(
        ((task, each.horizon or 0) for task, each in recall.items()), key=itemgetter(1), default=("", 0)
    )
    if real.horizon is None or horizon < DRIFT * real.horizon:
        return None
    return f"it solves real-valued targets up to {real.horizon:,} steps, symbols ({task}) up to {horizon:,}"


def _explain_gradient(runs: Sequence[Diagnostics], ratio: float) -> tuple[Cause, str]:
    change = "vanishes" if ratio < 1 else "explodes"
    reason = f"the gradient {change}: at the first step it is {ratio:.1e} times that at the last"
    gates = [run.saturation for run in runs if run.saturation is not None]
    share = _median(each for each, _ in gates)
    if share is None:
        return "gradient", reason
    if share >= SATURATED:
        return "saturation", f"{reason}, and {share:.0%} of the activations of {max(gates)[1]} are saturated"
    return "gradient", f"{reason}, and no gate is saturated by more than {share:.0%}"


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def propose_intervention(
    row: Row, cause: Cause, finding: Finding, settings: Settings, arguments: Sequence[str]
) -> dict[str, str] | None:
    """Return a change that may extend a row's horizon, as ``text`` and ``command``; ``None`` if there is no limit.

    That is the cell's own remedy (:meth:`seqlab.Cell.remedy`) for gradient, saturation and drift, twice the hidden size
    for capacity, and longer training for anything else.
    """
    if cause == "none":
        return None
    if cause == "capacity" and row.hidden_size is not None:
        text, changes = "twice the hidden size", [f"{row.sized_by}.hidden_size={2 * row.hidden_size}"]
    elif (
        cause in ("gradient", "saturation", "analogue drift")
        and (remedy := _cell_remedy(row, cause, finding)) is not None
    ):
        text, changes = remedy.text, [f"cell.{option}={value}" for option, value in remedy.options.items()]
    else:
        text, changes = "four times the training", row.longer(4)
    kept = [each for each in arguments if each.startswith(("hydra/", "hydra.sweeper.")) and ".only=" not in each]
    if settings.rows or settings.tasks:
        own = [each for each in arguments if not each.startswith(("hydra/", "hydra."))]
        kept.append(f"hydra.sweeper.only=[{quote_for_hydra(row.name)}]")
    else:
        own = list(row.requested)
    changed = set(map(override_key, changes))
    own = [each for each in own if override_key(each) not in changed]
    return {"text": text, "command": shell_command("-m", *own, *changes, *kept)}


def _cell_remedy(row: Row, cause: str, finding: Finding) -> Remedy | None:
    if row.sized_by != "cell":
        return None
    known: Literal["gradient", "saturation"] = "saturation" if cause == "saturation" else "gradient"
    return cell_remedy(row.config.cell, known, finding.upper or 2 * (finding.horizon or 1))
