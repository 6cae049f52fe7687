"""Tasks with one fault each, in what a model or a baseline must not know, or in the baseline."""

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seqlab import Batch, ClassificationTask, Examples, GeneratedTask, Ragged, Task

from ..good_sequences import NextToken, RunningSum
from ..good_tasks import Labelled, TwoClasses
from ..odd_tasks import Lengths, ManyLabels, Tagging


def changed(task: Task, change):
    return {name: Examples(change(part), part.targets) for name, part in task.items()}


class TextsEndWithTheirClass(TwoClasses, caught_by="targets_are_not_among_inputs"):
    def splits(self) -> Mapping[str, Examples]:
        return changed(
            super().splits(),
            lambda part: [f"{text}{'xy'[int(label)]}" for text, label in zip(part.inputs, part.targets, strict=True)],
        )


class TextsNameTheirClass(TwoClasses, caught_by="targets_are_not_among_inputs"):
    def splits(self) -> Mapping[str, Examples]:
        return changed(
            super().splits(),
            lambda part: [
                f"{text[:1]}{int(label)} {text} {int(label)} {text[:2]}"
                for text, label in zip(part.inputs, part.targets, strict=True)
            ],
        )


class TextsHoldTheirLabel(TwoClasses, ClassificationTask, caught_by="targets_are_not_among_inputs"):
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


class TargetIsTheLastStep(Lengths, caught_by="targets_are_not_among_inputs"):
    def change(self, made: dict[str, Examples]) -> None:
        for part in made.values():
            ends = part.inputs.lengths.cumsum(0) - 1
            part.inputs.values[ends, 1] = part.targets


class TargetIsAFeature(Lengths, caught_by="targets_are_not_among_inputs"):
    def splits(self) -> Mapping[str, Examples]:
        return changed(super().splits(), lambda part: _with(part.inputs, part.targets.unsqueeze(1) / 10 + 1))


class NearlyTheTargetIsAFeature(Lengths, caught_by="targets_are_not_among_inputs"):
    def splits(self) -> Mapping[str, Examples]:
        return changed(super().splits(), lambda part: _with(part.inputs, part.targets.round(decimals=1).unsqueeze(1)))


class LabelIsAFeature(ManyLabels, caught_by="targets_are_not_among_inputs"):
    def splits(self) -> Mapping[str, Examples]:
        return changed(super().splits(), lambda part: _with(part.inputs, part.targets[:, 1:2]))


def _with(inputs: Ragged, columns: Tensor) -> Ragged:
    return Ragged(torch.cat([inputs.values, columns.repeat_interleave(inputs.lengths, 0)], 1), inputs.lengths)


class PredictsItsInput(NextToken, caught_by="targets_are_not_among_inputs"):
    """Nobody shifted the targets."""

    def splits(self) -> Mapping[str, Examples]:
        return {
            name: Examples(part.inputs, part.inputs.values.view(len(part), -1).clone())
            for name, part in super().splits().items()
        }


class SumIsAFeature(RunningSum, caught_by="targets_are_not_among_inputs"):
    def splits(self) -> Mapping[str, Examples]:
        made = {}
        for name, part in super().splits().items():
            column = part.targets[~part.targets.isnan()].unsqueeze(1)
            made[name] = Examples(Ragged(torch.cat([part.inputs.values, column], 1), part.inputs.lengths), part.targets)
        self.mean = float(made["train"].targets.nanmean())
        return made


class TestsInUpperCase(TwoClasses, caught_by="splits_are_disjoint_when_encoded", preprocessing="words"):
    """Texts of train come again in test with a blank at the end, which the preprocessing takes away."""

    def change(self, made: dict[str, Examples]) -> None:
        train = made["train"]
        made["test"] = Examples([f" {text} " for text in train.inputs[:30]], train.targets[:30])


class ScalesByAllSplits(Lengths, caught_by="scaling_comes_from_training"):
    def change(self, made: dict[str, Examples]) -> None:
        for part in made.values():
            part.inputs.values.mul_(3).add_(torch.linspace(0, 1, len(part.inputs.values)).unsqueeze(1))
        whole = torch.cat([part.inputs.values for part in made.values()])
        for part in made.values():
            part.inputs.values.sub_(whole.mean(0)).div_(whole.std(0))


class ScalesTargetsByAllSplits(Lengths, caught_by="scaling_comes_from_training"):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        whole = torch.cat([part.targets for part in made.values()])
        made = {name: Examples(part.inputs, (part.targets - whole.mean()) / whole.std()) for name, part in made.items()}
        self.mean = float(made["train"].targets.mean())
        return made


class BaselineKnowsAllSplits(TwoClasses, caught_by="baseline_comes_from_training"):
    def change(self, made: dict[str, Examples]) -> None:
        whole = torch.cat([part.targets for part in made.values()])
        self.shares = (torch.bincount(whole, minlength=2) / len(whole)).tolist()


class BaselineIsTheMeanOfTest(Lengths, caught_by="baseline_comes_from_training"):
    def change(self, made: dict[str, Examples]) -> None:
        self.mean = float(made["test"].targets.mean())


class BaselineGuessesByLot(TwoClasses, caught_by="baseline_ignores_the_input"):
    def baseline_outputs(self, batch: Batch) -> Tensor:
        return torch.randn(len(batch.inputs), 2, generator=torch.Generator().manual_seed(0))


class BaselineKnowsTheOrder(Tagging, caught_by="baseline_ignores_the_input"):
    def baseline_outputs(self, batch: Batch) -> Tensor:
        return super().baseline_outputs(batch) + torch.arange(len(batch.inputs)).view(-1, 1, 1) * torch.tensor(
            [0, 0, 0.01]
        )


class SolvedByNaN(RunningSum, caught_by="solved_is_a_threshold"):
    def solved(self, metrics: Mapping[str, float]) -> bool:
        return not metrics["squared_error"] > 0.01


class WeighsOthers(Labelled, caught_by="weights_belong_to_their_examples"):
    """By the classes before they were shuffled."""

    def change(self, made: dict[str, Examples]) -> None:
        targets = made["train"].targets
        order = list(range(len(targets)))
        random.Random(1).shuffle(order)
        self.examples = torch.tensor([0.3, 0.7])[targets[order]]

    def sample_weights(self) -> Tensor:
        return self.examples


class BaselinePeeks(TwoClasses, caught_by="baseline_ignores_the_input"):
    def baseline_outputs(self, batch: Batch) -> Tensor:
        shares = (torch.bincount(batch.targets, minlength=2) + 1) / (len(batch.targets) + 2)
        return shares.log().expand(len(batch.inputs), 2)


class BaselineReads(TwoClasses, caught_by="baseline_ignores_the_input"):
    def baseline_outputs(self, batch: Batch) -> Tensor:
        return super().baseline_outputs(batch) * (batch.inputs == 2).float().mean(1, keepdim=True)


class BaselineIsOneRow(TwoClasses, caught_by="baseline_ignores_the_input"):
    def baseline_outputs(self, batch: Batch) -> Tensor:
        return torch.tensor(self.shares).log().unsqueeze(0)


class BaselineIsInfinite(TwoClasses, caught_by="baseline_ignores_the_input"):
    def baseline_outputs(self, batch: Batch) -> Tensor:
        return (super().baseline_outputs(batch) > -0.7).log()


class BaselineIsTooWeak(TwoClasses, caught_by="baseline_is_the_best_guess"):
    """It guesses the rare class, so that everything looks learned."""

    def baseline_outputs(self, batch: Batch) -> Tensor:
        return -super().baseline_outputs(batch)


class BaselineGuessesZero(RunningSum, caught_by="baseline_is_the_best_guess"):
    def baseline_outputs(self, batch: Batch) -> Tensor:
        return torch.zeros(*batch.inputs.shape[:2], 1)


class BaselineCannotBeBeaten(TwoClasses, caught_by="mode_is_right"):
    """All of its test examples are of the class that is frequent."""

    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        texts = [text.replace("a", "b") for text in made["test"].inputs]
        return {**made, "test": Examples(texts, torch.zeros(len(texts), dtype=torch.int64))}


class SolvedByChance(TwoClasses, GeneratedTask, sequence_length_means="maximum", caught_by="solved_is_a_threshold"):
    def solved(self, metrics: Mapping[str, float]) -> bool:
        return metrics["accuracy"] > 0.1


class NeverSolved(RunningSum, caught_by="solved_is_a_threshold"):
    def solved(self, metrics: Mapping[str, float]) -> bool:
        return metrics["squared_error"] > 0.01
