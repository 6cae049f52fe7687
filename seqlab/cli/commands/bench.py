"""``bench``: time the kernels of cells against ``torch.nn``."""

import argparse
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqlab.cli.output import Output
from seqlab.cli.parser import Parser, figure_path, integer, path
from seqlab.contracts import Cell, Kernel, UserError
from seqlab.plugins.config import plugin_class
from seqlab.plugins.kernels import kernel_types, untrusted_reason
from seqlab.plugins.registry import plugins
from seqlab.recurrence import Loop, selection
from seqlab.recurrence.compiled import Compiled
from seqlab.recurrence.selection import CompilePolicy, choose
from seqlab.recurrence.timing import Shape, Times, draw_lengths, measure, read_shape, timed_paths

SHAPES = "8x1000x16x64,16x1000x64x128,32x128x128x128,256x20x64x128,64x256x512x512,32x512x128x128r"
TUNED = (
    "1x50x64x64,1x50x64x200,1x300x128x512,4x100x64x64,4x100x256x256,8x400x16x64,16x400x64x128,32x128x128x128,"
    "256x20x64x128,64x20x512x512,8x40x512x512,32x200x64x64r,32x200x128x128r,64x20x512x512r"
)
_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
_TORCH = "torch.nn."
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
    """Measure, print a table and write the requested files."""
    args = _parse(arguments)
    if sys.platform == "linux" and not os.environ.keys() >= _HEAP.keys():
        # glibc returns large blocks to the system at once and requests them anew, which costs torch's modules up to
        # half of their time at random. It reads these settings when the process starts.
        os.execve(sys.executable, [sys.executable, "-m", "seqlab", "bench", *arguments], {**os.environ, **_HEAP})
    torch.set_num_threads(args.threads or torch.get_num_threads())
    shapes = [_shape(text) for text in (args.shapes or (TUNED if args.tune else SHAPES)).split(",")]
    cells = args.cells.split(",") if args.cells else sorted({name.partition(".")[0] for name in plugins("kernel")})
    rows: list[dict[str, Any]] = []
    entries: list[selection.Entry] = []
    out = Output() if sys.stdout.isatty() else Output(width=140)
    for cell in cells:
        untrusted = _untrusted(cell) if args.tune else {}
        for name, reason in untrusted.items():
            print(f"{cell}: {name} {reason}; not written to the table", file=sys.stderr)
        for shape in shapes:
            with out.status(f"{cell} {shape}"):
                times = _measured(cell, shape, args)
            rows += _rows(cell, shape, times)
            entries += _entry(cell, shape, {name: each for name, each in times.items() if name not in untrusted})
            if args.csv and rows:  # after each case, so that an interruption loses little
                _write_csv(args.csv, rows)
    _show(rows, out, args.runs)
    if args.plot:
        _plot(args.plot, rows)
    if args.tune:
        out.print_line(f"kernel=auto reads {selection.write(torch.device('cpu'), entries)}")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("bench", description="Time the kernels of cells, in interleaved runs.")
    parser.add_argument("--cells", default="", help="such as lstm,gru (all that have kernels)")
    parser.add_argument("--shapes", default="", help=f"batch x time x input x hidden, r for ragged rows ({SHAPES})")
    parser.add_argument("--kernels", default="", help="such as vendor,fused:save=recompute,auto (all)")
    parser.add_argument("--runs", type=integer(1), default=9, help="timed runs of each kernel (%(default)s)")
    parser.add_argument("--threads", type=integer(0), default=0, help="threads of torch (torch's default)")
    parser.add_argument("--tune", action="store_true", help="write the table that kernel=auto reads")
    parser.add_argument("--csv", type=path, metavar="FILE", help="write the table as CSV")
    parser.add_argument("--plot", type=figure_path, metavar="FILE", help="plot the ratios (.png, .pdf or .svg)")
    args = parser.parse(arguments)
    for name, file in (("--csv", args.csv), ("--plot", args.plot)):
        if file is not None and not file.parent.is_dir():
            raise UserError(f"{name} {file}: there is no folder {file.parent}")
    return args


def _shape(text: str) -> Shape:
    try:
        return read_shape(text)
    except ValueError as error:
        raise UserError(f"--shapes: {error}") from error


def _measured(cell: str, shape: Shape, args: argparse.Namespace) -> dict[str, Times]:
    target = plugin_class("cell", cell)
    lengths = draw_lengths(shape)
    x = torch.empty(shape.time, shape.batch, shape.input)
    kernels = {}
    wanted = [text for text in args.kernels.split(",") if text != "auto"] if args.kernels else None
    if args.kernels and len(wanted or ()) < len(args.kernels.split(",")):
        chosen = _chosen(target, target(shape.input, hidden_size=shape.hidden), x, lengths)
        kernels[f"auto: {chosen.name}"] = chosen
    for name, kernel in _kernels(target, cell, wanted).items():
        if reason := kernel.refuses([target(shape.input, hidden_size=shape.hidden)], x, lengths):
            print(f"{cell} {shape}: {name} refuses: {reason}", file=sys.stderr)
        else:
            kernels[name] = kernel
    return measure(timed_paths(target, shape, kernels, lengths), shape, args.runs)


def _untrusted(cell: str) -> dict[str, str]:
    """Return the kernels of a cell that ``kernel=auto`` does not use, each with the reason."""
    entries = [entry for entry in plugins("kernel") if entry.partition(".")[0] == cell]
    return {entry.partition(".")[2]: reason for entry in entries if (reason := untrusted_reason(entry))}


def _chosen(target: type[Cell], cell: Cell, x: Tensor, lengths: Tensor | None) -> Kernel:
    """Return the choice of ``kernel=auto`` in a run that is long enough to compile."""
    kernels = [make() for make in kernel_types(target).values()]
    return choose("auto", kernels, [cell], x, lengths, CompilePolicy(calls=sys.maxsize)).kernel


def _kernels(cell: type[Cell], name: str, wanted: Sequence[str] | None) -> Mapping[str, Kernel]:
    """Build the requested kernels, given as ``name`` or ``name:option=value``; all kernels for ``None``."""
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


def _rows(cell: str, shape: Shape, found: Mapping[str, Times]) -> Iterator[dict[str, Any]]:
    theirs = [name for name in found if name.startswith(_TORCH)]
    # For ragged rows the packed module is the baseline: on padded rows torch returns other outputs and states.
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


def _entry(cell: str, shape: Shape, found: Mapping[str, Times]) -> list[selection.Entry]:
    kernels = {name: times.median for name, times in found.items() if not name.startswith(_TORCH)}
    if not kernels:
        return []
    lengths = draw_lengths(shape)
    filled = 1.0 if lengths is None else float(lengths.sum()) / (shape.time * shape.batch)
    speeds = {name: max(kernels.values()) / seconds for name, seconds in kernels.items()}
    name = plugin_class("cell", cell).__name__
    return [selection.Entry(name, shape.batch, shape.time, shape.input, shape.hidden, filled, speeds)]


def _show(rows: Sequence[Mapping[str, Any]], out: Output, runs: int) -> None:
    out.print_table(
        ("cell", "batch x time x input x hidden", "kernel", "training step, ms", "forward, ms", "saved, MiB",
         "first step, s", "ratio"),
        (
            (
                row["cell"],
                row["shape"],
                row["path"],
                f"{row['train_ms']:.2f} ({row['train_low']:.2f}-{row['train_high']:.2f})",
                f"{row['forward_ms']:.2f}",
                f"{row['kept_mib']:.1f}",
                f"{row['first_s']:.2f}",
                "" if row["ratio"] is None else f"{row['ratio']:.2f}",
            )
            for row in rows
        ),
        caption=f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32; median (min-max) of {runs}"
        " interleaved runs; ratio: training step of torch.nn / of the kernel (ragged rows: packed)",
    )  # fmt: skip


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    from seqlab.io.atomic import write_text
    from seqlab.io.csv_files import csv_text

    write_text(path, csv_text(rows, _COLUMNS))


def _plot(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Plot the ratio of each kernel and case on a logarithmic axis."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["ratio"] is not None and not row["path"].startswith(_TORCH)]
    if not shown:
        raise UserError("--plot: none of these cells has a torch.nn module as baseline")
    figure = Figure(figsize=(8, 0.32 * len(shown) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    labels = [f"{row['cell']} {row['shape']} {row['path']}" for row in shown]
    axes.barh(labels, [row["ratio"] for row in shown], color="0.45")
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="speed-up over torch.nn, training step")
    axes.invert_yaxis()
    figure.savefig(path)
