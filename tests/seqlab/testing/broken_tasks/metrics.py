"""Tasks with one fault each, in the metrics."""

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from seqlab import Task

from ..good_sequences import CrossEntropy, NextToken
from ..good_tasks import Mean, TwoClasses


class MetricOfEachClass(TwoClasses):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": MulticlassAccuracy(2, average="none")})


class Undefined(Mean):
    """Nothing by nothing."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.zeros(0)


class MetricIsNaN(TwoClasses):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": MulticlassAccuracy(2, average="micro"), "share": Undefined()})


class MonitorsNothing(TwoClasses):
    @property
    def monitor(self) -> str:
        return "valid/accuracy"


class ModeIsAWord(TwoClasses):
    @property
    def mode(self) -> Any:
        return "higher"


ONE = MetricCollection({"accuracy": MulticlassAccuracy(2, average="micro")})


class SharesItsMetrics(TwoClasses):
    def metrics(self) -> MetricCollection:
        return ONE


class KeepsCounting(Mean):
    """A reset forgets the sum, and not the count."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == targets).double()

    def reset(self) -> None:
        count = self.count
        super().reset()
        self.count = count.clone()


class MetricsAreNeverReset(TwoClasses):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": KeepsCounting()})


class MeanOfPerplexities(CrossEntropy):
    """Of the batches, each of which counts the same."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.total += self.values(outputs, targets).mean().exp()
        self.count += 1


class MetricsAreMeansOfBatches(NextToken):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"perplexity": MeanOfPerplexities()})


class ModeIsWrong(TwoClasses):
    @property
    def mode(self) -> Literal["min", "max"]:
        return "min"


CAUGHT: list[tuple[type[Task], str]] = [
    (MetricOfEachClass, "metrics_are_finite_scalars"),
    (MetricIsNaN, "metrics_are_finite_scalars"),
    (MonitorsNothing, "monitor_is_a_metric"),
    (ModeIsAWord, "monitor_is_a_metric"),
    (SharesItsMetrics, "metrics_are_fresh"),
    (MetricsAreNeverReset, "metrics_reset"),
    (MetricsAreMeansOfBatches, "metrics_add_up"),
    (ModeIsWrong, "mode_is_right"),
]
"""Each fault, and the check that must find it."""
