"""Metrics against other people's, and against sums done by hand."""

import math
import time

import pytest
import torch
from torchmetrics import functional as tm

from seqlab_tasks.metrics import Reliability, classification_metrics


def computed(outputs, targets, classes, batches=3, ranking=False):
    metrics = classification_metrics(classes, ranking)
    for part, truth in zip(outputs.tensor_split(batches), targets.tensor_split(batches), strict=True):
        metrics.update(part, truth)
    return {name: value.item() for name, value in metrics.compute().items()}


def test_they_are_torchmetrics_own_on_random_scores():
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
def test_roc_auc_is_torchmetrics_own(classes):
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


def test_roc_auc_tells_sure_answers_apart():
    """The softmax of both is 1 in 32 bits, so that ranks by probability would see a tie."""
    outputs = torch.tensor([[0.0, 40.0], [0.0, 60.0]])
    assert computed(outputs, torch.tensor([0, 1]), 2, batches=1, ranking=True)["roc_auc"] == 1


def test_roc_auc_of_classes_that_are_missing():
    """A class without examples is left out; with a single class there is no curve."""
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


def test_an_update_is_cheap():
    """A batch of 1,024 examples of 18 classes: below 1 ms on a quiet machine; ten times as much is allowed here."""
    metrics, outputs, targets = classification_metrics(18), torch.randn(1024, 18), torch.arange(1024) % 18
    metrics.update(outputs, targets)
    spent = []
    for _ in range(20):
        since = time.perf_counter()
        metrics.update(outputs, targets)
        spent.append(time.perf_counter() - since)
    assert min(spent) < 0.01
