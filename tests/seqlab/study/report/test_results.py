"""Results of a report: validation chooses and ranks, intervals and horizons follow their definitions."""

import copy
import csv
import json
import math
import random
import re

import pytest

from seqlab.runs.scores import deciding_verdict
from seqlab.study.compare import compare, read_sides
from seqlab.study.intervals import Interval, Range, student_interval
from seqlab.study.report.figures import best_labels, measure_horizon
from seqlab.study.report.horizons import draw_horizons, interval, measured
from seqlab.study.report.reach import draw_reach
from seqlab.study.report.reading import collect
from seqlab.study.report.runs import Run, label_runs
from seqlab.study.report.sections import result_sentence
from seqlab.study.report.writer import results_csv

from .sweep_folders import curve_of, horizon_of, page_of, points_of


def without_distances(record, **cells):
    """Return runs of ``task=names``: by cell the validation scores and the verdict."""
    made = []
    for cell, (scores, verdict) in cells.items():
        for seed, score in enumerate(scores):
            made.append(record(cell, 4, seed, score + 0.01, score))
            made[-1]["config"]["task"], made[-1]["tables"] = {"name": "names", "split_seed": 0}, {}
            made[-1]["sequence_length_means"], made[-1]["best"]["verdict"] = "maximum", verdict
            made[-1]["chance"]["test"]["accuracy"] = 0.25
    return made


@pytest.fixture
def said(sweep, record):
    """Return the result sentence of runs of a task without distances."""
    names = map(str, range(9))
    return lambda **cells: result_sentence(
        "names", points_of(sweep(next(names), without_distances(record, **cells))), []
    )


def test_nothing_is_best_if_nothing_learned(said):
    text = said(rnn=([0.2, 0.3], "at chance"), gru=([0.1, 0.1], "at chance"))
    assert text.startswith("On names, no setting is better than the input-independent baseline (0.25); test accuracy: ")
    assert "best" not in text
    assert said(gru=([0.2], "at chance")) == (
        "On names, gru is no better than the input-independent baseline (0.25); test accuracy: gru 0.21 (1 seed)."
    )
    assert "baseline (0.25) by more than the noise of the validation split" in said(gru=([1.0], "at chance"))


def test_no_row_is_named_where_none_learned(sweep, record):
    """Neither by the result of a search over distances, nor by a comparison of two sets."""
    made = [record(cell, at, 0, 0.1, 0.1 + at / 1000) for cell in ("rnn", "gru") for at in (4, 8)]
    for each in made:
        each["best"]["verdict"] = "at chance"
    folder = sweep("idle", made)
    text = result_sentence("first", points_of(folder), [])
    assert text == "On first, no row learned: none is better than the input-independent baseline at any distance."
    found = compare(*read_sides("gru", "rnn", folder), within_one=True).verdict()
    assert found.startswith("validation accuracy: neither gru nor rnn is better than the input-independent baseline (")


def test_a_single_setting_is_not_the_best(said):
    text = said(rnn=([0.8, 0.9], "learning"), gru=([0.1, 0.1], "at chance"))
    assert text.startswith("On names, only rnn is better than the input-independent baseline (0.25); test accuracy: rn")
    assert "best" not in text
    assert said(rnn=([0.5, 0.7], "learning")) == (
        "On names, rnn has a test accuracy of 0.61 ± 0.14 (2 seeds); the input-independent baseline scores 0.25."
    )
    text = said(rnn=([0.5], "learning"), gru=([0.7], "learning"))
    assert text.startswith("On names, gru has the highest validation accuracy; its test accuracy is 0.71 (1 seed);")
    assert "best" not in text


def test_the_best_of_several_is_named_with_the_next(said):
    close = said(rnn=([0.5, 0.7], "learning"), gru=([0.55, 0.7], "learning"), mgu=([0.1, 0.1], "at chance"))
    assert "gru has the best validation accuracy" in close
    assert "closer in validation than one standard deviation over the seeds" in close
    assert close.endswith("no better than the input-independent baseline (0.25): mgu.")
    assert "closer" not in said(rnn=([0.5, 0.51], "learning"), gru=([0.7, 0.71], "learning"))


def test_limitations_and_baseline_are_stated(sweep, record):
    page = page_of(sweep("one", without_distances(record, rnn=([0.5], "learning"), gru=([0.1], "at chance"))))
    assert (
        page.index("On names,")
        < page.index("Every row has a single seed: run more seeds")
        < page.index("Test accuracy: a mark")
    )
    assert "Baseline Best input-independent prediction, test accuracy: 0.25. 1 of 2 rows validate better" in page


def test_the_linear_baseline_has_a_column(sweep, record):
    made = without_distances(record, rnn=([0.5, 0.7], "learning"), gru=([0.1, 0.3], "at chance"))
    assert "linear baseline" not in page_of(sweep("none", made))
    for number, each in enumerate(made):
        each["linear"] = {"test": {"accuracy": 0.625 + number % 2 / 8}, "model": {"name": "bow"}}
    folder = sweep("some", made)
    page = page_of(folder)
    assert "linear baseline" in page
    assert page.count("0.688 ± 0.088") == 2
    labels = label_runs(collect([folder]).runs)
    (first, *_) = csv.DictReader(results_csv(labels, ()).splitlines())
    assert first["linear/accuracy"] == "0.625"


def noisy(records):
    """Replace scores of the test split by random ones, and its verdict by any."""
    draw = random.Random(0)
    for record in (made := copy.deepcopy(records)):
        record["metrics"]["test"] = {name: draw.random() for name in record["metrics"]["test"]}
        record["chance"]["test"] = {name: draw.random() for name in record["chance"]["test"]}
        record["verdict"] = draw.choice(["solved", "learning", "at chance"])
    return made


def test_ranks_and_comparisons_do_not_read_the_test_split(sweep, record):
    scores = {cell: ([0.8 - place / 10] * 2, "learning") for place, cell in enumerate(("rnn", "gru", "lstm"))}
    made = without_distances(record, **scores, mgu=([0.5, 0.5], "at chance"))
    folders = sweep("a", made), sweep("b", noisy(made))
    said = [result_sentence("names", points_of(folder), []) for folder in folders]
    assert said[0] != said[1]  # the test scores are shown
    plain = [re.sub(r"[\d.]*\d( ± [\d.]*\d)?", "#", text) for text in said]
    assert plain[0] == plain[1]
    assert said[0].startswith("On names, rnn has the best validation accuracy; its test accuracy is 0.81")
    first, second = (compare(*read_sides("gru", "rnn", folder), within_one=True) for folder in folders)
    assert first.interval == second.interval
    assert first.verdict() == second.verdict()
    assert first.verdict().startswith("validation accuracy: rnn is better than gru by 0.1")
    assert first.test_summary() != second.test_summary()
    idle = compare(*read_sides("mgu", "rnn", folders[1]), within_one=True)
    assert "better than" in idle.verdict()
    assert idle.below_baseline() == ["mgu: 2 of 2 runs are no better than the input-independent baseline"]


def test_horizons_and_rates_do_not_read_the_test_split(sweep, record):
    """Horizons of 4, 8 and 16 in validation, at one of two learning rates."""
    far = {"rnn": 4, "gru": 8, "lstm": 16}
    made = [
        record(cell, at, 0, 0.5, 1.0 if at <= horizon and rate == 0.01 else 0.3, optimizer__lr=rate)
        for cell, horizon in far.items()
        for at in (4, 8, 16)
        for rate in (0.01, 0.1)
    ]
    first, second = (points_of(sweep(name, runs)) for name, runs in (("a", made), ("b", noisy(made))))
    assert measured(first) == measured(second)
    horizons = {row["label"]: (row["horizon"], row["upper"]) for row in measured(first)}
    assert horizons == {"rnn": (4, 8), "gru": (8, 16), "lstm": (16, None)}
    assert {point.runs[0].learning_rate for point in (*first, *second) if point.solved} == {0.01}
    assert best_labels(first, most=1) == best_labels(second, most=1) == ["lstm"]


def test_the_rate_has_the_best_validation_score_among_those_with_most_seeds(sweep, record):
    worse = [record(seed=seed, score=0.9, valid=0.2, optimizer__lr=0.1) for seed in (0, 1)]
    better = [record(seed=seed, score=0.4 + seed / 10, valid=0.8, optimizer__lr=0.2) for seed in (0, 1)]
    lucky = [record(seed=5, score=0.99, valid=0.99, optimizer__lr=0.3)]
    (point,) = points_of(sweep("a", [*worse, *better, *lucky]))
    assert point.scores == [0.4, 0.5]
    assert point.learning_rates == (0.1, 0.2, 0.3)
    assert point.mean == pytest.approx(0.45)


def test_the_horizon_is_where_two_thirds_of_the_seeds_solve(sweep, record):
    scores = {4: (1, 1, 1), 8: (1, 0, 1), 16: (0, 1, 0), 32: (0, 0, 0), 64: (0, 0, 0)}
    made = [record("lstm", at, seed, float(each)) for at, row in scores.items() for seed, each in enumerate(row)]
    found = measure_horizon(points_of(sweep("a", made)))
    assert (found["horizon"], found["lower"], found["upper"], found["largest"]) == (8, 4, 32, 64)
    nothing = measure_horizon(points_of(sweep("b", [record(score=0.1)])))
    assert (nothing["horizon"], nothing["lower"], nothing["upper"]) == (None, None, 4)
    everything = measure_horizon(points_of(sweep("c", [record(score=1.0)])))
    assert (everything["horizon"], everything["lower"], everything["upper"]) == (4, 4, None)


@pytest.mark.parametrize(
    ("valid", "verdict"), [(1.0, "solved"), (0.99, "solved"), (0.98, "learning"), (0.2, "at chance"), (0.9, "learning")]
)
def test_the_deciding_verdict_follows_the_validation_score(record, valid, verdict):
    """On 16 examples, three standard errors above a baseline of 1/8 are 0.373."""
    for each in (record(score=0.0, valid=valid), *noisy([record(score=0.0, valid=valid)])):
        del each["best"]["verdict"]  # as of an older version
        assert deciding_verdict(each) == verdict


def test_a_task_without_bounds_has_its_own_verdict(record):
    made = record(valid=0.5)
    made["tables"] = {}
    for verdict in ("solved", "learning", "at chance"):
        made["best"]["verdict"] = verdict
        assert deciding_verdict(made) == verdict
    del made["best"]["verdict"]
    made["verdict"] = "learning"
    assert deciding_verdict(made) == "learning"


def test_an_interval_stays_in_the_range_of_its_metric(sweep, record):
    """Student's interval of 0.5 and 1 is -2.43 to 3.93."""
    found = student_interval([0.5, 1.0])
    assert (found.low, found.high) == pytest.approx((-2.4265, 3.9265), abs=1e-3)
    cut = Range(0.0, 1.0).clip(found)
    assert (cut.low, cut.mean, cut.high) == (0.0, 0.75, 1.0)
    assert Range(0.0).clip(found).high == found.high
    assert Range().clip(found) == found
    assert Range(0.0, 1.0).of_differences() == Range(-1.0, 1.0)
    assert Range(0.0).of_differences() == Range()
    assert Range(0.0, 1.0).clip(Interval(0.5, None, None, 1)) == Interval(0.5, None, None, 1)
    page = page_of(sweep("wide", [record(seed=seed, score=score) for seed, score in enumerate((0.5, 1.0))]))
    assert "0 to 1" in page
    assert "-2.4" not in page


def test_ranges_are_those_of_torchmetrics(record):
    run = Run(None, None, record())
    assert run.record["ranges"]["accuracy"] == [0.0, 1.0]
    assert run.metric_range() == Range(0.0, 1.0)
    assert run.metric_range("loss") == Range(0.0)
    older = {key: value for key, value in record().items() if key != "ranges"}
    assert Run(None, None, older).metric_range() == Range(0.0, 1.0)
    assert Run(None, None, older).metric_range("perplexity") == Range(1.0)


@pytest.mark.parametrize(
    ("lower", "upper", "text"),
    [
        (8, 16, "8 to 16"),
        (2048, None, ">= 2,048 (upper bound not reached)"),
        (None, 15, "< 15"),
        (None, None, "not bounded"),
    ],
)
def test_an_interval_of_distances_with_open_ends(lower, upper, text):
    assert interval({"lower": lower, "upper": upper}) == text


def test_a_row_without_a_horizon_has_no_solid_line():
    ends = {"nothing": (None, None, 15), "little": (None, None, 30), "some": (15, 15, 30), "all": (60, 60, None)}
    rows = [
        {"label": label, "horizon": horizon, "lower": lower, "upper": upper, "smallest": 15, "largest": 60}
        for label, (horizon, lower, upper) in ends.items()
    ]
    (axes,) = draw_horizons("x", rows, "Horizons").figure.axes
    spans = {label: [] for label in ends}
    for line in axes.lines:
        label = [*ends][len(ends) - 1 - round(line.get_ydata()[0])]
        spans[label].append((line.get_linestyle(), *map(float, line.get_xdata())))
    assert spans["nothing"] == [("-", 15.0)]  # a cross
    assert spans["little"] == [(":", 15.0, 30.0)]
    assert ("-", 15.0, 30.0) in spans["some"]
    assert ("-", 60.0, 60.0) in spans["all"]
    left, right = axes.get_xlim()
    marks = [value for line in axes.lines for value in line.get_xdata()]
    span = math.log(right / left)
    assert math.log(min(marks) / left) / span > 0.08  # room for half a mark, and an arrow
    assert math.log(right / max(marks)) / span > 0.08
    arrows = [text for text in axes.texts if text.arrow_patch is not None]
    assert sorted(text.xy for text in arrows) == [(15, 2), (60, 0)]


def test_a_row_that_solved_nothing_has_no_bar():
    """In the figure of protocols, where each row has a bar up to its horizon."""
    rows = [
        {"task": "first", "label": label, "protocol": protocol, "horizon": horizon, "lower": None, "upper": None}
        for label, horizon in (("rnn", None), ("gru", 40))
        for protocol in ("fixed", "curriculum")
    ]
    (axes,) = draw_reach("x", rows).figure.axes
    bars = [bar for bar in axes.patches if bar.get_width() > 0]
    assert sorted(round(bar.get_y() + bar.get_height() / 2) for bar in bars) == [0, 0]  # gru, the lower row
    assert [text.get_text() for text in axes.texts].count("none") == 2


def test_learning_curves_are_in_a_report_of_curricula_alone(sweep, record):
    made = record("gru", 4, 0, 0.9)
    made["lengths"] = {"protocol": "curriculum", "test": 8}
    folder = sweep("growing", [made])
    horizon_of(folder)
    path = folder / "horizon.json"
    search = json.loads(path.read_text())
    search["rows"][0]["protocol"] = "curriculum"
    path.write_text(json.dumps(search))
    curve_of(folder / "run_0")
    page = page_of(folder)
    assert page.index("How far each model reaches") < page.index("Learning curves: first") < page.index("Setup")
    assert "Validation accuracy during training" in page
