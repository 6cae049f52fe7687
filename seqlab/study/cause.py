"""Why a row's horizon is where it is: rules over what the runs beyond it left behind, each stated in a sentence."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, final

from seqlab.errors import UserError
from seqlab.training.rows import read_curves, whole_rows
from seqlab.training.runfolder import RESULTS, read_json
from seqlab.training.verdicts import deciding_verdict

Cause = Literal["gradient", "saturation", "capacity", "budget", "none", "unknown"]

FLOW = Path("curves") / "gradient_flow.csv"
SATURATION = Path("curves") / "saturation.csv"
CURVES = Path("curves") / "metrics.csv"

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


def signs(folder: Path) -> Signs:
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
    scores = [_number(row.get(f"valid/{monitor}")) for row in read_curves(folder / CURVES)]
    known = [score for score in scores if score is not None]
    if chance is None or solved is None or chance == solved or len(known) < 4:
        return None
    best = max if mode == "max" else min
    before = best(known[: -(len(known) // 4)])
    gain: float = (best(known) - before) / (solved - chance)
    return gain


def explain(found: Sequence[Signs], *, reached_the_end: bool, budget_limited: bool | None) -> tuple[Cause, str]:
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
