"""Which class is taken for which: a table and a picture."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seqlab.io.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_COUNTS = 40
"""Classes beyond which the fields are too small for numbers."""
_LONGEST_LABEL = 20


def class_table(counts: NDArray[np.int64], labels: Sequence[str], noun: str) -> list[dict[str, Any]]:
    """Describe each class: its examples, recall, precision, F1, and the class it is most often taken for.

    Args:
        counts: ``[true class, predicted class]``.
        labels: of the classes.
        noun: what a class is; the first column's name.
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
    """Draw a confusion matrix: colours are shares of a row, numbers are examples.

    Args:
        counts: ``[true class, predicted class]``.
        labels: of the classes; one that the font cannot write shows as its row's number.
        noun: what a class is, for the axes.
        path: of the PNG file; it appears only once it is whole.
    """
    from matplotlib.figure import Figure

    classes = len(labels)
    totals = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    side = float(np.clip(0.48 * classes, 4.5, 22))
    figure = Figure(figsize=(side + 3.4, side + 2.0), layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = float(np.clip(22 * side / classes, 3, 10))
    _label_axes(axes, labels, totals[:, 0].tolist(), noun, size)
    if classes <= _MOST_COUNTS:
        _write_counts(axes, counts, shares, size, width=0.8 * 72 * side / classes)
    bar = figure.colorbar(picture, ax=axes, shrink=0.8, format="{x:.0%}")
    bar.set_label(f"share of the true {noun}'s examples")
    bar.outline.set_visible(False)
    accuracy = counts.diagonal().sum() / max(counts.sum(), 1)
    axes.set_title(f"Test split: {accuracy:.1%} of {counts.sum():,} examples on the diagonal", pad=12)
    save(figure, path)


def _label_axes(axes: "Axes", labels: Sequence[str], totals: Sequence[int], noun: str, size: float) -> None:
    legible = _legible(labels)
    ticks = range(len(labels))
    axes.set_xticks(ticks, legible, rotation=45, ha="right", rotation_mode="anchor", fontsize=size, parse_math=False)
    rows = [f"{label}  {total:,}" for label, total in zip(legible, totals, strict=True)]
    axes.set_yticks(ticks, rows, fontsize=size, parse_math=False)
    numbered = any(shown == _number(row) for row, shown in enumerate(legible))
    axes.set_xlabel(f"predicted {noun}" + ("\n(no. n: the n-th row of the table in results.json)" if numbered else ""))
    axes.set_ylabel(f"true {noun}, and its examples")
    between, ends = np.arange(0.5, len(labels) - 1), (-0.5, len(labels) - 0.5)
    axes.hlines(between, *ends, color="0.9", linewidth=0.6)
    axes.vlines(between, *ends, color="0.9", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _write_counts(
    axes: "Axes", counts: NDArray[np.int64], shares: NDArray[np.float64], size: float, width: float
) -> None:
    """Write each count that is not 0 into its field, light on dark, no wider than ``width`` points."""
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.55 else "0.15"
        shown = str(counts[row, column])
        fitting = min(size, width / (0.64 * len(shown)))  # a digit is 0.64 of the font's size wide
        text = axes.text(column, row, shown, ha="center", va="center", color=colour, fontsize=fitting)
        text.set_in_layout(False)  # it is within the axes, and asking each takes half of the time


def _legible(labels: Sequence[str]) -> list[str]:
    """Shorten long labels, and number those with letters that the font lacks (it would draw boxes, and warn)."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    shown = []
    for row, label in enumerate(labels):
        short = label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"
        shown.append(short if all(ord(character) in known for character in short) else _number(row))
    return shown


def _number(row: int) -> str:
    return f"no. {row + 1}"


def save(figure: Any, path: Path) -> None:
    """Draw a picture and write it atomically; ``savefig`` would draw all of it twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    whole = io.BytesIO()
    figure.set_dpi(120)
    FigureCanvasAgg(figure).print_png(whole, pil_kwargs={"compress_level": 2})  # type: ignore[no-untyped-call]  # matplotlib's own
    with replacing(path) as temporary:
        temporary.write_bytes(whole.getvalue())
