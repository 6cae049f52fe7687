"""Comparison of two runs by example."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

import seqlab
from seqlab import UserError
from seqlab.runs.run_folder import PREDICTIONS, write_weights
from seqlab.study.compare import compare, read_sides
from seqlab.study.predictions import Predictions, compare_examples, mcnemar, read_predictions


def drawn(rights, seed=0, examples=400, classes=4):
    """Predictions of two runs, each right with its own probability; equal on most examples."""
    draw = np.random.default_rng(seed)
    target, wrong, luck = (
        draw.integers(0, classes, examples),
        draw.integers(1, classes, examples),
        draw.random(examples),
    )
    made = []
    for right in rights:
        predicted = np.where(luck < right, target, (target + wrong) % classes)
        made.append(Predictions(target, predicted, luck, np.where(luck < right, 0.1, 2.0) + draw.random(examples)))
    return made


@pytest.mark.parametrize(("a", "b"), [(0, 0), (3, 3), (1, 9), (40, 61), (0, 5)])
def test_mcnemar_is_the_binomial_test(a, b):
    expected = binomtest(min(a, b), a + b, 0.5).pvalue if a + b else 1.0
    assert mcnemar(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1", "loss"])
def test_differences_are_those_of_scikit_learn(metric):
    a, b = drawn((0.6, 0.8))
    scores = {
        "balanced_accuracy": lambda run: balanced_accuracy_score(run.target, run.predicted),
        "macro_f1": lambda run: f1_score(run.target, run.predicted, average="macro"),
        "loss": lambda run: run.loss.mean(),
    }[metric]
    found = compare_examples(a, b, metric)
    assert found.difference == pytest.approx(scores(b) - scores(a))
    assert found.low < found.difference < found.high
    assert found.p is None


def test_the_interval_covers_the_difference_of_the_accuracies():
    """0.7 and 0.75, in 95 of 100 sets of examples."""
    found = [compare_examples(*drawn((0.7, 0.75), seed), "accuracy") for seed in range(1000)]
    assert 0.93 <= np.mean([each.low <= 0.05 <= each.high for each in found]) <= 0.97
    assert all(each.difference == pytest.approx((each.only_b - each.only_a) / 400) for each in found)


def test_the_confusion_matrix_is_that_of_scikit_learn():
    (run, _) = drawn((0.6, 0.8))
    assert (run.confusion(4) == confusion_matrix(run.target, run.predicted)).all()


def test_nothing_is_compared_on_other_examples_or_metrics():
    a, b = drawn((0.6, 0.8))
    assert compare_examples(a, drawn((0.6, 0.8), seed=1)[1], "accuracy") is None
    assert compare_examples(a, b, "calibration_error") is None


def test_a_damaged_file_is_named(tmp_path):
    assert read_predictions(tmp_path, "valid") is None
    write_weights(tmp_path / PREDICTIONS, {"valid.target": torch.zeros(3, dtype=torch.int64)})
    with pytest.raises(UserError, match=r"predictions.safetensors has no valid.predicted"):
        read_predictions(tmp_path, "valid")
    tensors = {f"valid.{name}": torch.zeros(3) for name in ("target", "predicted", "confidence", "loss")}
    write_weights(tmp_path / PREDICTIONS, tensors)
    with pytest.raises(UserError, match="must be one number per example"):
        read_predictions(tmp_path, "valid")


def test_one_seed_of_each_is_compared_by_example(names_folder, tmp_path):
    fast = ["task=names", f"task.data_dir={names_folder}", "logger=none", "trainer.progress=false"]
    fast += ["cell.hidden_size=4", "trainer.max_epochs=1", "task.baseline=none"]
    for cell in ("gru", "rnn"):
        seqlab.run(seqlab.compose([*fast, f"cell={cell}"]), tmp_path / cell)
    sides = read_sides(str(tmp_path / "gru"), str(tmp_path / "rnn"), None)
    found = compare(*sides)
    difference = found.pairs[0].difference
    assert found.by_example.difference == pytest.approx(difference, abs=1e-6)
    by_loss = compare(*sides, "loss")
    assert by_loss.by_example.difference == pytest.approx(by_loss.pairs[0].difference, rel=1e-4, abs=1e-6)
