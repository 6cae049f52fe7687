"""Classification metrics, with tables and figures of the confusion matrix and of calibration.

Several metrics of torchmetrics differ from those here. Its macro averages count a class that is predicted but has no
examples, and its calibration error stores every example.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.utilities import dim_zero_cat

from seqlab_tasks.intervals import balanced_accuracy_interval, macro_f1_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_COUNTS = 40
"""Number of classes above which the cells of the confusion matrix are too small for numbers."""
_LONGEST_LABEL = 20


class Average(Metric):
    """Mean over all examples or steps, summed in double precision.

    Args:
        sums: returns the sum over a batch of outputs and targets, and the number of terms.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, sums: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | int]]) -> None:
        super().__init__()
        self.sums = sums
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch."""
        total, count = self.sums(outputs.float(), targets)
        self.total += total.double()
        self.count += count

    def compute(self) -> Tensor:
        """Return the mean."""
        return (self.total / self.count).float()


class AverageLoss(Average):
    """Mean of a loss that is at least 0."""

    higher_is_better = False
    plot_lower_bound = 0.0


def cross_entropies(outputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """Return the summed negative log-probability of the true classes, in nats; neither weighted nor smoothed."""
    return F.cross_entropy(outputs, targets, reduction="sum"), len(targets)


class Confusion(MulticlassConfusionMatrix):
    """Confusion matrix ``[true class, predicted class]``; metrics derived from it share one update per batch."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, validate_args=False)


@final
class Accuracy(Confusion):
    """Share of examples whose class is predicted."""

    higher_is_better = True
    plot_lower_bound, plot_upper_bound = 0.0, 1.0

    def compute(self) -> Tensor:
        """Return the share."""
        counts = super().compute()
        return counts.diagonal().sum() / counts.sum()


@final
class BalancedAccuracy(Confusion):
    """Mean recall over the classes with examples."""

    higher_is_better = True
    plot_lower_bound, plot_upper_bound = 0.0, 1.0

    def compute(self) -> Tensor:
        """Return the mean."""
        counts = super().compute()
        present = counts.sum(1) > 0
        return (counts.diagonal() / counts.sum(1))[present].mean()

    def interval(self) -> tuple[float, float]:
        """Return the ends of the 95 % interval."""
        return balanced_accuracy_interval(super().compute().cpu().numpy())


@final
class MacroF1(Confusion):
    r"""Mean over the classes with examples of ``F1 = 2 hits / (true + predicted)``."""

    higher_is_better = True
    plot_lower_bound, plot_upper_bound = 0.0, 1.0

    def compute(self) -> Tensor:
        """Return the mean."""
        counts = super().compute()
        present = counts.sum(1) > 0
        return (2 * counts.diagonal() / (counts.sum(0) + counts.sum(1)))[present].mean()

    def interval(self) -> tuple[float, float]:
        """Return the ends of the 95 % interval."""
        return macro_f1_interval(super().compute().cpu().numpy())


class Reliability(Metric):
    """Fifteen confidence bins ``[bins, 3]``: examples, sum of confidence, correct predictions.

    Confidence is the softmax probability of the predicted class.
    """

    full_state_update = False
    bins = 15
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("table", torch.zeros(self.bins, 3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch."""
        confidence, predicted = outputs.float().softmax(1).max(1)
        hits = predicted == targets
        index = (confidence * self.bins).long().clamp_(max=self.bins - 1)
        # A matrix product, since bincount is not deterministic on a GPU.
        member = index == torch.arange(self.bins, device=index.device).unsqueeze(1)
        self.table += member.double() @ torch.stack([torch.ones_like(confidence), confidence, hits], 1).double()

    def compute(self) -> Tensor:
        """Return the bins."""
        return self.table


@final
class CalibrationError(Reliability):
    r"""Expected calibration error ``Σ_b n_b/n |accuracy_b - confidence_b|`` (Naeini et al. 2015)."""

    higher_is_better = False
    plot_lower_bound, plot_upper_bound = 0.0, 1.0

    def compute(self) -> Tensor:
        """Return the weighted mean of the bins' gaps."""
        examples, confidence, hits = self.table.unbind(1)
        return ((hits - confidence).abs().sum() / examples.sum()).float()


@final
class ROCAUC(Metric):
    r"""Area under the ROC curve, one class against the rest, averaged over the classes with examples.

    With ranks :math:`r` among all :math:`n` examples and :math:`m` examples of the class :math:`c`, the area is
    :math:`(Σ_{i ∈ c} r_i - m (m + 1) / 2) / (m (n - m))`; ties share their mean rank (Mann & Whitney 1947). It is NaN
    if all examples belong to one class. The scores of all examples are stored.
    """

    full_state_update = False
    plot_lower_bound, plot_upper_bound = 0.0, 1.0
    higher_is_better = True
    scores: Any  # a list of batches, or one tensor once several ranks have been reduced
    targets: Any

    def __init__(self) -> None:
        super().__init__()
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Store a batch as log odds, which separate probabilities that round to 1."""
        self.scores.append(_log_odds(outputs.double()).float())
        self.targets.append(targets)

    def compute(self) -> Tensor:
        """Return the mean area."""
        scores, targets = dim_zero_cat(self.scores), dim_zero_cat(self.targets)
        present = [label for label in range(scores.shape[1]) if bool((targets == label).any())]
        return torch.stack([_area(scores[:, label], targets == label) for label in present]).mean().float()


def _log_odds(outputs: Tensor) -> Tensor:
    """Return ``ln p/(1 - p)`` of each class; that of the likeliest class sums the others without it."""
    logs = outputs.log_softmax(1)
    odds = logs - torch.log1p(-logs.exp().clamp(max=0.75))
    best = outputs.argmax(1, keepdim=True)
    rest = outputs.scatter(1, best, -torch.inf).logsumexp(1, keepdim=True)
    return odds.scatter(1, best, outputs.gather(1, best) - rest)


def _area(scores: Tensor, member: Tensor) -> Tensor:
    _, place, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    last = counts.cumsum(0)
    ranks = (last - (counts - 1) / 2.0)[place].double()
    inside = member.sum()
    area: Tensor = (ranks[member].sum() - inside * (inside + 1) / 2) / (inside * (len(member) - inside))
    return area


def classification_metrics(classes: int, ranking: bool = False) -> MetricCollection:
    """Return fresh scalar metrics; the first three share one confusion matrix.

    Args:
        classes: number of classes.
        ranking: whether to include ROC-AUC, which stores the scores of all examples.
    """
    shared: dict[str, Metric] = {
        "accuracy": Accuracy(classes), "balanced_accuracy": BalancedAccuracy(classes), "macro_f1": MacroF1(classes)
    }  # fmt: skip
    own: dict[str, Metric] = {"roc_auc": ROCAUC()} if ranking else {}
    own |= {"calibration_error": CalibrationError(), "loss": AverageLoss(cross_entropies)}
    return MetricCollection({**shared, **own}, compute_groups=[list(shared), *([name] for name in own)])


def class_table(counts: NDArray[np.int64], labels: Sequence[str], noun: str) -> list[dict[str, Any]]:
    """Return examples, recall, precision, F1 and the most frequent wrong prediction of each class.

    ``counts`` is ``[true class, predicted class]``; ``noun`` names the first column.
    """
    hits, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    mistakes = counts - np.diag(hits)
    return [
        {
            noun: label,
            "examples": int(true[row]),
            "recall": _ratio(hits[row], true[row]),
            "precision": _ratio(hits[row], predicted[row]),
            "f1": _ratio(2 * hits[row], true[row] + predicted[row]),
            "confused_with": labels[int(mistakes[row].argmax())] if mistakes[row].any() else None,
        }
        for row, label in enumerate(labels)
    ]


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def draw_confusion(counts: NDArray[np.int64], labels: Sequence[str], noun: str, path: Path) -> None:
    """Draw a confusion matrix ``[true class, predicted class]``: colours are shares of a row, numbers are examples.

    A label with characters that the font lacks is shown as its row number.
    """
    from matplotlib.figure import Figure

    classes = len(labels)
    totals = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    side = float(np.clip(0.48 * classes, 4.5, 22))
    figure = Figure(figsize=(side + 3.4, side + 2.0), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = float(np.clip(22 * side / classes, 3, 10))
    _label_axes(axes, labels, totals[:, 0].tolist(), noun, size)
    if classes <= _MOST_COUNTS:
        _write_counts(axes, counts, shares, size, width=0.8 * 72 * side / classes)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format="{x:.0%}")
    bar.set_label(f"share of the true {noun}'s examples")
    bar.outline.set_visible(False)
    accuracy = counts.diagonal().sum() / max(counts.sum(), 1)
    axes.set_title(f"Test split: {accuracy:.1%} of {counts.sum():,} examples on the diagonal", pad=12)
    save_figure(figure, path)


def _label_axes(axes: "Axes", labels: Sequence[str], totals: Sequence[int], noun: str, size: float) -> None:
    legible = _legible(labels)
    ticks = range(len(labels))
    axes.set_xticks(ticks, legible, rotation=45, ha="right", rotation_mode="anchor", fontsize=size, parse_math=False)
    rows = [f"{label}  {total:,}" for label, total in zip(legible, totals, strict=True)]
    axes.set_yticks(ticks, rows, fontsize=size, parse_math=False)
    numbered = any(shown == f"no. {row + 1}" for row, shown in enumerate(legible))
    axes.set_xlabel(f"predicted {noun}" + ("\n(no. n: row n of the table in results.json)" if numbered else ""))
    axes.set_ylabel(f"true {noun}, number of examples")
    between, ends = np.arange(0.5, len(labels) - 1), (-0.5, len(labels) - 0.5)
    axes.hlines(between, *ends, color="0.9", linewidth=0.6)
    axes.vlines(between, *ends, color="0.9", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _write_counts(
    axes: "Axes", counts: NDArray[np.int64], shares: NDArray[np.float64], size: float, width: float
) -> None:
    """Write each count above 0 into its cell, at most ``width`` points wide."""
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.55 else "0.15"
        shown = str(counts[row, column])
        fitting = min(size, width / (0.64 * len(shown)))  # a digit is 0.64 of the font size wide
        text = axes.text(column, row, shown, ha="center", va="center", color=colour, fontsize=fitting)
        text.set_in_layout(False)  # the text is inside the axes; measuring it would take half of the time


def _legible(labels: Sequence[str]) -> list[str]:
    """Shorten long labels, and number those with characters that the font lacks."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    shown = []
    for row, label in enumerate(labels):
        short = label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"
        shown.append(short if all(ord(character) in known for character in short) else f"no. {row + 1}")
    return shown


def reliability_table(bins: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return bounds, examples, mean confidence and accuracy of each bin of :class:`Reliability` with examples."""
    edges = np.linspace(0, 1, len(bins) + 1)
    return [
        {
            "from": round(float(edges[row]), 4),
            "to": round(float(edges[row + 1]), 4),
            "examples": int(examples),
            "confidence": float(confidence / examples),
            "accuracy": float(hits / examples),
        }
        for row, (examples, confidence, hits) in enumerate(bins)
        if examples
    ]


def draw_reliability(bins: NDArray[np.float64], path: Path) -> None:
    """Draw a reliability diagram: accuracy over confidence, and the share of examples below it."""
    from matplotlib.figure import Figure

    examples, confidence, hits = bins.T
    total = max(examples.sum(), 1)
    figure = Figure(figsize=(5.6, 6.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    _draw_accuracy(above, bins[examples > 0])
    error = np.abs(hits - confidence).sum() / total
    means = f"mean confidence {confidence.sum() / total:.1%}, accuracy {hits.sum() / total:.1%}"
    above.set_title(f"Test split: calibration error {error:.3f}\n{means}", fontsize=11, pad=10)
    edges = np.linspace(0, 1, len(bins) + 1)
    below.bar(edges[:-1], examples / total, width=1 / len(bins), align="edge", color="#a9c4de", edgecolor="white")
    below.set_ylabel("share of\nexamples")
    below.set_xlabel("confidence: probability of the predicted class")
    below.yaxis.set_major_formatter("{x:.0%}")
    below.xaxis.set_major_formatter("{x:.0%}")
    lowest = float(edges[int(np.argmax(examples > 0))])
    below.set_xlim(min(lowest, 0.5) - 0.02, 1.02)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="both", color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, path)


def _draw_accuracy(axes: "Axes", bins: NDArray[np.float64]) -> None:
    axes.plot([0, 1], [0, 1], linestyle="--", color="0.45", linewidth=1.2, label="perfect calibration")
    if len(bins):
        examples, confidence, hits = bins.T
        accuracy = hits / examples
        low, high = wilson(hits, examples)
        spread = np.stack([accuracy - low, high - accuracy]).clip(min=0)
        axes.errorbar(
            confidence / examples, accuracy, spread, fmt="o-", linewidth=1.5, color="#2b6aa6", ecolor="#8fb3d5",
            elinewidth=2, capsize=3, markersize=6, label="accuracy of a bin, 95 % interval",
        )  # fmt: skip
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("accuracy")
    axes.yaxis.set_major_formatter("{x:.0%}")


def wilson(hits: NDArray[np.float64], examples: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Return the 95 % interval of a share (Wilson 1927), with :math:`z = 1.96` and :math:`p` the observed share.

    .. math::
        \frac{1}{1 + z^2/n} \left( p + \frac{z^2}{2n} ± z \sqrt{\frac{p (1 - p)}{n} + \frac{z^2}{4 n^2}} \right)
    """
    z, share = 1.96, hits / examples
    middle = share + z**2 / (2 * examples)
    half = z * np.sqrt(share * (1 - share) / examples + z**2 / (4 * examples**2))
    scale = 1 / (1 + z**2 / examples)
    return scale * (middle - half), scale * (middle + half)


def save_figure(figure: Any, path: Path) -> None:
    """Write a PNG file under a temporary name, then rename it; ``savefig`` would draw everything twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = io.BytesIO()
    figure.set_dpi(120)
    FigureCanvasAgg(figure).print_png(content, pil_kwargs={"compress_level": 2})  # type: ignore[no-untyped-call]  # matplotlib's own
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content.getvalue())
    part.replace(path)
