"""Tasks with one fault each, in the head."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab import Batch, Task

from ..good_sequences import NextToken, RunningSum
from ..good_tasks import TwoClasses


class HeadNormalisesTheBatch(TwoClasses):
    def head(self, features: int) -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(features), nn.Linear(features, self.outputs))


class Centred(nn.Linear):
    """Takes the mean of the batch away, in training alone."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features - features.mean(0) if self.training else features)


class HeadCentresTheBatch(TwoClasses):
    def head(self, features: int) -> nn.Module:
        return Centred(features, self.outputs)


class RunningMean(nn.Linear):
    """Keeps a mean of what it saw, in training alone."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        self.mean = torch.zeros(features)

    def forward(self, features: Tensor) -> Tensor:
        out = super().forward(features - self.mean)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * features.detach().flatten(0, -2).mean(0)
        return out


class HeadKeepsARunningMean(TwoClasses):
    def head(self, features: int) -> nn.Module:
        return RunningMean(features, self.outputs)


class Detached(nn.Linear):
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.detach() if self.training else features)


class HeadDetachesInTraining(TwoClasses):
    def head(self, features: int) -> nn.Module:
        return Detached(features, self.outputs)


class DataOnly(nn.Linear):
    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight.data, self.bias)


class HeadNeverLearnsItsWeight(TwoClasses):
    def head(self, features: int) -> nn.Module:
        return DataOnly(features, self.outputs)


class HeadIsFrozen(TwoClasses):
    def head(self, features: int) -> nn.Module:
        return super().head(features).requires_grad_(False)


class HeadGivesProbabilities(TwoClasses):
    """Which the loss takes for scores."""

    def head(self, features: int) -> nn.Module:
        return nn.Sequential(nn.Linear(features, self.outputs), nn.Softmax(-1))


class HeadIsShared(TwoClasses):
    kept: Any = None

    def head(self, features: int) -> nn.Module:
        if self.kept is None or self.kept.in_features != features:
            self.kept = nn.Linear(features, self.outputs)
        return self.kept


class HeadSqueezes(TwoClasses):
    """A batch of one row loses its axis."""

    def head(self, features: int) -> nn.Module:
        class Squeezed(nn.Linear):
            def forward(self, features: Tensor) -> Tensor:
                return super().forward(features).squeeze(0)

        return Squeezed(features, self.outputs)


class HeadDropsInEvaluation(TwoClasses):
    def head(self, features: int) -> nn.Module:
        class Dropped(nn.Linear):
            def forward(self, features: Tensor) -> Tensor:
                return super().forward(F.dropout(features, 0.5))

        return Dropped(features, self.outputs)


class LooksAhead(nn.Linear):
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features + features.roll(-1, 1))


class HeadLooksAhead(NextToken):
    def head(self, features: int) -> nn.Module:
        return LooksAhead(features, self.outputs)


class HeadNormalisesOverTime(RunningSum):
    def head(self, features: int) -> nn.Module:
        class Normalised(nn.Linear):
            def forward(self, features: Tensor) -> Tensor:
                return super().forward(features - features.mean(1, keepdim=True))

        return Normalised(features, self.outputs)


class HeadIsPositive(RunningSum):
    """Of targets that are standardised, so that half of them are never met."""

    def head(self, features: int) -> nn.Module:
        return nn.Sequential(nn.Linear(features, 1), nn.Sigmoid())


class LossLearnsFromOneRowInTraining(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        if outputs.requires_grad:
            outputs = torch.cat([outputs[:1], outputs[1:].detach()])
        return super().loss(outputs, batch)


CAUGHT: list[tuple[type[Task], str]] = [
    (HeadNormalisesTheBatch, "head_keeps_rows_apart"),
    (HeadCentresTheBatch, "head_keeps_rows_apart"),
    (HeadDropsInEvaluation, "head_keeps_rows_apart"),
    (HeadKeepsARunningMean, "head_keeps_rows_apart"),
    (HeadDetachesInTraining, "head_learns"),
    (HeadIsFrozen, "head_learns"),
    (HeadGivesProbabilities, "head_learns"),
    (HeadIsPositive, "head_learns"),
    (HeadIsShared, "head_gives_the_outputs"),
    (HeadSqueezes, "head_gives_the_outputs"),
    (HeadLooksAhead, "head_keeps_rows_apart"),
    (HeadNormalisesOverTime, "head_keeps_rows_apart"),
    (HeadNeverLearnsItsWeight, "head_learns"),
    (LossLearnsFromOneRowInTraining, "every_row_counts_alike"),
]
"""Each fault, and the check that must find it."""
