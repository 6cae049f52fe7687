"""Metrics of a classification, from class scores before softmax."""

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.utilities import dim_zero_cat


class Confusion(MulticlassConfusionMatrix):
    """Counts ``[true class, predicted class]``; what is computed from them shares one update a batch."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, validate_args=False)


@final
class Accuracy(Confusion):
    """Share of the examples whose class is the predicted one."""

    plot_lower_bound, plot_upper_bound = 0.0, 1.0

    def compute(self) -> Tensor:
        """Compute the share."""
        counts = super().compute()
        return counts.diagonal().sum() / counts.sum()


@final
class BalancedAccuracy(Confusion):
    """Mean over the classes that occur of the share of each that is found (recall)."""

    plot_lower_bound, plot_upper_bound = 0.0, 1.0

    def compute(self) -> Tensor:
        """Compute the mean."""
        counts = super().compute()
        there = counts.sum(1) > 0
        return (counts.diagonal() / counts.sum(1))[there].mean()


@final
class MacroF1(Confusion):
    r"""Mean over the classes that occur of ``F1 = 2 hits / (true + predicted)``."""

    plot_lower_bound, plot_upper_bound = 0.0, 1.0

    def compute(self) -> Tensor:
        """Compute the mean."""
        counts = super().compute()
        there = counts.sum(1) > 0
        return (2 * counts.diagonal() / (counts.sum(0) + counts.sum(1)))[there].mean()


class Reliability(Metric):
    r"""Fifteen bins of confidence, ``[bins, 3]``: the examples in each, the sum of their confidence, and the hits.

    Confidence is the softmax of the predicted class. Sums are kept, where torchmetrics keeps every example.
    """

    full_state_update = False
    bins = 15
    table: Tensor

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_state("table", torch.zeros(self.bins, 3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch."""
        confidence, predicted = outputs.float().softmax(1).max(1)
        hits = predicted == targets
        where = (confidence * self.bins).long().clamp_(max=self.bins - 1)
        member = where == torch.arange(self.bins, device=where.device).unsqueeze(1)  # bincount varies on a GPU
        self.table += member.double() @ torch.stack([torch.ones_like(confidence), confidence, hits], 1).double()

    def compute(self) -> Tensor:
        """Give the bins."""
        return self.table


@final
class CalibrationError(Reliability):
    r"""How far confidence is from accuracy: ``Σ_b n_b/n |accuracy_b - confidence_b|`` (Naeini et al. 2015)."""

    higher_is_better = False
    plot_lower_bound, plot_upper_bound = 0.0, 1.0

    def compute(self) -> Tensor:
        """Compute the weighted mean of the bins' gaps."""
        examples, confidence, hits = self.table.unbind(1)
        return ((hits - confidence).abs().sum() / examples.sum()).float()


@final
class ROCAUC(Metric):
    r"""Area under the ROC curve, each class against the rest, averaged over the classes that occur.

    That of a class is how often an example of it has a higher probability for it than one of the rest, a tie counting
    half (Mann & Whitney 1947): with ranks :math:`r` among all :math:`n`, and :math:`m` examples of the class,
    :math:`(Σ_{i ∈ c} r_i - m (m + 1) / 2) / (m (n - m))`. It is NaN where all examples are of one class. Scores of all
    examples are kept.
    """

    full_state_update = False
    plot_lower_bound, plot_upper_bound = 0.0, 1.0
    higher_is_better = True
    scores: Any  # a list of batches, or one tensor once several processes have joined them
    targets: Any

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Keep a batch, as log odds, which tell probabilities near 1 apart."""
        self.scores.append(_log_odds(outputs.double()).float())
        self.targets.append(targets)

    def compute(self) -> Tensor:
        """Compute the mean."""
        scores, targets = dim_zero_cat(self.scores), dim_zero_cat(self.targets)
        areas = [
            _area(scores[:, label], targets == label)
            for label in range(scores.shape[1])
            if bool((targets == label).any())
        ]
        return torch.stack(areas).mean().float()


def _log_odds(outputs: Tensor) -> Tensor:
    """Compute ``ln p/(1 - p)`` of each class: directly, but for the likeliest, whose rest is summed without it."""
    logs = outputs.log_softmax(1)
    odds = logs - torch.log1p(-logs.exp().clamp(max=0.75))
    best = outputs.argmax(1, keepdim=True)
    rest = outputs.scatter(1, best, -torch.inf).logsumexp(1, keepdim=True)
    return odds.scatter(1, best, outputs.gather(1, best) - rest)


def _area(scores: Tensor, member: Tensor) -> Tensor:
    """Compute the area for one class; ties share the mean of their ranks."""
    _, place, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    last = counts.cumsum(0)
    ranks = (last - (counts - 1) / 2.0)[place].double()
    inside = member.sum()
    area: Tensor = (ranks[member].sum() - inside * (inside + 1) / 2) / (inside * (len(member) - inside))
    return area


@final
class CrossEntropy(Metric):
    """Mean negative log-probability of the true class, in nats; neither weighted nor smoothed."""

    full_state_update = False
    higher_is_better = False
    plot_lower_bound = 0.0
    total: Tensor
    examples: Tensor

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("examples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch."""
        self.total += F.cross_entropy(outputs.float(), targets, reduction="sum")
        self.examples += len(targets)

    def compute(self) -> Tensor:
        """Compute the mean."""
        return (self.total / self.examples).float()


def classification_metrics(classes: int, ranking: bool = False) -> MetricCollection:
    """Make the scalar metrics: one pass over the counts serves the first three.

    Args:
        classes: number of them.
        ranking: whether ROC-AUC is among them, which keeps the scores of all examples.
    """
    ranked = {"roc_auc": ROCAUC()} if ranking else {}
    others = [[name] for name in (*ranked, "calibration_error", "loss")]
    return MetricCollection(
        {
            "accuracy": Accuracy(classes),
            "balanced_accuracy": BalancedAccuracy(classes),
            "macro_f1": MacroF1(classes),
            **ranked,
            "calibration_error": CalibrationError(),
            "loss": CrossEntropy(),
        },
        compute_groups=[["accuracy", "balanced_accuracy", "macro_f1"], *others],
    )
