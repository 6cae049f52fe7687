"""Loss, baseline, decoding, state and report of a classification."""

import json
import math

import pytest
import torch
from matplotlib.image import imread

from seqlab import Batch
from seqlab.contracts.task import is_solved
from seqlab_tasks.classification import balanced_weights
from seqlab_tasks.names import Names

SYLLABLES = ["ka", "lo", "mi", "nu", "re", "sa", "to", "vi", "we", "xa"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "peoples"
    folder.mkdir()
    for label, count in (("Few", 10), ("More", 30), ("Most", 100)):
        names = [f"{label}{a}{b}" for a in SYLLABLES for b in SYLLABLES][:count]
        (folder / f"{label}.txt").write_text("\n".join(names), "utf-8")
    return str(folder)


def prepared(folder, **options):
    task = Names(data_dir=folder, **options)
    return task, task.splits()


def batch_of(targets):
    return Batch(torch.ones(len(targets), 2, dtype=torch.int64), None, targets)


def test_weights_are_inverse_frequencies_whose_mean_over_examples_is_1():
    counts = torch.tensor([8, 24, 80])
    for power in (0.0, 0.5, 1.0):
        weights = balanced_weights(counts, power)
        assert (counts * weights).sum() / counts.sum() == pytest.approx(1)
        assert (weights[0] / weights[2]).item() == pytest.approx(10**power)


def test_the_weighted_loss_is_the_weighted_mean_over_all_examples(folder):
    task, splits = prepared(folder, balance="weights", balance_power=1.0)
    targets = splits["train"].targets
    outputs = torch.randn(len(targets), 3, generator=torch.Generator().manual_seed(0))
    weight = {0: 112 / 24, 1: 112 / 72, 2: 112 / 240}  # n / (classes n_c)
    logs = outputs.double().log_softmax(1)
    by_hand = sum(-weight[t] * logs[row, t].item() for row, t in enumerate(targets.tolist())) / len(targets)
    assert task.loss(outputs, batch_of(targets)).item() == pytest.approx(by_hand, rel=1e-5)


def test_the_plain_loss_is_cross_entropy_and_may_be_smoothed(folder):
    task, _ = prepared(folder)
    outputs, targets = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
    assert task.loss(outputs, batch_of(targets)).item() == pytest.approx(math.log(math.e**2 + 2) - 2)
    task, _ = prepared(folder, label_smoothing=0.3)
    smoothed = math.log(math.e**2 + 2) - 0.8 * 2  # the true class has 0.7 + 0.3 / 3 of the target
    assert task.loss(outputs, batch_of(targets)).item() == pytest.approx(smoothed)


def test_sampling_draws_every_class_alike_at_power_1(folder):
    task, splits = prepared(folder, balance="sampling", balance_power=1.0)
    weights, targets = task.sample_weights(), splits["train"].targets
    sums = [weights[targets == label].sum().item() for label in range(3)]
    assert sums == pytest.approx([sums[0]] * 3)
    assert prepared(folder)[0].sample_weights() is None
    assert prepared(folder, balance="weights")[0].sample_weights() is None


def test_the_metric_that_chooses_follows_the_balance():
    assert Names().monitor == "accuracy"
    assert Names(balance="weights").monitor == Names(balance="sampling").monitor == "balanced_accuracy"
    assert Names().mode == "max"
    assert is_solved(Names(), {"accuracy": 1.0}) is None


def test_the_baseline_is_the_training_shares(folder):
    task, splits = prepared(folder)
    batch = batch_of(splits["test"].targets)
    outputs = task.baseline_outputs(batch)
    shares = torch.tensor([9.0, 25.0, 81.0]) / 115  # 8, 24, 80 and one more of each
    torch.testing.assert_close(outputs, shares.log().expand(len(batch.inputs), 3))
    metrics = task.metrics()
    metrics.update(outputs, batch.targets)
    values = metrics.compute()
    assert values["accuracy"] == pytest.approx(10 / 14)
    assert values["balanced_accuracy"] == pytest.approx(1 / 3)


def test_decode_names_the_likeliest_first(folder):
    task, _ = prepared(folder)
    outputs = torch.tensor([[0.0, math.log(6), math.log(3)], [5.0, 0.0, 0.0]])
    first, second = task.decode(outputs, top=2)
    assert [answer["label"] for answer in first] == ["More", "Most"]
    assert [answer["probability"] for answer in first] == pytest.approx([0.6, 0.3])
    assert second[0]["label"] == "Few"
    assert len(task.decode(outputs, top=9)[0]) == 3
    assert json.loads(json.dumps(first)) == first
    with pytest.raises(ValueError, match="top must be >= 1, got 0"):
        task.decode(outputs, top=0)


def test_outputs_need_the_data():
    for use in (lambda task: task.outputs, lambda task: task.metrics(), lambda task: task.state_dict()):
        with pytest.raises(ValueError, match="labels are not known yet"):
            use(Names())


def test_the_state_is_enough_to_decode(folder):
    task, _ = prepared(folder)
    state = json.loads(json.dumps(task.state_dict()))
    assert state == {"labels": ["Few", "More", "Most"], "counts": [8, 24, 80]}
    again = Names()
    again.load_state_dict(state)
    outputs = torch.randn(4, 3)
    assert again.decode(outputs) == task.decode(outputs)
    assert torch.equal(
        again.baseline_outputs(batch_of(torch.zeros(2))), task.baseline_outputs(batch_of(torch.zeros(2)))
    )
    assert again.outputs == 3


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"labels": ["a", "b"]},
        {"labels": ["a", "b"], "counts": [1, 1], "more": 0},
        {"labels": "ab", "counts": [1, 1]},
        {"labels": ["a"], "counts": [1]},
        {"labels": ["a", "a"], "counts": [1, 1]},
        {"labels": ["a", ""], "counts": [1, 1]},
        {"labels": ["a", 2], "counts": [1, 1]},
        {"labels": ["a", "b"], "counts": [1]},
        {"labels": ["a", "b"], "counts": [1, 0]},
        {"labels": ["a", "b"], "counts": [1, -2]},
        {"labels": ["a", "b"], "counts": [1, 2.0]},
        {"labels": ["a", "b"], "counts": [1, True]},
        {"labels": ["a", "b"], "counts": [1, 2**70]},
        {"labels": ["a", "b"], "counts": None},
    ],
)
def test_invalid_states(state):
    with pytest.raises(ValueError, match=r"labels|counts"):
        Names().load_state_dict(state)


def test_the_report_has_a_table_and_a_picture(folder, tmp_path):
    task, splits = prepared(folder)
    details = task.details()
    targets = splits["test"].targets
    details.update(torch.nn.functional.one_hot(targets, 3).float(), targets)
    report = task.report(details.compute(), tmp_path)
    assert [row["language"] for row in report.tables["languages"]] == ["Few", "More", "Most"]
    assert all(row["recall"] == row["precision"] == 1 for row in report.tables["languages"])
    assert report.figures == ["confusion.png"]
    assert report.notes == task.notes
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["confusion.png"]
    height, width, _ = imread(tmp_path / "confusion.png").shape
    assert 600 < height < 4000
    assert 600 < width < 4000
