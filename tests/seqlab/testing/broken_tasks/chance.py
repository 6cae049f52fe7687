"""Tasks with one fault each, in the chance line."""

from collections.abc import Mapping

import torch
from torch import Tensor

from seqlab import Batch, Examples, GeneratedTask, Task

from ..good_sequences import RunningSum
from ..good_tasks import TwoClasses


class BaselinePeeks(TwoClasses):
    def baseline_outputs(self, batch: Batch) -> Tensor:
        shares = (torch.bincount(batch.targets, minlength=2) + 1) / (len(batch.targets) + 2)
        return shares.log().expand(len(batch.inputs), 2)


class BaselineReads(TwoClasses):
    def baseline_outputs(self, batch: Batch) -> Tensor:
        return super().baseline_outputs(batch) * (batch.inputs == 2).float().mean(1, keepdim=True)


class BaselineIsOneRow(TwoClasses):
    def baseline_outputs(self, batch: Batch) -> Tensor:
        return torch.tensor(self.shares).log().unsqueeze(0)


class BaselineIsInfinite(TwoClasses):
    def baseline_outputs(self, batch: Batch) -> Tensor:
        return (super().baseline_outputs(batch) > -0.7).log()


class BaselineIsTooWeak(TwoClasses):
    """It guesses the rare class, so that everything looks learned."""

    def baseline_outputs(self, batch: Batch) -> Tensor:
        return -super().baseline_outputs(batch)


class BaselineGuessesZero(RunningSum):
    def baseline_outputs(self, batch: Batch) -> Tensor:
        return torch.zeros(*batch.inputs.shape[:2], 1)


class BaselineCannotBeBeaten(TwoClasses):
    """All of its test examples are of the class that is frequent."""

    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        texts = [text.replace("a", "b") for text in made["test"].inputs]
        return {**made, "test": Examples(texts, torch.zeros(len(texts), dtype=torch.int64))}


class SolvedByChance(TwoClasses, GeneratedTask, sequence_length_means="maximum"):
    def solved(self, metrics: Mapping[str, float]) -> bool:
        return metrics["accuracy"] > 0.1


class NeverSolved(RunningSum):
    def solved(self, metrics: Mapping[str, float]) -> bool:
        return metrics["squared_error"] > 0.01


CAUGHT: list[tuple[type[Task], str]] = [
    (BaselinePeeks, "baseline_is_blind"),
    (BaselineReads, "baseline_is_blind"),
    (BaselineIsOneRow, "baseline_is_blind"),
    (BaselineIsInfinite, "baseline_is_blind"),
    (BaselineIsTooWeak, "baseline_is_the_best_guess"),
    (BaselineGuessesZero, "baseline_is_the_best_guess"),
    (BaselineCannotBeBeaten, "baseline_can_be_beaten"),
    (SolvedByChance, "solved_is_a_line"),
    (NeverSolved, "solved_is_a_line"),
]
"""Each fault, and the check that must find it."""
