"""Figure of the kernels' speed, from the output of ``bench --csv``."""

import csv
from pathlib import Path

from seqlab.study.plotting import INK, WIDTH, label_axes, legend, new_figure, save_figure, styles

CELLS = ("rnn", "gru", "lstm")
COMMANDS = [f"python -m seqlab bench --cells {','.join(CELLS)} --kernels fused --runs 5 --csv FILE"]
ABOUT = "22 November 2026; two idle cores of an AMD EPYC with AVX2, 2 threads, torch 2.13.0+cpu, float32"
CAPTION = (
    "Training step with `kernel=fused` relative to `torch.nn` (ragged: packed), with the range of five runs. Small"
    " networks gain most: the overhead per step shrinks, the matrix products do not. [Table](../results/kernels.md),"
    " [CSV](kernels.csv).\n"
)


def draw(table: Path, picture: Path) -> None:
    """Draw the speed-up of each cell and shape, with its spread, on a logarithmic axis."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"] == "fused"]
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    drawn = styles(CELLS)
    figure = new_figure(WIDTH, 1.5 + 0.55 * len(shapes))
    axes = figure.add_subplot()
    for offset, cell in zip((-0.22, 0.0, 0.22), CELLS, strict=True):
        mine = [row for row in rows if row["cell"] == cell]
        ratios = [float(row["ratio"]) for row in mine]
        theirs = [float(row["ratio"]) * float(row["train_ms"]) for row in mine]
        slow = [time / float(row["train_high"]) for time, row in zip(theirs, mine, strict=True)]
        fast = [time / float(row["train_low"]) for time, row in zip(theirs, mine, strict=True)]
        places = [shapes.index(row["shape"]) + offset for row in mine]
        style = drawn[cell]
        axes.hlines(places, slow, fast, color=style.colour, linewidth=2.2, alpha=0.5)
        axes.plot(ratios, places, **{**style.line_options(), "linestyle": "none"}, label=cell)
    axes.axvline(1, color=INK, alpha=0.75, linewidth=1, linestyle=(0, (5, 3)), label="torch.nn")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    label_axes(axes, "times as fast as torch.nn, training step", "batch x time x input x hidden")
    axes.set_yticks(range(len(shapes)), [shape.replace("r", "\nragged") for shape in shapes])
    axes.invert_yaxis()
    legend(figure, axes, 4)
    save_figure(figure, picture)
