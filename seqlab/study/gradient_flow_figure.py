"""Gradient flow as a picture: how fast it fades with distance, early and late in training."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seqlab.study.gradient_flow import FlowRow, GradientFlow, SaturationRow, slack

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = {
    "norm": ("gradient, by autograd", "#0072B2"),
    "product": ("product of the steps' Jacobians", "#000000"),
    "bound": ("bound by the largest singular value", "#D55E00"),
    "forget": ("what the forget (GRU: update) gate keeps", "#009E73"),
    "terms": ("this leaf's Jacobian alone (LSTM: four terms)", "#CC79A7"),
}
"""What a curve is, and its colour (Okabe & Ito)."""
_GATES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_MOST_PLACES = 6
"""Layers and directions that are drawn; the file has all."""
_LOWEST = 1e-300


def draw_flow(flow: GradientFlow, title: str = "") -> "Figure":
    """Draw a row for each layer and direction, a panel for each leaf of the state, and one for the gates.

    Args:
        flow: what was measured; it must have rows.
        title: whose it is.
    """
    from matplotlib.figure import Figure

    places = list(dict.fromkeys((layer, direction) for layer, direction, _ in flow.places))
    shown = places[:_MOST_PLACES]
    leaves = list(dict.fromkeys(leaf for _, _, leaf in flow.places))
    panels = len(leaves) + bool(flow.saturation)
    figure = Figure(figsize=(1.2 + 4.3 * panels, 1.5 + 3.8 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), panels, squeeze=False)
    for line, (layer, direction) in zip(grid, shown, strict=True):
        for axes, leaf in zip(line, leaves, strict=False):
            _panel(axes, flow, layer, direction, leaf)
        if flow.saturation:
            _saturation(line[-1], flow, layer, direction, legend=layer == shown[0][0])
    left_out = f" ({len(places) - len(shown)} more in the file)" if len(shown) < len(places) else ""
    figure.suptitle(f"How far back the gradient reaches{': ' if title else ''}{title}{left_out}", fontsize=12)
    _legend(figure, flow)
    return figure


def _panel(axes: "Axes", flow: GradientFlow, layer: int, direction: str, leaf: str) -> None:
    early, late = flow.steps[0], flow.steps[-1]
    notes = []
    for step, style in ((early, "--"), (late, "-")) if early < late else ((late, "-"),):
        rows = flow.curve(step, layer, direction, leaf)
        for column, (_, colour) in COLUMNS.items():
            _line(axes, rows, column, colour, style)
        notes += _slack(rows, "early" if step < late else "late")
    axes.set_yscale("log")
    axes.set_xlabel("steps back from the last one")
    if notes:
        axes.text(0, -0.2, "\n".join(notes), transform=axes.transAxes, fontsize=7.5, va="top")
    axes.set_ylabel(f"norm of the loss's gradient to {leaf}")
    axes.set_title(f"layer {layer}, {direction}, state {leaf}", fontsize=10, loc="left")
    axes.grid(visible=True, alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)


def _line(axes: "Axes", rows: Sequence[FlowRow], column: str, colour: str, style: str) -> None:
    pairs = [(row.distance, getattr(row, column)) for row in rows]
    known = [(distance, value) for distance, value in pairs if value is not None]
    if not known:
        return
    where = [distance for distance, _ in known]
    values = [value if _LOWEST < value < math.inf else math.nan for _, value in known]
    if column == "product":  # it lies on the norm where nothing else adds to that
        axes.plot(where, values, ".", color=colour, markersize=4, markevery=max(1, len(where) // 20), zorder=3)
    elif column == "norm":
        axes.plot(where, values, color=colour, linestyle=style, linewidth=2.6, alpha=0.7)
    else:
        axes.plot(where, values, color=colour, linestyle=style, linewidth=1.4)


def _slack(rows: Sequence[FlowRow], when: str) -> list[str]:
    """Say how many times the gradient the bound is, or what the forget gates alone would leave."""
    lines = []
    for column, what in (("bound", "slack of the bound"), ("forget", "gates alone"), ("terms", "leaf alone")):
        found = slack(rows, column)
        if found is not None and found[0]:
            distance, power = found
            each = 10 ** (power / distance)
            lines.append(f"{when}: {what} {_times(power)} the gradient at {distance} steps ({each:.3g}x a step)")
    return lines


def _times(power: float) -> str:
    return f"{10**power:.3g}x" if abs(power) < 4 else f"1e{power:+.0f}x"


def _saturation(axes: "Axes", flow: GradientFlow, layer: int, direction: str, *, legend: bool) -> None:
    """Draw the shares of each gate over training."""
    names = list(dict.fromkeys(row.gate for row in flow.saturation))
    for name, colour in zip(names, _GATES, strict=False):
        rows = [row for row in flow.saturation if (row.layer, row.direction, row.gate) == (layer, direction, name)]
        rows.sort(key=lambda row: row.step)
        _shares(axes, rows, name, colour)
    axes.set_xscale("symlog", linthresh=10)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("steps of training")
    axes.set_ylabel("share of activations")
    axes.set_title(f"layer {layer}, {direction}: saturation", fontsize=10, loc="left")
    axes.grid(visible=True, alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        axes.legend(frameon=False, fontsize=7)


def _shares(axes: "Axes", rows: Sequence[SaturationRow], name: str, colour: str) -> None:
    steps = [row.step for row in rows]
    axes.plot(steps, [row.high for row in rows], color=colour, marker="^", markersize=4, label=f"{name}, high end")
    low = [row.low for row in rows]
    axes.plot(steps, low, color=colour, marker="v", markersize=4, linestyle="--", label=f"{name}, low end")


def _legend(figure: "Figure", flow: GradientFlow) -> None:
    from matplotlib.lines import Line2D

    there = [name for name in COLUMNS if any(getattr(row, name) is not None for row in flow.rows)]
    handles: list[Any] = []
    for name in there:
        what, colour = COLUMNS[name]
        look = {"marker": ".", "linestyle": ""} if name == "product" else {"linewidth": 2.6 if name == "norm" else 1.4}
        handles.append(Line2D([], [], color=colour, label=what, **look))
    if len(flow.steps) > 1:
        handles.append(Line2D([], [], color="0.4", linestyle="--", label=f"early: step {flow.steps[0]:,}"))
    handles.append(Line2D([], [], color="0.4", label=f"late: step {flow.steps[-1]:,}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
