"""Files of gradient flow are written, read back and drawn, and survive a crash."""

import math

import pytest

from seqlab.study.gradient_flow import (
    FLOW,
    SATURATION,
    FlowRow,
    FlowWriter,
    GradientFlow,
    SaturationRow,
    read,
    read_rows,
    slack,
)
from seqlab.study.plotting import save_figure
from seqlab.study.report.flow import compare_flows, draw_flow, notes


def rows(step, far=4):
    lines = []
    for distance in range(far):
        norm = 0.5**distance
        lines.append(FlowRow(step, 0, "forward", "h", distance, norm, norm, 2.0**distance))
        lines.append(FlowRow(step, 0, "forward", "c", distance, norm, None, None, 0.9 * norm, norm))
    return lines


def gates(step):
    return [SaturationRow(step, 0, "forward", "forget", 0.25, 1 / 3)]


def test_what_is_written_is_read(tmp_path):
    assert read(tmp_path) is None
    writer = FlowWriter(tmp_path)
    writer.add(rows(0), gates(0))
    writer.add(rows(10), gates(10))
    header = (tmp_path / FLOW).read_text("utf-8").split("\n")[0]
    assert header == "step,layer,direction,state,distance,norm,product,bound,forget,terms"
    assert (tmp_path / SATURATION).read_text("utf-8").startswith("step,layer,direction,gate,low,high\n")
    flow = read(tmp_path)
    assert list(flow.rows) == [*rows(0), *rows(10)]
    assert flow.steps == [0, 10]
    assert flow.places == [(0, "forward", "h"), (0, "forward", "c")]
    assert [row.norm for row in flow.curve(10, state="c")] == [1, 0.5, 0.25, 0.125]
    assert flow.gates(10)[0].high == pytest.approx(1 / 3)


def test_a_resumed_run_does_not_write_twice(tmp_path):
    writer = FlowWriter(tmp_path)
    for step in (0, 10, 20):
        writer.add(rows(step), gates(step))
    with (tmp_path / FLOW).open("a", encoding="utf-8") as file:
        file.write("30,0,forw")  # a crash
    assert read(tmp_path).steps == [0, 10, 20]
    FlowWriter(tmp_path, done=15).add(rows(20), gates(20))
    assert list(read(tmp_path).rows) == [*rows(0), *rows(10), *rows(20)]
    FlowWriter(tmp_path)
    assert read(tmp_path).rows == ()


def test_damaged_lines_are_skipped_or_reported(tmp_path):
    FlowWriter(tmp_path).add([FlowRow(0, 0, "forward", "h", 0, 1e-300, None, math.inf)], [])
    with (tmp_path / FLOW).open("a", encoding="utf-8") as file:
        file.write("short\n0,0,forward,h,x,1,,,,\n0,0,forward,h,1,,,,,\n")
    (row,) = read(tmp_path).rows
    assert (row.norm, row.bound) == (1e-300, math.inf)
    with pytest.raises(ValueError, match="line 4"):
        read_rows(tmp_path / FLOW, FlowRow, strict=True)
    (tmp_path / FLOW).write_text("step,layer\n1,0\n")
    with pytest.raises(ValueError, match="no column direction"):
        read_rows(tmp_path / FLOW, FlowRow, strict=True)


def test_the_slack_is_taken_where_both_are_known():
    curve = [row for row in rows(0) if row.state == "h"]
    assert slack(curve, "bound") == (3, pytest.approx(math.log10(2.0**3 / 0.5**3)))
    assert slack(curve, "forget") is None
    assert slack([*curve, FlowRow(0, 0, "forward", "h", 4, 0.0, 0.0, math.inf)], "bound")[0] == 3


def test_notes_compare_closed_forms_and_name_where_the_gradient_is_zero():
    curve = [row for row in rows(0) if row.state == "h"]
    assert notes(curve) == ["singular-value bound: 64 times the gradient after 3 steps (4 per step)"]
    zero = notes([*curve, FlowRow(0, 0, "forward", "h", 4, 0.0, 0.0, math.inf)])[-1]
    assert zero == "the gradient is 0 from 4 steps back on, which a logarithmic axis does not show"
    assert "forget-gate product: 90 % of the gradient after 3 steps (0.965 per step)" in notes(
        [row for row in rows(0) if row.state == "c"]
    )


def test_figures(tmp_path):
    zero = FlowRow(10, 0, "forward", "h", 4, 0.0, 0.0, math.inf)
    flow = GradientFlow((*rows(0), *rows(10), zero), (*gates(0), *gates(10)))
    figure = draw_flow(flow, "a test")
    assert len(figure.axes) == 3
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    assert "late: singular-value bound" in "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert [text.get_text() for text in figure.legends[0].get_texts()][-2:] == ["early: step 0", "late: step 10"]
    for name in ("flow.png", "flow.svg"):
        save_figure(figure, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5_000
    compact = draw_flow(flow, compact=True)
    assert len(compact.axes) == 2
    low, high = compact.axes[0].get_xlim()
    assert low < 0
    assert high > 4  # the distances without a gradient are in the figure
    compared = compare_flows({"lstm": flow, "rnn": GradientFlow(tuple(rows(0)))}, "h", ["lstm", "rnn"])
    early, late = compared.axes
    assert [list(line.get_ydata()) for line in late.lines] == 2 * [[1, 0.5, 0.25, 0.125]]
    assert late.get_ylim() == early.get_ylim()
