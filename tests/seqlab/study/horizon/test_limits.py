"""Causes of a limit, by rules on run folders, and the interventions that are proposed."""

import json
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import seqlab
from seqlab.plugins import find, plugins
from seqlab.study.gradient_flow import FLOW, SATURATION
from seqlab.study.horizon.limits import Diagnostics, explain_limit, propose_intervention, read_diagnostics
from seqlab.study.horizon.search import Finding
from seqlab.study.horizon.settings import expand_rows, read_settings


def run_folder(folder, norms=(), gates=(), scores=(), verdict="at chance"):
    """Write the files of a run: ``norms`` by (step, state), ``gates`` by (step, gate), validation scores by epoch."""
    (folder / "curves").mkdir(parents=True)
    record = {
        "verdict": verdict,
        "best": {"monitor": "accuracy", "mode": "max"},
        "tables": {"bounds": [{"chance": 0.25, "solved": 0.99}]},
    }
    (folder / "results.json").write_text(json.dumps(record))
    flow = [
        f"{step},0,forward,{state},{distance},{norm},,,,"
        for step, state, by_distance in norms
        for distance, norm in enumerate(by_distance)
    ]
    tables = {
        FLOW: ("step,layer,direction,state,distance,norm,product,bound,forget,terms", flow),
        SATURATION: ("step,layer,direction,gate,low,high", [f"{s},0,forward,{g},{lo},{hi}" for s, g, lo, hi in gates]),
        "curves/metrics.csv": ("step,valid/accuracy", [f"{step},{score}" for step, score in enumerate(scores)]),
    }
    for name, (head, rows) in tables.items():
        if rows:
            (folder / name).write_text("\n".join([head, *rows, ""]))
    return folder


FLAT = [0.25] * 8
FLOWS, VANISHES = [1.0, 0.9, 0.8], [1.0, 1e-3, 1e-6]


@pytest.mark.parametrize(
    ("files", "cause", "figure"),
    [
        ({"norms": [(0, "h", VANISHES)], "scores": FLAT}, "gradient", "vanishes: at the first step it is 1.0e-06"),
        ({"norms": [(0, "h", [1.0, 1e3, 1e6])], "scores": FLAT}, "gradient", "explodes"),
        ({"norms": [(0, "h", VANISHES)], "gates": [(9, "h", 0.3, 0.4)], "scores": FLAT}, "saturation", "70%"),
        (
            {"norms": [(0, "h", VANISHES)], "gates": [(0, "h", 0.3, 0.4), (9, "h", 0.1, 0.2)], "scores": FLAT},
            "gradient",
            "30%",
        ),
        ({"norms": [(0, "h", VANISHES), (0, "c", FLOWS)], "scores": FLAT}, "unknown", "3 of 3 runs"),
        ({"norms": [(0, "h", FLOWS), (9, "h", VANISHES)], "scores": FLAT}, "unknown", "3 of 3 runs"),
        ({"norms": [(0, "h", FLOWS)], "scores": [*FLAT, 0.3, 0.4, 0.5, 0.6]}, "budget", "41%"),
        (
            {"norms": [(0, "h", FLOWS)], "scores": [0.25, 0.6, 0.6, 0.6, 0.6, 0.6], "verdict": "learning"},
            "capacity",
            "3 of 3 runs",
        ),
        ({"scores": FLAT}, "unknown", "not measured"),
    ],
)
def test_each_rule_names_its_figures(tmp_path, files, cause, figure):
    runs = [read_diagnostics(run_folder(tmp_path / str(seed), **files)) for seed in range(3)]
    found, reason = explain_limit(runs, reached_the_end=False, budget_limited=None)
    assert found == cause
    assert figure in reason


def test_no_limit_and_a_limit_of_the_budget_need_no_measurement():
    assert explain_limit([], reached_the_end=True, budget_limited=None)[0] == "none"
    vanished = Diagnostics(1e-9, (0.9, "h"), 0.0, "at chance")
    assert explain_limit([vanished], reached_the_end=False, budget_limited=True)[0] == "budget"
    assert explain_limit([], reached_the_end=False, budget_limited=False)[0] == "unknown"


def test_a_truncated_file_is_read_up_to_its_last_whole_row(tmp_path):
    folder = run_folder(tmp_path / "run", norms=[(0, "h", VANISHES)], scores=FLAT)
    with (folder / FLOW).open("a") as file:
        file.write("9,0,forward,h,0,1.0\n9,0,forw")
    assert read_diagnostics(folder).ratio == pytest.approx(1e-6)


FOUND = Finding(horizon=8, learning_rate=0.01, lower=7, upper=20, finished=True)


def proposal(arguments, cause, **settings):
    """Return the first row, the text of its proposal, and the row of the proposed command."""
    own = read_settings(settings)
    row = expand_rows([each for each in arguments if not each.startswith("hydra")], own)[0]
    proposed = propose_intervention(row, cause, FOUND, own, arguments)
    if proposed is None:
        return row, None, None
    python, module, package, flag, *overrides = shlex.split(proposed["command"])
    assert (python, module, package, flag) == ("python", "-m", "seqlab", "-m")
    hydra = OverridesParser.create().parse_overrides([each for each in overrides if each.startswith("hydra.sweeper.")])
    changed = {each.key_or_group.rpartition(".")[2]: each.value() for each in hydra}
    (other,) = expand_rows(
        [each for each in overrides if not each.startswith("hydra")], read_settings(settings | changed)
    )
    return row, proposed["text"], other


def test_an_rnn_may_become_an_irnn():
    arguments = ["hydra/sweeper=horizon", "cell=rnn,lstm", "task=first", "hydra.sweeper.start=5"]
    row, text, other = proposal(arguments, "gradient")
    assert "IRNN" in text
    assert (row.config.cell.initialisation, other.config.cell.initialisation) == ("torch", "identity")
    assert other.config.cell.name == "rnn"


def test_an_lstm_may_start_with_a_forget_bias_for_the_distance():
    _, text, other = proposal(["cell=lstm", "task=first"], "saturation")
    assert "forget bias" in text
    assert other.config.cell.forget_bias == pytest.approx(3.0)  # ln 20
    assert "forget" not in proposal(["cell=lstm", "cell.forget_bias=chrono", "task=first"], "saturation")[1]


def test_a_row_of_an_experiment_is_selected_by_its_label():
    rows = {"small": ["cell=gru", "cell.hidden_size=5"], "large": ["cell=gru", "cell.hidden_size=50"]}
    _, _, other = proposal(["task=first"], "capacity", rows=rows)
    assert (other.label, other.hidden_size) == ("small", 10)


def test_a_cell_without_remedy_trains_longer_and_no_limit_needs_no_change():
    row, text, other = proposal(["cell=indrnn", "task=first"], "gradient")
    assert "training" in text
    assert other.config.trainer.max_epochs == 4 * row.config.trainer.max_epochs
    assert proposal(["cell=indrnn", "task=first"], "none")[1] is None


@pytest.mark.parametrize("name", plugins("cell"))
def test_a_cell_accepts_its_own_remedy_and_then_has_no_other(name):
    target = find("cell", name).load()
    remedy = target.remedy("gradient", 50, {})
    if remedy is not None:
        assert isinstance(target(3, 4, **remedy.options), seqlab.Cell)
        assert target.remedy("gradient", 50, remedy.options) is None
