"""Tasks with one fault each, in the data."""

from collections.abc import Mapping

import torch
from torch import Tensor

from seqlab import Examples, Ragged, Task

from ..good_sequences import FreshSum, NextToken, Parity, RunningSum
from ..good_tasks import Labelled, TwoClasses


class NoValidation(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        return {name: examples for name, examples in super().splits().items() if name != "valid"}


class EmptyTest(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        return {**super().splits(), "test": Examples([], torch.zeros(0, dtype=torch.int64))}


class TestsOnTraining(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        made = dict(super().splits())
        test, train = made["test"], made["train"]
        targets = torch.cat([test.targets[1:], train.targets[:1]])
        return {**made, "test": Examples([*test.inputs[1:], train.inputs[0]], targets)}  # type: ignore[misc]  # its inputs are texts


class ValidatesOnTestedTensors(RunningSum):
    def splits(self) -> Mapping[str, Examples]:
        made = dict(super().splits())
        return {**made, "valid": made["test"]}


class SplitsByTheGlobalSeed(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        self.split_seed = int(torch.randint(1000, ()))
        return super().splits()


class SplitsOnFromWhereItWas(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        self.split_seed += 1
        return super().splits()


class IgnoresSplitSeed(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        self.split_seed = 0
        return super().splits()


class DrawsByTheGlobalSeed(FreshSum):
    def draw(self, count: int, seed: int) -> Examples:
        return self._made(count, torch.Generator().manual_seed(int(torch.randint(10**6, ()))))


class DrawsTheSameForEverySeed(FreshSum):
    def draw(self, count: int, seed: int) -> Examples:
        return super().draw(count, 0)


class DrawsWhatItTests(FreshSum):
    def draw(self, count: int, seed: int) -> Examples:
        test = self.splits()["test"]
        assert isinstance(test.inputs, Ragged)
        steps = int(test.inputs.lengths[seed : seed + count].sum())
        begin = int(test.inputs.starts[seed])
        inputs = Ragged(test.inputs.values[begin : begin + steps], test.inputs.lengths[seed : seed + count])
        return Examples(inputs, test.targets[seed : seed + count])


class DrawsTooFew(FreshSum):
    def draw(self, count: int, seed: int) -> Examples:
        return super().draw(count - 1, seed)


class GivesBytes(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        as_bytes = {name: [text.encode() for text in part.inputs] for name, part in made.items()}
        return {name: Examples(as_bytes[name], part.targets) for name, part in made.items()}


class TokensFromZero(NextToken):
    def splits(self) -> Mapping[str, Examples]:
        return {
            name: Examples(Ragged(part.inputs.values - 1, part.inputs.lengths), part.targets)
            for name, part in super().splits().items()
        }


class TestsOnNewTokens(NextToken):
    def splits(self) -> Mapping[str, Examples]:
        made = dict(super().splits())
        made["test"].inputs.values[0] = 10
        return made


class NamesNoPreprocessing(TwoClasses, preprocessing=None):
    pass


class NamesAStrangePreprocessing(TwoClasses, preprocessing="runes"):
    pass


class PreprocessesTensors(Parity, preprocessing="characters"):
    pass


class CountsClassesFromOne(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        return {name: Examples(part.inputs, part.targets + 1) for name, part in super().splits().items()}


class TargetsOneStepShort(NextToken):
    def splits(self) -> Mapping[str, Examples]:
        return {name: Examples(part.inputs, part.targets[:, 1:]) for name, part in super().splits().items()}


class ATargetIsInfinite(RunningSum):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        made["train"].targets[3, 0] = torch.inf
        return made


class WeighsClasses(Labelled):
    def sample_weights(self) -> Tensor:
        return torch.tensor([0.3, 0.7])


class WeighsBelowZero(Labelled):
    def sample_weights(self) -> Tensor:
        return torch.linspace(-1, 1, self.examples)

    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        self.examples = len(made["train"])
        return made


class CutsTextsItself(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        cut = self.sequence_length
        return {name: Examples([text[:cut] for text in part.inputs], part.targets) for name, part in made.items()}


class IgnoresItsWindow(NextToken):
    def splits(self) -> Mapping[str, Examples]:
        kept, self.sequence_length = self.sequence_length, 16
        made = super().splits()
        self.sequence_length = kept
        return made


class DistanceIsNotReached(RunningSum):
    def splits(self) -> Mapping[str, Examples]:
        kept, self.sequence_length = self.sequence_length, 6
        made = super().splits()
        self.sequence_length = kept
        return made


CAUGHT: list[tuple[type[Task], str]] = [
    (NoValidation, "splits_are_three"),
    (EmptyTest, "splits_are_three"),
    (TestsOnTraining, "splits_are_disjoint"),
    (ValidatesOnTestedTensors, "splits_are_disjoint"),
    (SplitsByTheGlobalSeed, "splits_are_the_same_again"),
    (SplitsOnFromWhereItWas, "splits_are_the_same_again"),
    (IgnoresSplitSeed, "split_seed_deals_anew"),
    (DrawsByTheGlobalSeed, "draws_are_seeded"),
    (DrawsTheSameForEverySeed, "draws_are_seeded"),
    (DrawsWhatItTests, "draws_are_seeded"),
    (DrawsTooFew, "draws_are_seeded"),
    (GivesBytes, "inputs_are_right"),
    (TokensFromZero, "inputs_are_right"),
    (TestsOnNewTokens, "inputs_are_right"),
    (NamesNoPreprocessing, "default_preprocessing"),
    (NamesAStrangePreprocessing, "default_preprocessing"),
    (PreprocessesTensors, "default_preprocessing"),
    (CountsClassesFromOne, "targets_are_right"),
    (TargetsOneStepShort, "targets_are_right"),
    (ATargetIsInfinite, "targets_are_right"),
    (WeighsClasses, "sample_weights"),
    (WeighsBelowZero, "sample_weights"),
    (CutsTextsItself, "sequence_length_is_respected"),
    (IgnoresItsWindow, "sequence_length_is_respected"),
    (DistanceIsNotReached, "sequence_length_is_respected"),
]
"""Each fault, and the check that must find it."""
