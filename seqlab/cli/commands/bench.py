"""``bench``: how fast each kernel is here, against torch's own modules."""

import argparse
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from seqlab.cli.parser import Parser
from seqlab.contracts import Cell, Kernel, UserError
from seqlab.plugins.config import plugin_class
from seqlab.plugins.kernels import kernel_types, untrusted_reason
from seqlab.plugins.registry import plugins
from seqlab.recurrence import Loop, selection
from seqlab.recurrence.compiled import Compiled
from seqlab.recurrence.selection import choose, compile_policy
from seqlab.recurrence.timing import Shape, Timings, draw_lengths, measure, read_shape, timed_paths

SHAPES = "8x1000x16x64,16x1000x64x128,32x128x128x128,256x20x64x128,64x256x512x512,32x512x128x128r"
TUNED = (
    "1x50x64x64,1x50x64x200,1x300x128x512,4x100x64x64,4x100x256x256,8x400x16x64,16x400x64x128,32x128x128x128,"
    "256x20x64x128,64x20x512x512,8x40x512x512,32x200x64x64r,32x200x128x128r,64x20x512x512r"
)
_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
_PICTURES = (".png", ".pdf", ".svg")
_COLUMNS = (
    "cell",
    "shape",
    "path",
    "train_ms",
    "train_low",
    "train_high",
    "forward_ms",
    "kept_mib",
    "first_s",
    "ratio",
)


def main(arguments: list[str]) -> int:
    """Measure, print a table, and write what was asked for."""
    asked = _asked(arguments)
    if sys.platform == "linux" and not os.environ.keys() >= _HEAP.keys():
        # glibc gives large pieces back to the system at once and takes them anew, which costs torch's modules up to
        # half of their time, by chance: they are met at their best. It reads this when the process starts.
        os.execve(sys.executable, [sys.executable, "-m", "seqlab", "bench", *arguments], {**os.environ, **_HEAP})
    torch.set_num_threads(asked.threads or torch.get_num_threads())
    shapes = [_shape(text) for text in (asked.shapes or (TUNED if asked.tune else SHAPES)).split(",")]
    cells = asked.cells.split(",") if asked.cells else sorted({name.partition(".")[0] for name in plugins("kernel")})
    rows: list[dict[str, Any]] = []
    entries: list[selection.Measurement] = []
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    for cell in cells:
        unchecked = _unchecked(cell) if asked.tune else {}
        for name, reason in unchecked.items():
            print(f"{cell}: {name} {reason}; it is left out of the table", file=sys.stderr)
        for shape in shapes:
            with console.status(f"{cell} {shape}"):
                found = _measured(cell, shape, asked)
            rows += list(_rows(cell, shape, found))
            entries += _entry(cell, shape, {name: times for name, times in found.items() if name not in unchecked})
            if asked.csv:  # again after each case, so that what is interrupted leaves something
                _write_csv(asked.csv, rows)
    _show(rows, console, asked)
    if asked.plot:
        _plot(asked.plot, rows)
    if asked.tune:
        console.print(f"kernel=auto goes by {selection.write_table(torch.device('cpu'), entries)}", soft_wrap=True)
    return 0


def _asked(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("bench", description="Measure the kernels of cells, run in turns.")
    parser.add_argument("--cells", default="", help="such as lstm,gru; all that have kernels unless given")
    parser.add_argument("--shapes", default="", help=f"batch x time x input x hidden, r for ragged; {SHAPES}")
    parser.add_argument("--kernels", default="", help="such as vendor,fused:save=recompute,auto; all unless given")
    parser.add_argument("--runs", type=int, default=9, help="timed runs of each (%(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; what torch takes unless given")
    parser.add_argument("--tune", action="store_true", help="keep the table, so that kernel=auto goes by it")
    parser.add_argument("--csv", type=Path, help="write the table there")
    parser.add_argument("--plot", type=Path, help="draw the ratios there (.png, .pdf, .svg)")
    asked = parser.parse_args(arguments)
    for name, value, least in (("--runs", asked.runs, 1), ("--threads", asked.threads, 0)):
        if value < least:
            raise UserError(f"{name} is {value}; it must be at least {least}")
    for name, path in (("--csv", asked.csv), ("--plot", asked.plot)):
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{name} {path}: there is no folder {path.parent}")
    if asked.plot is not None and asked.plot.suffix not in _PICTURES:
        raise UserError(f"--plot {asked.plot}: a picture's name ends in one of {', '.join(_PICTURES)}")
    return asked


def _shape(text: str) -> Shape:
    try:
        return read_shape(text)
    except ValueError as error:
        raise UserError(f"--shapes: {error}") from error


def _measured(cell: str, shape: Shape, asked: argparse.Namespace) -> dict[str, Timings]:
    target = plugin_class("cell", cell)
    lengths = draw_lengths(shape)
    x = torch.empty(shape.time, shape.batch, shape.input)
    kernels = {}
    wanted = [text for text in asked.kernels.split(",") if text != "auto"] if asked.kernels else None
    if asked.kernels and len(wanted or ()) < len(asked.kernels.split(",")):
        chosen = _chosen(target, target(shape.input, hidden_size=shape.hidden), x, lengths)
        kernels[f"auto: {chosen.name}"] = chosen
    for name, kernel in _kernels(target, cell, wanted).items():
        if reason := kernel.refuses([target(shape.input, hidden_size=shape.hidden)], x, lengths):
            print(f"{cell} {shape}: {name} refuses: {reason}", file=sys.stderr)
        else:
            kernels[name] = kernel
    return measure(timed_paths(target, shape, kernels, lengths), shape, max(1, asked.runs))


def _unchecked(cell: str) -> dict[str, str]:
    """Find the kernels of a cell that ``kernel=auto`` does not take, and why."""
    entries = [entry for entry in plugins("kernel") if entry.partition(".")[0] == cell]
    return {entry.partition(".")[2]: reason for entry in entries if (reason := untrusted_reason(entry))}


def _chosen(target: type[Cell], cell: Cell, x: Tensor, lengths: Tensor | None) -> Kernel:
    """Ask ``kernel=auto``, as in a run that is long enough to compile."""
    compile_policy.begin()
    compile_policy.calls = sys.maxsize
    return choose("auto", [make() for make in kernel_types(target).values()], [cell], x, lengths).kernel


def _kernels(cell: type[Cell], name: str, wanted: Sequence[str] | None) -> Mapping[str, Kernel]:
    """Make the kernels that were asked for: ``name``, or ``name:option=value``; all of them for ``None``."""
    available: dict[str, Any] = {"loop": Loop, "compiled": Compiled, **kernel_types(cell)}
    found: dict[str, Kernel] = {}
    for text in kernel_types(cell) if wanted is None else wanted:
        kernel, _, options = text.partition(":")
        if kernel not in available:
            raise UserError(f"--kernels: {name} has no kernel {kernel}; it has {', '.join(available)}")
        pairs = dict(pair.partition("=")[::2] for pair in options.split("+") if pair)
        try:
            found[text] = available[kernel](**pairs)
        except (TypeError, ValueError) as error:
            raise UserError(f"--kernels: {text}: {error}") from error
    return found


def _rows(cell: str, shape: Shape, found: Mapping[str, Timings]) -> Iterator[dict[str, Any]]:
    theirs = [name for name in found if name.startswith("torch.nn.")]
    # Of ragged rows torch's own way is the packed one; padded, it gives other outputs and states.
    packed = [name for name in theirs if name.endswith("packed")]
    best = min((found[name].median for name in packed or theirs), default=None)
    for name, times in found.items():
        yield {
            "cell": cell,
            "shape": str(shape),
            "path": name,
            "train_ms": 1e3 * times.median,
            "train_low": 1e3 * min(times.train),
            "train_high": 1e3 * max(times.train),
            "forward_ms": 1e3 * statistics.median(times.forward),
            "kept_mib": times.kept / 2**20,
            "first_s": times.first,
            "ratio": None if best is None else best / times.median,
        }


def _entry(cell: str, shape: Shape, found: Mapping[str, Timings]) -> list[selection.Measurement]:
    kernels = {name: times.median for name, times in found.items() if not name.startswith("torch.nn.")}
    if not kernels:
        return []
    lengths = draw_lengths(shape)
    filled = 1.0 if lengths is None else float(lengths.sum()) / (shape.time * shape.batch)
    speeds = {name: max(kernels.values()) / seconds for name, seconds in kernels.items()}
    name = plugin_class("cell", cell).__name__
    return [selection.Measurement(name, shape.batch, shape.time, shape.input, shape.hidden, filled, speeds)]


def _show(rows: Sequence[Mapping[str, Any]], console: Console, asked: argparse.Namespace) -> None:
    table = Table(
        "cell", "batch x time x input x hidden", "path", "train ms (least-most)", "forward ms", "kept MiB",
        "first step s", "ratio",
        caption=f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32, medians of {asked.runs} runs"
        " in turns; ratio: torch.nn's time / the path's, in a training step (ragged rows: packed)",
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row["cell"],
            row["shape"],
            row["path"],
            f"{row['train_ms']:.2f} ({row['train_low']:.2f}-{row['train_high']:.2f})",
            f"{row['forward_ms']:.2f}",
            f"{row['kept_mib']:.1f}",
            f"{row['first_s']:.2f}",
            "" if row["ratio"] is None else f"{row['ratio']:.2f}",
        )
    console.print(table)


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _plot(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw each path's ratio by case, on a logarithmic axis."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["ratio"] is not None and not row["path"].startswith("torch.nn.")]
    if not shown:
        raise UserError("--plot: none of these cells has a torch.nn module to be compared with")
    figure = Figure(figsize=(8, 0.32 * len(shown) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    labels = [f"{row['cell']} {row['shape']} {row['path']}" for row in shown]
    axes.barh(labels, [row["ratio"] for row in shown], color="0.45")
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="times as fast as torch.nn, training step")
    axes.invert_yaxis()
    figure.savefig(path)
