"""The files of gradient flow are written, read back, survive a crash, and are drawn."""

import math

import pytest

from seqlab.study.gradient_flow import FLOW, SATURATION, FlowRow, FlowWriter, SaturationRow, read, slack
from seqlab.study.gradient_flow_figure import draw_flow
from seqlab.study.plotting import save_figure


def rows(step, far=4):
    lines = []
    for distance in range(far):
        fades = 0.5**distance
        lines.append(FlowRow(step, 0, "forward", "h", distance, fades, fades, 2.0**distance))
        lines.append(FlowRow(step, 0, "forward", "c", distance, fades, None, None, 0.9 * fades, fades))
    return lines


def shares(step):
    return [SaturationRow(step, 0, "forward", "forget", 0.25, 1 / 3)]


def test_what_is_written_is_read(tmp_path):
    assert read(tmp_path) is None
    writer = FlowWriter(tmp_path)
    writer.add(rows(0), shares(0))
    writer.add(rows(10), shares(10))
    header = (tmp_path / FLOW).read_text("utf-8").split("\n")[0]
    assert header == "step,layer,direction,state,distance,norm,product,bound,forget,terms"
    assert (tmp_path / SATURATION).read_text("utf-8").startswith("step,layer,direction,gate,low,high\n")
    flow = read(tmp_path)
    assert list(flow.rows) == [*rows(0), *rows(10)]
    assert flow.steps == [0, 10]
    assert flow.places == [(0, "forward", "h"), (0, "forward", "c")]
    assert [row.norm for row in flow.curve(10, state="c")] == [1, 0.5, 0.25, 0.125]
    assert flow.gates(10)[0].high == pytest.approx(1 / 3)


def test_a_run_that_goes_on_does_not_write_twice(tmp_path):
    writer = FlowWriter(tmp_path)
    for step in (0, 10, 20):
        writer.add(rows(step), shares(step))
    with (tmp_path / FLOW).open("a", encoding="utf-8") as file:
        file.write("30,0,forw")  # a crash
    assert read(tmp_path).steps == [0, 10, 20]
    FlowWriter(tmp_path, done=15).add(rows(20), shares(20))
    assert list(read(tmp_path).rows) == [*rows(0), *rows(10), *rows(20)]
    FlowWriter(tmp_path)
    assert read(tmp_path).rows == ()


def test_odd_numbers_and_damaged_lines(tmp_path):
    FlowWriter(tmp_path).add([FlowRow(0, 0, "forward", "h", 0, 1e-300, None, math.inf)], [])
    with (tmp_path / FLOW).open("a", encoding="utf-8") as file:
        file.write("0,0,forward,h,x,1,,,,\n0,0,forward,h,1,,,,,\nshort\n")
    (row,) = read(tmp_path).rows
    assert (row.norm, row.bound) == (1e-300, math.inf)


def test_the_slack_is_taken_where_both_are_known():
    curve = [row for row in rows(0) if row.state == "h"]
    distance, power = slack(curve, "bound")
    assert (distance, power) == (3, pytest.approx(math.log10(2.0**3 / 0.5**3)))
    assert slack(curve, "forget") is None
    endless = [*curve, FlowRow(0, 0, "forward", "h", 4, 0.0, 0.0, math.inf)]
    assert slack(endless, "bound")[0] == 3


def test_the_figure_states_the_slack(tmp_path):
    writer = FlowWriter(tmp_path)
    for step in (0, 10):
        writer.add([*rows(step), FlowRow(step, 0, "forward", "h", 4, 0.0, 0.0, math.inf)], shares(step))
    figure = draw_flow(read(tmp_path), "a test")
    said = "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert "late: slack of the bound 64x the gradient at 3 steps (4x a step)" in said
    assert "early: gates alone 0.9x the gradient at 3 steps" in said
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()][-2:] == ["early: step 0", "late: step 10"]
    for name in ("flow.png", "flow.svg"):
        save_figure(figure, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5_000
