"""Loss against context, as a picture and a file."""

import csv
import io
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from seqlab.study.context import Context, ContextRow
from seqlab.training.runfolder import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOOKS = {"truncated": ("#0072B2", "o", "-"), "shuffled": ("#D55E00", "s", "--")}


def write(found: Context, path: Path) -> None:
    """Write the rows as CSV, and the whole context as one more, which has no length."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(ContextRow))
    for row in found.rows:
        writer.writerow(_cell(getattr(row, field.name)) for field in fields(ContextRow))
    writer.writerow(["whole", "", found.tokens, _cell(found.bits), _cell(found.standard_error), "", "", ""])
    write_text(path, text.getvalue())


def _cell(value: object) -> str:
    return f"{value:.8g}" if isinstance(value, float) else str(value)


def draw(found: Context, title: str) -> "Figure":
    """Draw bits a token against tokens of context, with two standard errors of the difference to each side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    names = {
        "truncated": "only the last n tokens are read",
        "shuffled": f"{found.shuffled_to:,} are read, those before the last n shuffled",
    }
    for kind, (colour, marker, line) in _LOOKS.items():
        rows = [row for row in found.rows if row.kind == kind]
        where, bits = [row.context for row in rows], [row.bits for row in rows]
        errors = [2 * row.difference_error for row in rows]
        look = {"color": colour, "marker": marker, "linestyle": line, "markersize": 4.5, "capsize": 3}
        axes.errorbar(where, bits, errors, label=names[kind], **look)  # type: ignore[arg-type]  # of the line
    axes.axhline(found.bits, color="0.2", linewidth=1, label=f"whole context: {found.bits:.3f}")
    axes.axhspan(found.bits, 1.01 * found.bits, color="0.2", alpha=0.12, linewidth=0, label="within 1 %")
    if found.effective is not None:
        label = f"effective context: {found.effective:,} tokens"
        axes.axvline(found.effective, color="#009E73", linestyle=":", linewidth=1.6, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("n, tokens of context left as they are")
    axes.set_ylabel("loss (bits a token)\nbars: two standard errors of the difference", fontsize=9)
    axes.set_title(f"{title}, {found.tokens:,} tokens predicted", fontsize=10, loc="left")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure
