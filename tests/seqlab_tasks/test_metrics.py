"""Metrics against those of torchmetrics and against sums by hand; tables and figures."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torchmetrics import functional as tm

from seqlab_tasks.metrics import (
    Reliability,
    class_table,
    classification_metrics,
    draw_confusion,
    draw_reliability,
    reliability_table,
    wilson,
)


def computed(outputs, targets, classes, batches=3, ranking=False):
    metrics = classification_metrics(classes, ranking)
    for part, truth in zip(outputs.tensor_split(batches), targets.tensor_split(batches), strict=True):
        metrics.update(part, truth)
    return {name: value.item() for name, value in metrics.compute().items()}


def test_metrics_equal_those_of_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(500, 5, generator=generator), torch.arange(500) % 5
    ours, options = computed(outputs, targets, 5), {"task": "multiclass", "num_classes": 5}
    assert ours["accuracy"] == pytest.approx(tm.accuracy(outputs, targets, average="micro", **options).item())
    assert ours["balanced_accuracy"] == pytest.approx(tm.recall(outputs, targets, average="macro", **options).item())
    assert ours["macro_f1"] == pytest.approx(tm.f1_score(outputs, targets, average="macro", **options).item())
    assert ours["calibration_error"] == pytest.approx(
        tm.calibration_error(outputs.softmax(1), targets, n_bins=15, norm="l1", **options).item(), abs=1e-6
    )
    assert ours["loss"] == pytest.approx(torch.nn.functional.cross_entropy(outputs, targets).item(), rel=1e-6)


def test_a_worked_example():
    """Three of class 0 (two found), one of class 1 (found, and once wrongly), none of class 2."""
    outputs = 9 * torch.eye(3)[torch.tensor([0, 0, 1, 1])]
    values = computed(outputs, torch.tensor([0, 0, 0, 1]), 3, batches=1)
    assert values["accuracy"] == pytest.approx(3 / 4)
    assert values["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert values["macro_f1"] == pytest.approx((2 * 2 / 5 + 2 * 1 / 3) / 2)
    confidence = math.exp(9) / (math.exp(9) + 2)
    assert values["calibration_error"] == pytest.approx(abs(3 / 4 - confidence), abs=1e-6)


def test_scores_between_0_and_1_are_scores_not_probabilities():
    outputs = torch.tensor([[1.0, 0.0]]).repeat(4, 1)
    confidence = math.e / (math.e + 1)
    values = computed(outputs, torch.zeros(4, dtype=torch.int64), 2)
    assert values["calibration_error"] == pytest.approx(1 - confidence, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_roc_auc_equals_that_of_torchmetrics(classes):
    """Ties of whole scores included; with more than two classes a softmax in 32 bits has ties of its own."""
    generator = torch.Generator().manual_seed(classes)
    outputs = torch.randn(400, classes, generator=generator)
    outputs = outputs.round() if classes == 2 else outputs
    targets = torch.randint(0, classes, (400,), generator=generator)
    theirs = tm.auroc(outputs.softmax(1), targets, "multiclass", num_classes=classes, average="macro").item()
    assert computed(outputs, targets, classes, ranking=True)["roc_auc"] == pytest.approx(theirs, abs=1e-6)


def test_roc_auc_by_counting_pairs():
    """Of 3 x 2 pairs the positive scores higher in four, the same in one."""
    scores, targets = torch.tensor([0.9, 0.4, 0.1, 0.4, 0.0]), torch.tensor([1, 1, 1, 0, 0])
    outputs = torch.stack([-scores, scores], 1)
    values = computed(outputs, targets, 2, batches=2, ranking=True)
    assert values["roc_auc"] == pytest.approx((4 + 0.5) / 6)
    assert "roc_auc" not in computed(outputs, targets, 2)


def test_roc_auc_separates_near_certain_answers():
    """The softmax of both is 1 in 32 bits, so that ranks by probability would see a tie."""
    outputs = torch.tensor([[0.0, 40.0], [0.0, 60.0]])
    assert computed(outputs, torch.tensor([0, 1]), 2, batches=1, ranking=True)["roc_auc"] == 1


def test_roc_auc_of_classes_that_are_missing():
    """A class without examples is ignored; with a single class there is no curve."""
    outputs = torch.tensor([[2.0, 1.0, 0.0], [0.0, 6.0, 5.0], [1.0, 3.0, 3.0]])
    assert computed(outputs, torch.tensor([0, 1, 1]), 3, ranking=True)["roc_auc"] == 1
    assert math.isnan(computed(outputs, torch.tensor([1, 1, 1]), 3, ranking=True)["roc_auc"])


def test_the_bins_of_confidence():
    outputs = torch.tensor([[0.0, 0.0], [0.0, 0.1], [9.0, 0.0], [9.0, 0.0]])
    reliability = Reliability()
    for part, truth in zip(outputs.split(3), torch.tensor([0, 0, 0, 1]).split(3), strict=True):
        reliability.update(part, truth)
    table = reliability.compute()
    sure = math.exp(9) / (math.exp(9) + 1)
    assert table[7].tolist() == pytest.approx([2, 0.5 + math.exp(0.1) / (math.exp(0.1) + 1), 1])
    assert table[14].tolist() == pytest.approx([2, 2 * sure, 1])
    assert table[:, 0].sum() == 4


def test_reset_forgets():
    metrics = classification_metrics(2)
    metrics.update(torch.tensor([[9.0, 0.0]]), torch.tensor([1]))
    metrics.compute()
    metrics.reset()
    metrics.update(torch.tensor([[9.0, 0.0]]), torch.tensor([0]))
    assert metrics.compute()["accuracy"] == 1


def test_the_table_of_classes():
    """The third class is never predicted, and the fourth has no examples."""
    counts = np.array([[6, 2, 0, 0], [1, 3, 0, 0], [4, 0, 0, 0], [0, 0, 0, 0]])
    rows = class_table(counts, ["a", "b", "c", "d"], "language")
    assert rows[0] == {
        "language": "a", "examples": 8, "recall": 6 / 8, "precision": 6 / 11, "f1": 12 / 19, "confused_with": "b"
    }  # fmt: skip
    assert (rows[2]["recall"], rows[2]["precision"], rows[2]["f1"], rows[2]["confused_with"]) == (0, None, 0, "a")
    assert (rows[3]["recall"], rows[3]["f1"], rows[3]["confused_with"]) == (None, None, None)
    assert json.loads(json.dumps(rows)) == rows


@pytest.mark.slow
@pytest.mark.parametrize(
    "labels",
    [
        ["Лесной", "เหนือ", "ใต้"],
        ["$x$", "$\\frac{", "_^{}"],
        ["\U0001f600", "x" * 300, "a\nb"],
        ["山田", "김", "محمد"],
        [f"class {index}" for index in range(2)],
        [f"class {index}" for index in range(60)],
    ],
    ids=["Cyrillic and Thai", "formulas", "odd", "other scripts", "two", "many"],
)
def test_any_labels_can_be_drawn_without_a_warning(tmp_path, labels):
    """Warnings are errors here, such as those of matplotlib about characters that its font lacks."""
    counts = np.random.default_rng(0).integers(0, 1000, (len(labels), len(labels)))
    draw_confusion(counts, labels, "language", tmp_path / "confusion.png")
    assert Path(tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_an_empty_matrix_can_be_drawn(tmp_path):
    draw_confusion(np.zeros((3, 3), dtype=np.int64), ["a", "b", "c"], "class", tmp_path / "confusion.png")


BINS = np.zeros((15, 3))
BINS[8], BINS[14] = [10, 5.6, 4], [90, 88.2, 81]


def test_the_table_has_the_bins_with_examples():
    rows = reliability_table(BINS)
    assert rows == [
        {"from": 0.5333, "to": 0.6, "examples": 10, "confidence": pytest.approx(0.56), "accuracy": 0.4},
        {"from": 0.9333, "to": 1.0, "examples": 90, "confidence": pytest.approx(0.98), "accuracy": 0.9},
    ]
    assert json.loads(json.dumps(rows)) == rows


def test_the_interval_is_wilsons():
    """8 of 10: 0.490 to 0.943, the published interval; it never leaves 0 to 1."""
    low, high = wilson(np.array([8.0, 0.0, 5.0]), np.array([10.0, 5.0, 5.0]))
    assert low[0] == pytest.approx(0.490, abs=5e-4)
    assert high[0] == pytest.approx(0.943, abs=5e-4)
    assert low[1] == pytest.approx(0, abs=1e-12)
    assert high[2] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("bins", [BINS, np.zeros((15, 3)), np.tile([1.0, 0.01, 0.0], (15, 1))])
def test_any_bins_can_be_drawn_without_a_warning(tmp_path, bins):
    draw_reliability(bins, tmp_path / "reliability.png")
    assert [path.name for path in tmp_path.iterdir()] == ["reliability.png"]
    height, width, _ = imread(tmp_path / "reliability.png").shape
    assert 600 < width < height < 1500
