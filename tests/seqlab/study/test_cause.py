"""The rules by which a limit gets its cause, on run folders as the probe leaves them."""

import json

import pytest

from seqlab.study.horizon.results import FLOW, SATURATION, Signs, explain_limit, read_signs


def run_folder(folder, norms=(), gates=(), scores=(), verdict="at chance"):
    """Write what a run leaves: ``norms`` by (step, leaf), ``gates`` by (step, gate), a validation score each epoch."""
    (folder / "curves").mkdir(parents=True)
    record = {
        "verdict": verdict,
        "best": {"monitor": "accuracy", "mode": "max"},
        "tables": {"bounds": [{"chance": 0.25, "solved": 0.99}]},
    }
    (folder / "results.json").write_text(json.dumps(record))
    rows = [
        f"{step},0,forward,{leaf},{distance},{norm},,,," for step, leaf, by in norms for distance, norm in enumerate(by)
    ]
    if norms:
        head = "step,layer,direction,state,distance,norm,product,bound,forget,terms"
        (folder / FLOW).write_text("\n".join([head, *rows, ""]))
    if gates:
        lines = [f"{step},0,forward,{gate},{low},{high}" for step, gate, low, high in gates]
        (folder / SATURATION).write_text("\n".join(["step,layer,direction,gate,low,high", *lines, ""]))
    lines = [f"{step},{score}" for step, score in enumerate(scores)]
    (folder / "curves" / "metrics.csv").write_text("\n".join(["step,valid/accuracy", *lines, ""]))
    return folder


FLAT = [0.25] * 8
FLOWS, VANISHES = [1.0, 0.9, 0.8], [1.0, 1e-3, 1e-6]


@pytest.mark.parametrize(
    ("left", "cause", "fragment"),
    [
        ({"norms": [(0, "h", VANISHES)], "scores": FLAT}, "gradient", "vanishes: at the first step it is 1.0e-06"),
        ({"norms": [(0, "h", [1.0, 1e3, 1e6])], "scores": FLAT}, "gradient", "explodes"),
        (
            {"norms": [(0, "h", VANISHES)], "gates": [(9, "h", 0.3, 0.4)], "scores": FLAT},
            "saturation",
            "70% of the activations of h",
        ),
        (
            {"norms": [(0, "h", VANISHES)], "gates": [(0, "h", 0.3, 0.4), (9, "h", 0.1, 0.2)], "scores": FLAT},
            "gradient",
            "no gate is saturated by more than 30%",
        ),
        ({"norms": [(0, "h", VANISHES), (0, "c", FLOWS)], "scores": FLAT}, "unknown", "stayed at chance"),
        ({"norms": [(0, "h", FLOWS), (9, "h", VANISHES)], "scores": FLAT}, "unknown", "stayed at chance"),
        ({"norms": [(0, "h", FLOWS)], "scores": [*FLAT, 0.3, 0.4, 0.5, 0.6]}, "budget", "of the way"),
        (
            {"norms": [(0, "h", FLOWS)], "scores": [0.25, 0.6, 0.6, 0.6, 0.6, 0.6], "verdict": "learning"},
            "capacity",
            "3 of 3 runs stopped improving",
        ),
        ({"scores": FLAT}, "unknown", "the probe was off"),
    ],
)
def test_each_rule_is_told_by_its_figures(tmp_path, left, cause, fragment):
    found = [read_signs(run_folder(tmp_path / str(seed), **left)) for seed in range(3)]
    named, because = explain_limit(found, reached_the_end=False, budget_limited=None)
    assert named == cause
    assert fragment in because


def test_a_limit_that_is_none_and_one_that_the_budget_moves_need_no_probe():
    assert explain_limit([], reached_the_end=True, budget_limited=None)[0] == "none"
    vanished = Signs(1e-9, (0.9, "h"), 0.0, "at chance")
    assert explain_limit([vanished], reached_the_end=False, budget_limited=True)[0] == "budget"
    assert explain_limit([], reached_the_end=False, budget_limited=False)[0] == "unknown"


def test_a_file_that_was_cut_is_read_as_far_as_it_is_whole(tmp_path):
    folder = run_folder(tmp_path / "run", norms=[(0, "h", VANISHES)], scores=FLAT)
    text = (folder / FLOW).read_text()
    (folder / FLOW).write_text(text + "9,0,forward,h,0,1.0\n9,0,forw")
    assert read_signs(folder).ratio == pytest.approx(1e-6)
