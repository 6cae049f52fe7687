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
    """Draw accuracy over confidence, with the gap to the diagonal, and below it where the examples are.

    Args:
        bins: ``[bins, 3]``: examples, sum of their confidence, hits.
        path: of the PNG file; it appears only once it is whole.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    examples, confidence, hits = bins.T
    total, some = max(examples.sum(), 1), np.maximum(examples, 1)
    there = examples > 0
    error = np.abs(hits - confidence).sum() / total
    figure = Figure(figsize=(5.6, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    edges = np.linspace(0, 1, len(bins) + 1)
    _draw_bins(above, edges[:-1][there], 1 / len(bins), (confidence / some)[there], (hits / some)[there])
    means = f"mean confidence {confidence.sum() / total:.1%}, accuracy {hits.sum() / total:.1%}"
    above.set_title(f"Test split: calibration error {error:.3f}\n{means}", fontsize=11, pad=10)
    below.bar(edges[:-1], examples / total, width=1 / len(bins), align="edge", color="0.7", edgecolor="white")
    below.set_ylabel("share of\nexamples")
    below.set_xlabel("confidence (probability of the predicted class)")
    below.yaxis.set_major_formatter("{x:.0%}")
    below.xaxis.set_major_formatter("{x:.0%}")
    low = 0.0 if not there.any() else min(0.5, float(edges[:-1][there].min()))
    below.set_xlim(low, 1)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def _draw_bins(
    axes: "Axes",
    left: NDArray[np.float64],
    width: float,
    confidence: NDArray[np.float64],
    accuracy: NDArray[np.float64],
) -> None:
    """Draw a bar up to each bin's accuracy, and the gap between that and the bin's mean confidence."""
    axes.bar(left, accuracy, width=width, align="edge", color=_HIT, edgecolor="white", label="accuracy")
    gap = {"color": _GAP, "alpha": 0.35, "hatch": "///", "edgecolor": _GAP, "linewidth": 0.8}
    axes.bar(left, confidence - accuracy, width, accuracy, align="edge", label="gap to confidence", **gap)  # type: ignore[arg-type]
    axes.plot([0, 1], [0, 1], linestyle="--", color="0.3", linewidth=1.2, label="confidence = accuracy")
    axes.set_ylim(0, 1)
    axes.set_ylabel("accuracy of the bin")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(loc="upper left", frameon=False)
