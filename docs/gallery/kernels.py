"""The gallery's picture of the kernels' speed, from what ``bench --csv`` wrote."""

import csv
from pathlib import Path

from seqlab.study.plotting import INK, WIDTH, label_axes, legend, new_figure, save_figure, styles

CELLS = ("rnn", "gru", "lstm")
COMMANDS = [f"python -m seqlab bench --cells {cell} --kernels fused --runs 5 --csv FILE" for cell in CELLS]
ABOUT = "22 November 2026; two idle cores of an AMD EPYC with AVX2; torch 2.13.0 for CPUs, two threads, float32"
CAPTION = (
    "How many times as fast a training step is with `kernel=fused` as with `torch.nn` on a CPU (ragged: packed). The"
    " lines go from the fused kernel's slowest run of five to its fastest. Long sequences with few units gain most, as"
    " what is saved is the work around each step; large products gain least, as torch's are as good. It is the table of"
    " [kernels](../results/kernels.md#a-training-step); the figures are in [kernels.csv](kernels.csv).\n"
)


def draw(table: Path, picture: Path) -> None:
    """Draw the ratio of each cell and shape, with its spread, on a logarithmic axis."""
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
