"""Figures of gradient flow: one run beside its closed forms, several side by side, the section of a report."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seqlab.study.gradient_flow import FlowRow, GradientFlow, slack
from seqlab.study.plotting import COLOURS, INK, WIDTH, label_axes, legend, new_figure, styles
from seqlab.study.report.document import Field, FigureBlock, Section, Table, Text
from seqlab.study.report.figures import Picture, Point
from seqlab.study.report.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_COLUMNS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "norm": ("gradient (autograd)", {"color": COLOURS[0], "linewidth": 2.6, "alpha": 0.7}),
    "product": (
        "product of step Jacobians",
        {"color": INK, "linestyle": "none", "marker": ".", "markersize": 4, "zorder": 3},
    ),
    "bound": ("singular-value bound", {"color": COLOURS[1], "linewidth": 1.4}),
    "forget": ("forget-gate product", {"color": COLOURS[2], "linewidth": 1.4}),
    "terms": ("state Jacobian", {"color": COLOURS[3], "linewidth": 1.4}),
}
"""Label and line of each column; of a GRU, ``forget`` is the update gate's product."""
_MAX_PLACES = 6
"""Layers and directions in one figure; the file has all."""
_MAX_COMPARED = 4
_SMALLEST, _LARGEST = 1e-300, 1e100
"""Values beyond which an axis cannot be computed."""


def draw_flow(flow: GradientFlow, title: str = "", *, compact: bool = False) -> "Figure":
    """Draw the gradient norm beside its closed forms, early (dashed) and late in training.

    There is a row per layer and direction, a panel per state tensor, and one for the saturation of the gates.

    Args:
        flow: measurements; at least one row.
        title: of the figure.
        compact: draw the last layer alone, as narrow as a report, without the gates and notes that stand in its text.
    """
    layers = list(dict.fromkeys((layer, direction) for layer, direction, _ in flow.places))
    drawn = layers[-1 if compact else -_MAX_PLACES :]
    states = list(dict.fromkeys(state for _, _, state in flow.places))
    has_gates = bool(flow.saturation) and not compact
    columns = len(states) + has_gates
    size = (WIDTH, 3.7) if compact else (1.2 + 4.3 * columns, 1.5 + 3.8 * len(drawn))
    figure = new_figure(*size)
    grid = figure.subplots(len(drawn), columns, squeeze=False)
    for row, (layer, direction) in zip(grid, drawn, strict=True):
        for axes, state in zip(row, states, strict=False):
            _draw_state(axes, flow, (layer, direction, state), with_notes=not compact)
        if has_gates:
            _draw_gates(row[-1], flow, layer, direction)
            row[-1].legend(frameon=False, fontsize=7)
    if title:
        omitted = f" ({len(layers) - len(drawn)} more layers in the file)" if len(drawn) < len(layers) else ""
        figure.suptitle(f"Gradient flow: {title}{omitted}", fontsize=12)
    _add_legend(figure, grid[0][0], flow)
    return figure


def _ends(flow: GradientFlow) -> list[tuple[str, int, str]]:
    """Return name, step and line style of the first and the last measurement."""
    early, late = flow.steps[0], flow.steps[-1]
    return [("early", early, "--"), ("late", late, "-")] if early < late else [("late", late, "-")]


def _draw_state(axes: "Axes", flow: GradientFlow, place: tuple[int, str, str], *, with_notes: bool) -> None:
    for _, step, style in _ends(flow):
        rows = flow.curve(step, *place)
        for column, (_, line) in _COLUMNS.items():
            pairs = [(row.distance, value) for row in rows if (value := getattr(row, column)) is not None]
            where = [distance for distance, _ in pairs]
            values = [value if _SMALLEST < value < _LARGEST else math.nan for _, value in pairs]
            axes.plot(where, values, **{"linestyle": style, "markevery": max(1, len(where) // 20), **line})
    last = max((row.distance for row in flow.rows), default=0)
    axes.set_xlim(-0.03 * max(1, last), 1.03 * max(1, last))
    _set_axes(axes)
    layer, direction, state = place
    label_axes(axes, "steps back", f"|dL/d{state}_t|", f"layer {layer}, {direction}, state {state}")
    if with_notes:
        lines = [f"{name}: {note}" for name, step, _ in _ends(flow) for note in notes(flow.curve(step, *place))]
        axes.text(0, -0.2, "\n".join(lines), transform=axes.transAxes, fontsize=7.5, va="top")


def notes(rows: Sequence[FlowRow]) -> list[str]:
    """Compare the closed forms of a curve with its gradient, and name the distance from which that is zero."""
    found = []
    for column in ("bound", "forget", "terms"):
        if (pair := slack(rows, column)) is not None and pair[0]:
            distance, power = pair
            per_step = f"{10 ** (power / distance):.3g} per step"
            found.append(f"{_COLUMNS[column][0]}: {_ratio(power)} the gradient after {distance:,} steps ({per_step})")
    drawn = max((row.distance for row in rows if row.norm > _SMALLEST), default=-1)
    if rows and drawn < rows[-1].distance:
        found.append(f"the gradient is 0 from {drawn + 1:,} steps back on, which a logarithmic axis does not show")
    return found


def _ratio(power: float) -> str:
    if abs(power) >= 4:
        return f"10^{power:.0f} times"
    return f"{10**power:.3g} times" if power >= 0 else f"{100 * 10**power:.3g} % of"


def _draw_gates(axes: "Axes", flow: GradientFlow, layer: int, direction: str) -> None:
    """Draw the saturation of each gate over training."""
    for name, colour in zip(dict.fromkeys(row.gate for row in flow.saturation), COLOURS, strict=False):
        rows = [row for row in flow.saturation if (row.layer, row.direction, row.gate) == (layer, direction, name)]
        rows.sort(key=lambda row: row.step)
        for end, marker, style in (("high", "^", "-"), ("low", "v", "--")):
            line: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4, "linestyle": style}
            axes.plot([row.step for row in rows], [getattr(row, end) for row in rows], label=f"{name}, {end}", **line)
    axes.set_xscale("symlog", linthresh=10)
    axes.set_ylim(-0.02, 1.02)
    label_axes(axes, "training step", "share of activations", f"layer {layer}, {direction}: saturation")


def _add_legend(figure: "Figure", axes: "Axes", flow: GradientFlow) -> None:
    for column, (label, line) in _COLUMNS.items():
        if any(getattr(row, column) is not None for row in flow.rows):
            axes.plot([], [], label=label, **line)
    for name, step, style in _ends(flow):
        axes.plot([], [], color="0.4", linestyle=style, label=f"{name}: step {step:,}")
    legend(figure, axes)


def compare_flows(flows: Mapping[str, GradientFlow], state: str, labels: Iterable[str]) -> "Figure":
    """Draw the gradient norm of several runs relative to that at the last step, early and late in training."""
    drawn = {label: flow for label, flow in flows.items() if any(place[2] == state for place in flow.places)}
    places = sorted({place for flow in drawn.values() for place in flow.places if place[2] == state})[-_MAX_COMPARED:]
    lines = styles(list(labels))
    figure = new_figure(WIDTH, 1.2 + 2.5 * len(places))
    grid = figure.subplots(len(places), 2, sharex=True, sharey=True, squeeze=False)
    for row, place in zip(grid, places, strict=True):
        for axes, name, end in zip(row, ("early", "late"), (0, -1), strict=True):
            steps = sorted({flow.steps[end] for flow in drawn.values()})
            for label, flow in drawn.items():
                curve = [each for each in flow.curve(flow.steps[end], *place) if _SMALLEST < each.norm < _LARGEST]
                if curve and curve[0].distance == 0:
                    options = {**lines[label].line_options(), "markersize": 4, "markevery": max(1, len(curve) // 8)}
                    values = [each.norm / curve[0].norm for each in curve]
                    axes.plot([each.distance for each in curve], values, label=label, **options)
            at = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
            where = f", layer {place[0]}, {place[1]}" if len(places) > 1 else ""
            y = "" if end else f"|dL/d{state}_t| / |dL/d{state}_T|"
            label_axes(axes, "steps back", y, f"{name} (step {at}){where}")
    _set_axes(grid[0][0])
    legend(figure, max(grid.flat, key=lambda axes: len(axes.lines)))
    return figure


def _set_axes(axes: "Axes") -> None:
    """Make the values logarithmic, over a factor of 100 at least and 60 powers of ten at most, and steps whole."""
    from matplotlib.ticker import MaxNLocator

    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    low, high = axes.get_ylim()
    if high / max(low, _SMALLEST) < 100:
        middle = (low * high) ** 0.5
        low, high = middle / 10, middle * 10
    axes.set_ylim(max(low, high * 1e-60), high)


def choose_flows(points: Sequence[Point], flows: Mapping[Run, GradientFlow]) -> dict[str, Run]:
    """Choose the run of each label to draw: the first seed at the largest distance that all labels have.

    Without a common distance, each label has its own largest.
    """
    by_label: dict[str, dict[int, Run]] = {}
    for point in points:
        runs = sorted((run for run in point.runs if run in flows), key=lambda run: run.seed)
        if runs:
            by_label.setdefault(point.label, {})[point.distance or 0] = runs[0]
    common = set.intersection(*map(set, by_label.values())) if by_label else set()
    return {label: runs[max(common or runs)] for label, runs in by_label.items()}


def flow_figures(name: str, runs: Mapping[str, Run], flows: Mapping[Run, GradientFlow]) -> list[Picture]:
    """Draw a comparison of all labels for each state tensor, and each label beside its closed forms."""
    by_label = {label: flows[run] for label, run in runs.items()}
    distances = sorted({run.distance for run in runs.values() if run.distance is not None})
    at = f" at distance {' and '.join(f'{each:,}' for each in distances)}" if distances else ""
    pictures = []
    for state in dict.fromkeys(state for flow in by_label.values() for _, _, state in flow.places):
        caption = (
            f"Gradient norm at state {state}, relative to the last step: early and late in training{at}. Where a line"
            " has fallen, that step no longer influences learning."
        )
        figure = compare_flows(by_label, state, list(runs))
        pictures.append(Picture(f"{name}_flow_{_file_name(state)}", caption, figure))
    for number, (label, flow) in enumerate(by_label.items(), start=1):
        if any(value is not None for row in flow.rows for value in (row.product, row.bound, row.forget, row.terms)):
            picture = draw_flow(flow, compact=True)
            pictures.append(Picture(f"{name}_formulas_{number}", _caption(label, flow), picture))
    return pictures


def _file_name(state: str) -> str:
    """Return a state's part of the name of a file: a run's CSV names states by any text, paths included."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", state)[:40]


def _caption(label: str, flow: GradientFlow) -> str:
    step, (layer, direction, _) = flow.steps[-1], flow.places[-1]
    text = f"{label}: gradient norm beside its closed forms, layer {layer}, {direction}."
    for place in flow.places:
        if place[:2] == (layer, direction):
            found = notes(flow.curve(step, *place))
            text += f" State {place[2]} at step {step:,}: {'; '.join(found)}." if found else ""
    return text


def flow_section(name: str, points: Sequence[Point], flows: Mapping[Run, GradientFlow]) -> Section | None:
    """Build figures and the saturation of the gates; ``None`` if no run was measured."""
    runs = choose_flows(points, flows)
    if not runs:
        return None
    section = Section("Gradient flow", 3, [FigureBlock(picture) for picture in flow_figures(name, runs, flows)])
    rows: list[tuple[Field, ...]] = []
    without = []
    for label, run in runs.items():
        gates = flows[run].saturation
        last = max((gate.step for gate in gates), default=None)
        final = [gate for gate in gates if gate.step == last]
        rows += [(label, str(g.layer), g.direction, g.gate, f"{g.low:.1%}", f"{g.high:.1%}") for g in final]
        without += [] if gates else [label]
    if rows:
        text = Text("Saturation: share of activations in the lowest and the highest tenth after training.")
        section.blocks += [text, Table(("", "layer", "direction", "gate", "low", "high"), tuple(rows))]
    if without:
        section.blocks.append(Text(f"No gate activations (the cell names no gates): {', '.join(without)}."))
    return section
