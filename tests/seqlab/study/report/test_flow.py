"""What the figures of gradient flow say where the gradient has come to an end."""

from seqlab.study.report.flow import Flow, flow_figures


def rows(norms, step=1):
    common = {"step": step, "layer": 0, "direction": "forward", "state": "h"}
    return [
        {**common, "distance": back, "norm": norm, "product": norm, "bound": 1.0} for back, norm in enumerate(norms)
    ]


def test_a_gradient_that_is_nothing_from_somewhere_on_is_told_and_not_cut():
    run = type("Run", (), {"distance": 4})()
    made = {picture.name: picture for picture in flow_figures("flow", [Flow("IRNN", run, rows([1.0, 0.5, 0.0, 0.0]))])}
    (formulas,) = [picture for picture in made.values() if "beside the formulas" in picture.caption]
    assert "From 2 steps back on the measured norm is 0" in formulas.caption
    low, high = formulas.figure.axes[0].get_xlim()
    assert low < 0
    assert high > 3


def test_one_that_arrives_is_not_said_to_end():
    run = type("Run", (), {"distance": 4})()
    captions = " ".join(picture.caption for picture in flow_figures("flow", [Flow("IRNN", run, rows([1.0, 0.5, 0.2]))]))
    assert "the measured norm is 0" not in captions
