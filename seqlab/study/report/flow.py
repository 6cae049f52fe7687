"""Gradient flow of a report: what the callback left in ``curves/gradient_flow.csv`` and ``curves/saturation.csv``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from seqlab.study.plotting import INK, WIDTH, Style, label_axes, legend, new_figure, styles
from seqlab.study.report.figures import Picture, Point
from seqlab.study.report.runs import Run

FLOW = "gradient_flow.csv"
SATURATION = "saturation.csv"
_FORMULAS = {
    "product": ("product of the cell's per-step Jacobians", (0, (5, 1.5))),
    "bound": ("bound by the largest singular value", (0, (1.2, 1.2))),
    "terms": ("all four terms of dc_t/dc_(t-1)", (0, (5, 1.5))),
    "forget": ("product of the forget gates", (0, (1.2, 1.2))),
}
_SMALLEST = 1e-300
_MOST_ROWS = 4


@final
@dataclass(frozen=True)
class Flow:
    """The gradient flow of one run that stands for its label.

    Attributes:
        label: of the run.
        run: the one that was probed.
        rows: of the file, as numbers where they are.
    """

    label: str
    run: Run
    rows: Sequence[Mapping[str, Any]]

    def steps(self) -> list[int]:
        """List the moments of training at which was probed."""
        return sorted({int(row["step"]) for row in self.rows})

    def places(self) -> list[tuple[int, str, str]]:
        """List layer, direction and state of every curve."""
        return sorted({(int(row["layer"]), str(row["direction"]), str(row["state"])) for row in self.rows})

    def curve(self, step: int, place: tuple[int, str, str], column: str) -> tuple[list[int], list[float]]:
        """Give a curve against the steps back: only values above zero, which a logarithmic axis can show."""
        rows = [
            row
            for row in self.rows
            if (int(row["step"]), (int(row["layer"]), str(row["direction"]), str(row["state"]))) == (step, place)
            and isinstance(row.get(column), float)
            and row[column] > _SMALLEST
        ]
        rows.sort(key=lambda row: row["distance"])
        return [int(row["distance"]) for row in rows], [float(row[column]) for row in rows]


def choose_flows(points: Sequence[Point], flows: Mapping[Run, Sequence[Mapping[str, Any]]]) -> list[Flow]:
    """Choose the run of each label whose flow is shown: at the largest distance that every label was probed at.

    Where there is no such distance, each label's largest; of the seeds the first.
    """
    probed: dict[str, dict[int, Run]] = {}
    for point in points:
        runs = sorted((run for run in point.runs if flows.get(run)), key=lambda run: run.seed)
        if runs:
            probed.setdefault(point.label, {})[point.distance or 0] = runs[0]
    if not probed:
        return []
    common = set.intersection(*(set(found) for found in probed.values()))
    at = max(common) if common else None
    chosen = {label: found[max(found) if at is None else at] for label, found in probed.items()}
    return [Flow(label, run, flows[run]) for label, run in chosen.items()]


def flow_figures(name: str, flows: Sequence[Flow]) -> list[Picture]:
    """Draw one figure for each kind of state, early and late in training, and one with the formulas of each label."""
    states = list(dict.fromkeys(state for flow in flows for _, _, state in flow.places()))
    made = [_early_and_late(f"{name}_flow_{state}", flows, state) for state in states]
    formulas = (_formulas(f"{name}_formulas_{place}", flow) for place, flow in enumerate(flows, start=1))
    return made + [picture for picture in formulas if picture is not None]


def _early_and_late(name: str, flows: Sequence[Flow], state: str) -> Picture:
    there = [flow for flow in flows if any(place[2] == state for place in flow.places())]
    places = sorted({place for flow in there for place in flow.places() if place[2] == state})[-_MOST_ROWS:]
    drawn = styles([flow.label for flow in flows])
    figure = new_figure(WIDTH, 1.2 + 2.5 * len(places))
    grid = figure.subplots(len(places), 2, sharex=True, sharey=True, squeeze=False)
    for row, place in enumerate(places):
        for column, (moment, end) in enumerate((("early", 0), ("late", -1))):
            axes = grid[row][column]
            for flow in there:
                where, norms = flow.curve(flow.steps()[end], place, "norm")
                if norms and where[0] == 0:
                    _line(axes, where, [norm / norms[0] for norm in norms], drawn[flow.label], flow.label)
            axes.set_yscale("log")
            steps = sorted({flow.steps()[end] for flow in there})
            at = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
            where_ = f", layer {place[0]}, {place[1]}" if len(places) > 1 else ""
            label_axes(
                axes,
                "steps back",
                "" if column else f"|dL/d{state}_t| / |dL/d{state}_T|",
                f"{moment} (step {at}){where_}",
            )
    _both_ways(grid)
    legend(figure, max(grid.flat, key=lambda axes: len(axes.lines)))
    distances = sorted({flow.run.distance for flow in there if flow.run.distance is not None})
    at = f" at distance {' and '.join(f'{each:,}' for each in distances)}" if distances else ""
    caption = (
        f"How much of the gradient reaches the state {state}, {state}_T being the last: early and late in training{at}."
        " A line that falls leaves nothing to learn from that far back."
    )
    return Picture(name, caption, figure)


def _line(axes: Any, where: Sequence[int], values: Sequence[float], style: Style, label: str) -> None:
    options = {**style.line_options(), "markersize": 4, "markevery": max(1, len(where) // 8)}
    axes.plot(where, values, label=label, **options)


def _both_ways(grid: Any) -> None:
    """Keep a factor of a hundred on the axis at least, and at most sixty powers of ten."""
    low, high = grid[0][0].get_ylim()
    if high / max(low, _SMALLEST) < 100:
        middle = (low * high) ** 0.5
        low, high = middle / 10, middle * 10
    grid[0][0].set_ylim(max(low, high * 1e-60), high)


def _formulas(name: str, flow: Flow) -> Picture | None:
    """Draw the measured norm beside what the formulas say, late in training; the caption has the bound's slack."""
    step = flow.steps()[-1]
    places = [place for place in flow.places() if any(flow.curve(step, place, column)[0] for column in _FORMULAS)][-1:]
    if not places:
        return None
    (place,) = places
    figure = new_figure(WIDTH, 3.7)
    axes = figure.add_subplot()
    style = styles([flow.label])[flow.label]
    where, norms = flow.curve(step, place, "norm")
    axes.plot(where, norms, color=style.colour, linewidth=2.6, alpha=0.6, label=f"{flow.label}: measured norm")
    notes = []
    for column, (meaning, line) in _FORMULAS.items():
        at, values = flow.curve(step, place, column)
        if values:
            axes.plot(at, values, color=INK, linewidth=1.2, linestyle=line, label=meaning)
            if column in ("bound", "forget"):
                notes.append(_slack(meaning, dict(zip(where, norms, strict=True)), at, values))
    last = max(int(row["distance"]) for row in flow.rows if int(row["step"]) == step)
    if where and where[-1] < last:
        notes.append(f"From {where[-1] + 1:,} steps back on the measured norm is 0, which no logarithmic axis shows.")
    axes.set_yscale("log")
    axes.set_xlim(-0.03 * max(1, last), 1.03 * max(1, last))
    _both_ways([[axes]])
    label_axes(axes, "steps back", f"|dL/d{place[2]}_t|, mean of the rows")
    legend(figure, axes, columns=1)
    layer = f"layer {place[0]}, {place[1]}, step {step:,} of training"
    caption = f"{flow.label}: the gradient beside the formulas, {layer}. {' '.join(note for note in notes if note)}"
    return Picture(name, caption.strip(), figure)


def _slack(meaning: str, norms: Mapping[int, float], at: Sequence[int], values: Sequence[float]) -> str:
    shared = [(distance, value) for distance, value in zip(at, values, strict=True) if distance in norms]
    if not shared:
        return ""
    distance, value = shared[-1]
    power = float(np.log10(value) - np.log10(norms[distance]))
    return f"The {meaning} is {_factor(power)} the measured norm at {distance:,} steps back."


def _factor(power: float) -> str:
    return f"{10**power:.3g} times" if abs(power) < 4 else f"10^{power:.0f} times"


def saturation_rows(flows: Sequence[Flow], tables: Mapping[Run, Sequence[Mapping[str, Any]]]) -> list[list[Any]]:
    """List the share of each gate's activations at the ends of its range, at the last probe of each label."""
    made: list[list[Any]] = []
    for flow in flows:
        rows = tables.get(flow.run) or []
        last = max((row["step"] for row in rows), default=None)
        made += [
            [flow.label, int(row["layer"]), row["direction"], row["gate"], f"{row['low']:.1%}", f"{row['high']:.1%}"]
            for row in rows
            if row["step"] == last and isinstance(row.get("low"), float) and isinstance(row.get("high"), float)
        ]
    return made
