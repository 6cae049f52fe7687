"""Tasks with one fault each, in what a model or a baseline must not know."""

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seqlab import Batch, ClassificationTask, Examples, Ragged, Task

from ..good_sequences import NextToken, RunningSum
from ..good_tasks import Labelled, TwoClasses
from ..odd_tasks import Lengths, ManyLabels, Tagging


def changed(task: Task, change):
    return {name: Examples(change(part), part.targets) for name, part in task.items()}


class TextsEndWithTheirClass(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        return changed(
            super().splits(),
            lambda part: [f"{text}{'xy'[int(label)]}" for text, label in zip(part.inputs, part.targets, strict=True)],
        )


class TextsNameTheirClass(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        return changed(
            super().splits(),
            lambda part: [
                f"{text[:1]}{int(label)} {text} {int(label)} {text[:2]}"
                for text, label in zip(part.inputs, part.targets, strict=True)
            ],
        )


class TextsHoldTheirLabel(TwoClasses, ClassificationTask):
    names = ("sport", "politics")

    def label_names(self) -> Sequence[str]:
        return self.labels

    def splits(self) -> Mapping[str, Examples]:
        return changed(
            super().splits(),
            lambda part: [
                f"{text} ({self.names[int(label)]}) {text[:2]}"
                for text, label in zip(part.inputs, part.targets, strict=True)
            ],
        )


class TargetIsTheLastStep(Lengths):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        for part in made.values():
            ends = part.inputs.lengths.cumsum(0) - 1
            part.inputs.values[ends, 1] = part.targets
        return made


class TargetIsAFeature(Lengths):
    def splits(self) -> Mapping[str, Examples]:
        return changed(super().splits(), lambda part: _with(part.inputs, part.targets.unsqueeze(1) / 10 + 1))


class NearlyTheTargetIsAFeature(Lengths):
    def splits(self) -> Mapping[str, Examples]:
        return changed(super().splits(), lambda part: _with(part.inputs, part.targets.round(decimals=1).unsqueeze(1)))


class LabelIsAFeature(ManyLabels):
    def splits(self) -> Mapping[str, Examples]:
        return changed(super().splits(), lambda part: _with(part.inputs, part.targets[:, 1:2]))


def _with(inputs: Ragged, columns: Tensor) -> Ragged:
    return Ragged(torch.cat([inputs.values, columns.repeat_interleave(inputs.lengths, 0)], 1), inputs.lengths)


class PredictsItsInput(NextToken):
    """Nobody shifted the targets."""

    def splits(self) -> Mapping[str, Examples]:
        return {
            name: Examples(part.inputs, part.inputs.values.view(len(part), -1).clone())
            for name, part in super().splits().items()
        }


class SumIsAFeature(RunningSum):
    def splits(self) -> Mapping[str, Examples]:
        made = {}
        for name, part in super().splits().items():
            column = part.targets[~part.targets.isnan()].unsqueeze(1)
            made[name] = Examples(Ragged(torch.cat([part.inputs.values, column], 1), part.inputs.lengths), part.targets)
        self.mean = float(made["train"].targets.nanmean())
        return made


class TestsInUpperCase(TwoClasses, preprocessing="words"):
    """Texts of train come again in test with a blank at the end, which the preprocessing takes away."""

    def splits(self) -> Mapping[str, Examples]:
        made = dict(super().splits())
        train = made["train"]
        made["test"] = Examples([f" {text} " for text in train.inputs[:30]], train.targets[:30])
        return made


class ScalesByAllSplits(Lengths):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        for part in made.values():
            part.inputs.values.mul_(3).add_(torch.linspace(0, 1, len(part.inputs.values)).unsqueeze(1))
        whole = torch.cat([part.inputs.values for part in made.values()])
        for part in made.values():
            part.inputs.values.sub_(whole.mean(0)).div_(whole.std(0))
        return made


class ScalesTargetsByAllSplits(Lengths):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        whole = torch.cat([part.targets for part in made.values()])
        made = {name: Examples(part.inputs, (part.targets - whole.mean()) / whole.std()) for name, part in made.items()}
        self.mean = float(made["train"].targets.mean())
        return made


class BaselineKnowsAllSplits(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        whole = torch.cat([part.targets for part in made.values()])
        self.shares = (torch.bincount(whole, minlength=2) / len(whole)).tolist()
        return made


class BaselineIsTheMeanOfTest(Lengths):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        self.mean = float(made["test"].targets.mean())
        return made


class BaselineGuessesByLot(TwoClasses):
    def baseline_outputs(self, batch: Batch) -> Tensor:
        return torch.randn(len(batch.inputs), 2, generator=torch.Generator().manual_seed(0))


class BaselineKnowsTheOrder(Tagging):
    def baseline_outputs(self, batch: Batch) -> Tensor:
        return super().baseline_outputs(batch) + torch.arange(len(batch.inputs)).view(-1, 1, 1) * torch.tensor(
            [0, 0, 0.01]
        )


class SolvedByNaN(RunningSum):
    def solved(self, metrics: Mapping[str, float]) -> bool:
        return not metrics["squared_error"] > 0.01


class WeighsOthers(Labelled):
    """By the classes before they were shuffled."""

    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        targets = made["train"].targets
        order = list(range(len(targets)))
        random.Random(1).shuffle(order)
        self.examples = torch.tensor([0.3, 0.7])[targets[order]]
        return made

    def sample_weights(self) -> Tensor:
        return self.examples


CAUGHT: list[tuple[type[Task], str]] = [
    (TextsEndWithTheirClass, "targets_are_not_among_inputs"),
    (TextsNameTheirClass, "targets_are_not_among_inputs"),
    (TextsHoldTheirLabel, "targets_are_not_among_inputs"),
    (TargetIsTheLastStep, "targets_are_not_among_inputs"),
    (TargetIsAFeature, "targets_are_not_among_inputs"),
    (NearlyTheTargetIsAFeature, "targets_are_not_among_inputs"),
    (LabelIsAFeature, "targets_are_not_among_inputs"),
    (PredictsItsInput, "targets_are_not_among_inputs"),
    (SumIsAFeature, "targets_are_not_among_inputs"),
    (TestsInUpperCase, "splits_are_disjoint_when_encoded"),
    (ScalesByAllSplits, "scales_are_of_training"),
    (ScalesTargetsByAllSplits, "scales_are_of_training"),
    (BaselineKnowsAllSplits, "baseline_is_of_training"),
    (BaselineIsTheMeanOfTest, "baseline_is_of_training"),
    (BaselineGuessesByLot, "baseline_is_blind"),
    (BaselineKnowsTheOrder, "baseline_is_blind"),
    (SolvedByNaN, "solved_is_a_line"),
    (WeighsOthers, "weights_belong_to_their_examples"),
]
"""Each fault, and the check that must find it."""
