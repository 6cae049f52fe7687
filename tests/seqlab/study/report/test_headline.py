"""What a report says at the head of a task, and how it draws rows that solve little or nothing."""

import math

import pytest

from seqlab.study.intervals import Interval, Range, student
from seqlab.study.report.curves import read_all
from seqlab.study.report.figures import points
from seqlab.study.report.horizons import interval, reaches
from seqlab.study.report.reading import collect
from seqlab.study.report.runs import Run, labels
from seqlab.study.report.sections import headline

from .made import flow_of, page_of


@pytest.fixture
def said(sweep, record):
    """Say the headline of runs of a task without distances: by cell the validation scores and the verdict."""

    names = map(str, range(9))

    def say(**cells):
        made = []
        for cell, (scores, verdict) in cells.items():
            for seed, score in enumerate(scores):
                made.append(record(cell, 4, seed, score + 0.01, score))
                made[-1]["config"]["task"], made[-1]["tables"] = {"name": "names", "split_seed": 0}, {}
                made[-1]["sequence_length_means"], made[-1]["best"]["verdict"] = "maximum", verdict
                made[-1]["chance"]["test"]["accuracy"] = 0.25
        found = collect([sweep(next(names), made)])
        return headline("names", points(labels(found.runs)), [])

    return say


def test_nothing_wins_over_what_learned_nothing(said):
    text = said(rnn=([0.2, 0.3], "at chance"), gru=([0.1, 0.1], "at chance"))
    assert text.startswith("On names, no setting is better than the input-independent baseline (0.25); test accuracy: ")
    assert "best" not in text
    one = said(gru=([0.2], "at chance"))
    assert one == (
        "On names, gru is no better than the input-independent baseline (0.25); test accuracy: gru 0.21 (1 seed)."
    )


def test_better_by_less_than_noise_is_said_to_be_so(said):
    text = said(gru=([1.0], "at chance"))
    assert "no better than the input-independent baseline (0.25) by more than the noise of the validation split" in text


def test_one_that_learned_is_named_alone(said):
    text = said(rnn=([0.8, 0.9], "learning"), gru=([0.1, 0.1], "at chance"))
    assert text.startswith(
        "On names, only rnn is better than the input-independent baseline (0.25); test accuracy: rnn"
    )
    assert "best" not in text


def test_a_single_setting_or_run_is_not_the_best(said):
    assert said(rnn=([0.5, 0.7], "learning")) == (
        "On names, rnn has a test accuracy of 0.61 ± 0.14 (2 seeds); the input-independent baseline scores 0.25."
    )
    text = said(rnn=([0.5], "learning"), gru=([0.7], "learning"))
    assert text.startswith("On names, gru has the highest validation accuracy; its test accuracy is 0.71 (1 seed);")
    assert "one run each: run more seeds" in text
    assert "best" not in text


def test_the_best_of_several_is_told_with_how_close_it_is(said):
    close = said(rnn=([0.5, 0.7], "learning"), gru=([0.55, 0.7], "learning"), mgu=([0.1, 0.1], "at chance"))
    assert "gru has the best validation accuracy" in close
    assert "closer in validation than one standard deviation over the seeds" in close
    assert close.endswith("no better than the input-independent baseline (0.25): mgu.")
    assert "closer" not in said(rnn=([0.5, 0.51], "learning"), gru=([0.7, 0.71], "learning"))


def test_an_interval_stays_in_the_range_of_its_metric(sweep, record):
    """Of 0.5 and 1 Student's goes from -2.43 to 3.93; of 0.25 and 0.75 in loss from -2.68 to 3.68."""
    found = student([0.5, 1.0])
    assert (found.low, found.high) == pytest.approx((-2.4265, 3.9265), abs=1e-3)
    cut = Range(0.0, 1.0).cut(found)
    assert (cut.low, cut.mean, cut.high) == (0.0, 0.75, 1.0)
    assert Range(0.0).cut(found).high == found.high
    assert Range().cut(found) == found
    assert Range(0.0, 1.0).of_differences == Range(-1.0, 1.0)
    assert Range(0.0).of_differences == Range()
    assert Range(0.0, 1.0).cut(Interval(0.5, None, None, 1)) == Interval(0.5, None, None, 1)
    page = page_of(sweep("wide", [record(seed=seed, score=score) for seed, score in enumerate((0.5, 1.0))]))
    assert "0 to 1" in page
    assert "-2.4" not in page


def test_ranges_are_those_that_torchmetrics_says(record):
    run = Run(None, None, record())
    assert run.record["ranges"]["accuracy"] == [0.0, 1.0]
    assert run.range() == Range(0.0, 1.0)
    assert run.range("loss") == Range(0.0)
    older = {key: value for key, value in record().items() if key != "ranges"}
    assert Run(None, None, older).range() == Range(0.0, 1.0)
    assert Run(None, None, older).range("perplexity") == Range(1.0)


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


ROWS = {
    "nothing": (None, None, 15),
    "little": (None, None, 30),
    "some": (15, 15, 30),
    "all": (60, 60, None),
}


def test_a_row_that_solved_nothing_is_no_bar():
    rows = [
        {"label": label, "horizon": horizon, "lower": lower, "upper": upper, "smallest": 15, "largest": 60}
        for label, (horizon, lower, upper) in ROWS.items()
    ]
    (axes,) = reaches("x", rows, "Horizons").figure.axes
    spans = {label: [] for label in ROWS}
    for line in axes.lines:
        label = [*ROWS][len(ROWS) - 1 - round(line.get_ydata()[0])]
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


def test_a_cell_without_gates_is_no_damage(sweep, record):
    """Its table of gates is a head alone; a file that is no table is damaged still."""
    folder = sweep("gateless", [record("gru"), record("rnn", 4), record("lstm", 4)])
    for name in ("run_0", "run_1", "run_2"):
        flow_of(folder / name)
    (folder / "run_1" / "curves" / "saturation.csv").write_text("step,layer,direction,gate,low,high\n")
    (folder / "run_2" / "curves" / "saturation.csv").write_text("step,layer\n")
    page = page_of(folder)
    assert "1 damaged" in page
    assert "run_2/curves/saturation.csv" in page
    assert "run_1/curves" not in page
    assert "No gate activations were recorded (the cell names no gates): rnn, lstm." in page
    faults = []
    read_all(collect([folder]).runs, faults)
    assert [fault.place.rpartition("/")[2] for fault in faults] == ["saturation.csv"]
