"""Verdict on the winner and the linear baseline: by their test scores, and by whether the difference may be chance."""

import pytest
import torch
from safetensors.torch import save_file

from seqlab.runs.run_folder import PREDICTIONS
from seqlab.study.tune.outcome import prefer_linear, verdict
from seqlab.study.tune.search import Row
from seqlab.study.tune.study import Trial

EXAMPLES = 100


def row(folder, title, right):
    """Make a scored model that predicts the first ``right`` examples right."""
    folder.mkdir()
    target = torch.zeros(EXAMPLES, dtype=torch.int64)
    predicted = (torch.arange(EXAMPLES) >= right).long()
    tensors = {
        "target": target,
        "predicted": predicted,
        "confidence": torch.ones(EXAMPLES),
        "loss": torch.ones(EXAMPLES),
    }
    splits = ("valid", "test")
    save_file({f"{split}.{name}": tensors[name].clone() for split in splits for name in tensors}, folder / PREDICTIONS)
    trial = Trial(0, (), "complete", None, folder.name, 0.0, {}, None, 0.0, {})
    return Row(title, trial, {"metrics": {"test": {"accuracy": right / EXAMPLES}}}, folder)


@pytest.mark.parametrize(
    ("winner", "linear", "expected"),
    [
        (90, 60, "the winner beats"),
        (60, 90, "the linear baseline wins"),
        (71, 70, "the winner has the better score, but"),
        (70, 71, "the linear baseline has the better score, but"),
        (70, 70, "equal"),
    ],
)
def test_a_difference_that_may_be_chance_is_no_win(winner, linear, expected, tmp_path):
    """One example more of 100 is within chance; 30 more are not (McNemar: p < 1e-8)."""
    rows = [row(tmp_path / "a", "winner", winner), row(tmp_path / "b", "linear baseline", linear)]
    assert expected in verdict(rows, "accuracy", maximises=True)


@pytest.mark.parametrize(("winner", "linear", "first"), [(71, 70, "linear"), (70, 70, "linear"), (75, 70, "winner")])
def test_a_gain_on_validation_below_a_standard_error_is_none(winner, linear, first, tmp_path):
    """Where only one of two is right in d of n examples, the difference d/n has about the standard error sqrt(d)/n."""
    best = row(tmp_path / "a", "winner", winner)
    rows = [best, row(tmp_path / "b", "linear baseline", linear), row(tmp_path / "c", "default model", 50)]
    chosen = prefer_linear(rows, "accuracy")
    assert [one.folder.name for one in chosen] == (["b", "a", "c"] if first == "linear" else ["a", "b", "c"])
    assert chosen[0].title == "winner"
    assert prefer_linear([best], "accuracy") == [best]
