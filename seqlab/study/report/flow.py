"""Gradient-flow section of a report, of runs with ``callbacks=gradient_flow``."""

from collections.abc import Mapping, Sequence

from seqlab.study.gradient_flow import GradientFlow
from seqlab.study.gradient_flow_figure import compare_flows, draw_flow, notes
from seqlab.study.report.document import Field, FigureBlock, Section, Table, Text
from seqlab.study.report.figures import Picture, Point
from seqlab.study.report.runs import Run


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
        pictures.append(Picture(f"{name}_flow_{state}", caption, compare_flows(by_label, state, list(runs))))
    for number, (label, flow) in enumerate(by_label.items(), start=1):
        if any(value is not None for row in flow.rows for value in (row.product, row.bound, row.forget, row.terms)):
            picture = draw_flow(flow, compact=True)
            pictures.append(Picture(f"{name}_formulas_{number}", _caption(label, flow), picture))
    return pictures


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
