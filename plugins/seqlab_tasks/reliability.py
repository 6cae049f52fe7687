"""Whether confidence can be believed: a table and a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seqlab_tasks.confusion import save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HIT, _GAP = "#3b76af", "#d1603d"


def reliability_table(bins: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Describe each bin of confidence that has examples: its bounds, examples, mean confidence and accuracy.

    Args:
        bins: ``[bins, 3]``: examples, sum of their confidence, hits.
    """
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
    """Draw accuracy over confidence beside the diagonal, and below it where the examples are.

    Args:
        bins: ``[bins, 3]``: examples, sum of their confidence, hits.
        path: of the PNG file; it appears only once it is whole.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    examples, confidence, hits = bins.T
    total = max(examples.sum(), 1)
    figure = Figure(figsize=(5.6, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    _draw_accuracy(above, bins[examples > 0])
    error = np.abs(hits - confidence).sum() / total
    means = f"mean confidence {confidence.sum() / total:.1%}, accuracy {hits.sum() / total:.1%}"
    above.set_title(f"Test split: calibration error {error:.3f}\n{means}", fontsize=11, pad=10)
    edges = np.linspace(0, 1, len(bins) + 1)
    below.bar(edges[:-1], examples / total, width=1 / len(bins), align="edge", color="#a9c4de", edgecolor="white")
    below.set_ylabel("share of the\nexamples")
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
    save(figure, path)


def _draw_accuracy(axes: "Axes", bins: NDArray[np.float64]) -> None:
    """Draw each bin at its mean confidence, with the interval that so few examples leave for its accuracy."""
    axes.plot([0, 1], [0, 1], linestyle="--", color="0.45", linewidth=1.2, label="confidence is accuracy")
    if len(bins):
        examples, confidence, hits = bins.T
        accuracy = hits / examples
        low, high = wilson(hits, examples)
        spread = np.stack([accuracy - low, high - accuracy]).clip(min=0)
        style: dict[str, Any] = {
            "color": "#2b6aa6",
            "ecolor": "#8fb3d5",
            "elinewidth": 2,
            "capsize": 3,
            "markersize": 6,
        }
        label = "accuracy of a bin, with its 95 % interval"
        axes.errorbar(confidence / examples, accuracy, spread, fmt="o-", linewidth=1.5, label=label, **style)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("accuracy")
    axes.yaxis.set_major_formatter("{x:.0%}")


def wilson(hits: NDArray[np.float64], examples: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Give the 95 % interval of a share (Wilson 1927), with :math:`z = 1.96` and :math:`p` the observed share.

    .. math::
        \frac{1}{1 + z^2/n} \left( p + \frac{z^2}{2n} ± z \sqrt{\frac{p (1 - p)}{n} + \frac{z^2}{4 n^2}} \right)
    """
    z, share = 1.96, hits / examples
    middle = share + z**2 / (2 * examples)
    half = z * np.sqrt(share * (1 - share) / examples + z**2 / (4 * examples**2))
    scale = 1 / (1 + z**2 / examples)
    return scale * (middle - half), scale * (middle + half)
