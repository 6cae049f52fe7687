"""What chooses reads the validation split: with noise in place of every test score, the same is chosen."""

import copy
import random
import re

import pytest

from seqlab.runs.scores import deciding_verdict
from seqlab.study.compare import compare, sides_of
from seqlab.study.report.figures import best_labels, points
from seqlab.study.report.horizons import measured
from seqlab.study.report.reading import collect
from seqlab.study.report.runs import labels
from seqlab.study.report.sections import headline


def noisy(records):
    """Replace what is of the test split: scores by random ones, and the verdict by any."""
    draw = random.Random(0)
    for record in (made := copy.deepcopy(records)):
        record["metrics"]["test"] = {name: draw.random() for name in record["metrics"]["test"]}
        record["chance"]["test"] = {name: draw.random() for name in record["chance"]["test"]}
        record["verdict"] = draw.choice(["solved", "learning", "at chance"])
    return made


def of_scores(record, cells=("rnn", "gru", "lstm", "mgu")):
    """Runs of a task without distances, whose validation scores are 0.1 apart; the last setting learned nothing."""
    made = [record(cell, 4, seed, 0.5, 0.8 - place / 10) for place, cell in enumerate(cells) for seed in (0, 1)]
    for each in made:
        each["config"]["task"] = {"name": "names", "split_seed": 0}
        each["sequence_length_means"], each["tables"] = "maximum", {}
        each["best"]["verdict"] = "at chance" if each["config"]["cell"]["name"] == cells[-1] else "learning"
    return made


def of_distances(record):
    """Horizons of 4, 8 and 16 in validation, each rate with scores of its own."""
    far = {"rnn": 4, "gru": 8, "lstm": 16}
    return [
        record(cell, at, seed, 0.5, 1.0 if at <= reach and rate == 0.01 else 0.3, optimizer__lr=rate)
        for cell, reach in far.items()
        for at in (4, 8, 16)
        for seed in (0,)
        for rate in (0.01, 0.1)
    ]


def points_of(folder):
    return points(labels(collect([folder]).runs))


def without_figures(text):
    return re.sub(r"[\d.]*\d( ± [\d.]*\d)?", "#", text)


def test_a_headline_is_the_same(sweep, record):
    made = of_scores(record)
    said = [headline("names", points_of(sweep(name, each)), []) for name, each in (("a", made), ("b", noisy(made)))]
    assert said[0] != said[1]  # the test scores are shown
    assert without_figures(said[0]) == without_figures(said[1])
    assert said[0].startswith("On names, rnn has the best validation accuracy; its test accuracy is 0.5")
    assert "; next is gru with" in said[0]
    assert said[0].endswith(": mgu.")


def test_horizons_and_rates_are_the_same(sweep, record):
    made = of_distances(record)
    folders = sweep("a", made), sweep("b", noisy(made))
    first, second = (points_of(folder) for folder in folders)
    assert measured(first) == measured(second)
    assert {row["label"]: (row["horizon"], row["upper"]) for row in measured(first)} == {
        "rnn": (4, 8),
        "gru": (8, 16),
        "lstm": (16, None),
    }
    assert {point.runs[0].rate for point in (*first, *second) if point.solved} == {0.01}
    assert best_labels(first, most=1) == best_labels(second, most=1) == ["lstm"]


def test_a_comparison_is_the_same(sweep, record):
    made = of_scores(record)
    folders = sweep("a", made), sweep("b", noisy(made))
    first, second = (compare(*sides_of("gru", "rnn", folder), within_one=True) for folder in folders)
    assert first.interval == second.interval
    assert first.verdict() == second.verdict()
    assert first.verdict().startswith("validation accuracy: rnn is better than gru by 0.1")
    assert first.tested() != second.tested()
    with_idle = compare(*sides_of("mgu", "rnn", folders[1]), within_one=True)
    assert with_idle.idle() == ["mgu: 2 of 2 runs are no better than the input-independent baseline"]


@pytest.mark.parametrize(
    ("valid", "verdict"), [(1.0, "solved"), (0.99, "solved"), (0.98, "learning"), (0.2, "at chance"), (0.9, "learning")]
)
def test_the_verdict_that_decides_is_of_the_validation_score(record, valid, verdict):
    """On 16 examples, three standard errors above a baseline of 1/8 are 0.373."""
    for each in (record(score=0.0, valid=valid), *noisy([record(score=0.0, valid=valid)])):
        del each["best"]["verdict"]  # as of an older version
        assert deciding_verdict(each) == verdict


def test_a_task_without_bounds_has_a_verdict_of_its_own(record):
    made = record(valid=0.5)
    made["tables"] = {}
    for verdict in ("solved", "learning", "at chance"):
        made["best"]["verdict"] = verdict
        assert deciding_verdict(made) == verdict
    del made["best"]["verdict"]
    made["verdict"] = "learning"
    assert deciding_verdict(made) == "learning"
