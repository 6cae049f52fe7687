"""Results by class, against scikit-learn's figures for the same labels."""

import io
import random
from collections import Counter

import pytest

from seqlab.cli.output import Output, show_classes, show_columns
from seqlab.runs.scores import class_rows, class_table, linear_verdict, rarest_class


def shown(rows, rest="there"):
    console = Output(file=io.StringIO(), width=80)
    show_classes(rows, console, rest)
    return console.file.getvalue()


def test_precision_recall_f1_and_support_match_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    draw, labels = random.Random(0), ["a", "b", "c", "d"]
    true, predicted = draw.choices("abc", k=200), draw.choices("abd", k=200)
    expected = metrics.precision_recall_fscore_support(true, predicted, labels=labels, zero_division=0)
    rows = class_rows(Counter(zip(true, predicted, strict=True)), [*labels, "never"])
    found = [[row[name] or 0.0 for row in rows] for name in ("precision", "recall", "f1", "examples")]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs.tolist())


def test_by_hand():
    """Of a: 2 of 3 found, 2 of 2 predictions right; of b: 1 of 1 and 1 of 2; c is never predicted, d never true."""
    counts = Counter({("a", "a"): 2, ("a", "b"): 1, ("b", "b"): 1, ("c", "d"): 1})
    rows = class_rows(counts, ["a", "b", "c", "d", "e"], "letter")
    assert rows[0] == {"letter": "a", "examples": 3, "precision": 1.0, "recall": 2 / 3, "f1": 4 / 5}
    assert rows[1] == {"letter": "b", "examples": 1, "precision": 0.5, "recall": 1.0, "f1": 2 / 3}
    assert rows[2] == {"letter": "c", "examples": 1, "precision": None, "recall": 0.0, "f1": 0.0}
    assert rows[3] == {"letter": "d", "examples": 0, "precision": 0.0, "recall": None, "f1": 0.0}
    assert len(rows) == 4
    output = shown(rows)
    assert [line.replace("│", " ").split() for line in output.splitlines() if line.startswith("│ a")] == [
        ["a", "1.000", "0.667", "0.800", "3"]
    ]
    assert "letter" in output


def test_of_many_classes_only_the_worst_are_printed():
    counts = Counter({(f"right{n}", f"right{n}"): 5 for n in range(30)} | {("wrong", "right3"): 9})
    assert len(shown(class_rows(counts, [f"right{n}" for n in range(30)])).splitlines()) == 34
    rows = class_rows(counts, ["wrong", *(f"right{n}" for n in range(30))])
    output = shown(rows, "results.json, tables.classes")
    assert "30 of 31 classes, those of lowest F1 first; all are in results.json, tables.classes" in output
    lines = [line.split()[1] for line in output.splitlines() if line.startswith("│")]
    assert lines[:2] == ["wrong", "right3"]
    assert len(lines) == 30


def test_the_table_is_found_among_others_by_its_columns():
    rows = class_rows(Counter({("a", "a"): 1}), ["a"])
    assert class_table({"reliability": [{"bin": 1}], "none": [], "languages": rows}) == ("languages", rows)
    assert class_table({"reliability": [{"bin": 1}]}) is None


def test_the_rarest_class_has_the_fewest_examples():
    """Of two, the one that is found less often; a class without examples has no recall."""
    counts = Counter({("a", "a"): 9, ("b", "a"): 2, ("c", "c"): 1, ("c", "a"): 1, ("a", "d"): 1})
    row = rarest_class(class_rows(counts, ["a", "b", "c", "d"]))
    assert (row["class"], row["recall"]) == ("b", 0.0)
    assert rarest_class([]) is None


@pytest.mark.parametrize(("mode", "ours", "wins"), [("max", 0.7, True), ("max", 0.9, False), ("min", 0.9, True)])
def test_the_linear_baseline_wins_by_a_better_test_score(mode, ours, wins):
    linear = {"test": {"score": 0.8}, "model": {"name": "other"}}
    record = {"best": {"monitor": "score", "mode": mode}, "metrics": {"test": {"score": ours}}, "linear": linear}
    line = linear_verdict(record)
    assert (line is not None) is wins
    assert line is None or all(part in line for part in ("model=other", "0.8000", f"{ours:.4f}"))
    assert linear_verdict({**record, "linear": None}) is None


def test_metrics_of_all_predictors_fit_into_80_columns():
    console = Output(file=io.StringIO(), width=80)
    columns = {"majority class": {"calibration_error": 0.1}, "linear baseline": {}}
    columns["this model"] = {"calibration_error": 0.2}
    show_columns(columns, {"calibration_error": [0.1, 0.3]}, "accuracy", "title", console)
    (line,) = [line for line in console.file.getvalue().splitlines() if "calibration" in line]
    assert line.replace("│", " ").split() == ["calibration_error", "0.1000", "0.2000", "0.100-0.300"]
