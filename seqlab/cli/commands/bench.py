"""``bench``: time the kernels of cells against ``torch.nn``, in interleaved runs."""

import argparse
import os
import statistics
import sys
import time as clock
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqlab.cli.output import Output
from seqlab.cli.parser import Parser, figure_path, integer, path
from seqlab.cli.products import products_flops, products_seconds
from seqlab.contracts import Cell, Kernel, UserError
from seqlab.io.atomic import write_text
from seqlab.io.csv_files import csv_text
from seqlab.plugins.config import plugin_class
from seqlab.plugins.kernels import kernel_types, untrusted_reason
from seqlab.plugins.registry import plugins
from seqlab.recurrence import Loop, selection
from seqlab.recurrence.compiled import Compiled
from seqlab.recurrence.selection import CompilePolicy, choose


class Shape(NamedTuple):
    """One layer's sizes, written ``batch x time x input x hidden``, with ``r`` behind it for ragged rows."""

    batch: int
    time: int
    input: int
    hidden: int
    ragged: bool = False

    def __str__(self) -> str:
        return "x".join(map(str, self[:4])) + ("r" if self.ragged else "")


def read_shape(text: str) -> Shape:
    """Read a shape such as ``16x1000x64x128`` or ``32x512x128x128r``."""
    sizes = text.removesuffix("r").split("x")
    if len(sizes) != 4 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise UserError(f"--shapes: shape must be batch x time x input x hidden, such as 16x1000x64x128, got {text}")
    batch, time, size, hidden = map(int, sizes)
    return Shape(batch, time, size, hidden, text.endswith("r"))


@final
class Timings(NamedTuple):
    """Times of one kernel, in seconds.

    Attributes:
        train: each training step: forward, and the gradients of inputs and parameters.
        forward: each forward pass without gradients.
        first: the first training step, with compilation.
        kept: bytes saved for the backward pass, outputs included.
    """

    train: list[float]
    forward: list[float]
    first: float
    kept: int

    @property
    def median(self) -> float:
        """Median time of a training step."""
        return statistics.median(self.train)


Forward = Callable[[Tensor], Tensor]
"""From the inputs ``[time, batch, input]`` to the outputs."""


def timed_paths(
    cell: Callable[..., Cell], shape: Shape, kernels: Mapping[str, Kernel], lengths: Tensor | None
) -> dict[str, tuple[Forward, list[nn.Parameter]]]:
    """Make the paths through one layer: each kernel, and torch's module of the cell's name if there is one.

    torch's module stands for itself twice where rows are ragged: over all padding, and packed.
    """
    torch.manual_seed(0)
    made = cell(shape.input, hidden_size=shape.hidden)
    found: dict[str, tuple[Forward, list[nn.Parameter]]] = {}
    if (module := torch_module(type(made), shape)) is not None:
        name = f"torch.nn.{type(module).__name__}"
        found[name] = (lambda x: module(x)[0]), list(module.parameters())
        if lengths is not None:
            found[f"{name}, packed"] = (lambda x: _packed(module, x, lengths)), list(module.parameters())
    for name, kernel in kernels.items():

        def run(x: Tensor, kernel: Kernel = kernel) -> Tensor:
            return kernel.outputs([made], x, [made.initial_state(x[0])], lengths)

        found[name] = run, list(made.parameters())
    return found


def torch_module(cell: type[Cell], shape: Shape) -> nn.RNNBase | None:
    """Make torch's module of a cell's name; ``None`` if there is none."""
    theirs: Any = getattr(nn, cell.__name__, None)
    if not isinstance(theirs, type) or not issubclass(theirs, nn.RNNBase):
        return None
    make: Any = theirs
    module: nn.RNNBase = make(shape.input, shape.hidden)
    return module


def _packed(module: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    packed, _ = module(pack_padded_sequence(x, lengths, enforce_sorted=False))
    padded: Tensor = pad_packed_sequence(packed, total_length=len(x))[0]
    return padded


def draw_lengths(shape: Shape) -> Tensor | None:
    """Draw uniform lengths from 1 to the time, with one full row; ``None`` if rows are not ragged."""
    if not shape.ragged:
        return None
    lengths = torch.randint(1, shape.time + 1, (shape.batch,), generator=torch.Generator().manual_seed(1))
    lengths[0] = shape.time
    return lengths


def measure(paths: Mapping[str, tuple[Forward, Sequence[nn.Parameter]]], shape: Shape, runs: int) -> dict[str, Timings]:
    """Run all kernels in turn, ``runs`` times."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(shape.time, shape.batch, shape.input, generator=generator).requires_grad_()
    weight = torch.randn(shape.time, shape.batch, shape.hidden, generator=generator)
    found: dict[str, Timings] = {}
    for name, (way, parameters) in paths.items():
        kept = _SavedTensors([x, *parameters])
        with kept.counting():
            y = way(x)
        kept.add(y)
        del y
        found[name] = Timings([], [], _train(way, parameters, x, weight), kept.bytes)
    for _ in range(runs):
        for name, (way, parameters) in paths.items():
            found[name].train.append(_train(way, parameters, x, weight))
        for name, (way, _) in paths.items():
            found[name].forward.append(_forward(way, x))
    return found


def _train(way: Forward, parameters: Sequence[nn.Parameter], x: Tensor, weight: Tensor) -> float:
    for leaf in (x, *parameters):
        leaf.grad = None
    started = clock.perf_counter()
    way(x).backward(weight)  # type: ignore[no-untyped-call]  # torch's own
    return clock.perf_counter() - started


def _forward(way: Forward, x: Tensor) -> float:
    with torch.no_grad():
        started = clock.perf_counter()
        way(x)
        return clock.perf_counter() - started


class _SavedTensors:
    """Counts the memory that autograd saves, each storage once, without the given tensors."""

    def __init__(self, given: Iterable[Tensor]) -> None:
        self._given = {tensor.untyped_storage().data_ptr() for tensor in given}
        self._pieces: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        return sum(self._pieces.values())

    def add(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._given:
            self._pieces[storage.data_ptr()] = storage.nbytes()
        return tensor

    def counting(self) -> Any:
        return torch.autograd.graph.saved_tensors_hooks(self.add, lambda tensor: tensor)


SHAPES = "8x1000x16x64,16x1000x64x128,32x128x128x128,256x20x64x128,64x256x512x512,32x512x128x128r"
TUNED = (
    "1x50x64x64,1x50x64x200,1x300x128x512,4x100x64x64,4x100x256x256,8x400x16x64,16x400x64x128,32x128x128x128,"
    "256x20x64x128,64x20x512x512,8x40x512x512,32x200x64x64r,32x200x128x128r,64x20x512x512r"
)
_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
_TORCH = "torch.nn."


def keep_heap(command: Sequence[str]) -> None:
    """Start this Python again with a command, unless its heap keeps large blocks already.

    glibc returns them to the system at once and requests them anew, which costs torch's modules up to half of their
    time at random. It reads these settings when the process starts.
    """
    if sys.platform == "linux" and not os.environ.keys() >= _HEAP.keys():
        os.execve(sys.executable, [sys.executable, *command], {**os.environ, **_HEAP})


def main(arguments: list[str]) -> int:
    """Measure, print a table and write the requested files."""
    args = _parse(arguments)
    keep_heap(["-m", "seqlab", "bench", *arguments])
    torch.set_num_threads(args.threads or torch.get_num_threads())
    shapes = [read_shape(text) for text in (args.shapes or (TUNED if args.tune else SHAPES)).split(",")]
    cells = args.cells.split(",") if args.cells else sorted({name.partition(".")[0] for name in plugins("kernel")})
    rows: list[dict[str, Any]] = []
    measured: list[selection.Measurement] = []
    out = Output() if sys.stdout.isatty() else Output(width=140)
    for cell in cells:
        entries = [entry for entry in plugins("kernel") if args.tune and entry.partition(".")[0] == cell]
        untrusted = {entry.partition(".")[2]: reason for entry in entries if (reason := untrusted_reason(entry))}
        for name, reason in untrusted.items():
            print(f"{cell}: {name} {reason}; not written to the table", file=sys.stderr)
        for shape in shapes:
            with out.status(f"{cell} {shape}"):
                times = _measured(cell, shape, args)
                bound = _bound(cell, shape, args.runs)
            rows += _rows(cell, shape, times, bound)
            measured += _entry(cell, shape, {name: each for name, each in times.items() if name not in untrusted})
            if args.csv and rows:  # after each case, so that an interruption loses little
                write_text(args.csv, csv_text(rows, list(rows[0])))
    _show(rows, out, args.runs)
    if args.plot:
        _plot(args.plot, rows)
    if args.tune:
        out.print_line(f"kernel=auto reads {selection.write_table(torch.device('cpu'), measured)}")
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


def _measured(cell: str, shape: Shape, args: argparse.Namespace) -> dict[str, Timings]:
    target = plugin_class("cell", cell)
    lengths = draw_lengths(shape)
    x = torch.empty(shape.time, shape.batch, shape.input)
    kernels = {}
    wanted = [text for text in args.kernels.split(",") if text != "auto"] if args.kernels else None
    if args.kernels and len(wanted or ()) < len(args.kernels.split(",")):
        made, policy = target(shape.input, hidden_size=shape.hidden), CompilePolicy(calls=sys.maxsize)
        chosen = choose("auto", [make() for make in kernel_types(target).values()], [made], x, lengths, policy).kernel
        kernels[f"auto: {chosen.name}"] = chosen
    for name, kernel in _kernels(target, cell, wanted).items():
        if reason := kernel.refuses([target(shape.input, hidden_size=shape.hidden)], x, lengths):
            print(f"{cell} {shape}: {name} refuses: {reason}", file=sys.stderr)
        else:
            kernels[name] = kernel
    return measure(timed_paths(target, shape, kernels, lengths), shape, args.runs)


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


@final
class Bound(NamedTuple):
    """What the matrix products of a training step take alone, by the fastest library at hand."""

    gflop: float
    seconds: float


def _bound(cell: str, shape: Shape, runs: int) -> Bound | None:
    """Time the products of torch's module of a cell; ``None`` if there is none."""
    if (module := torch_module(plugin_class("cell", cell), shape)) is None:
        return None
    lengths = draw_lengths(shape)
    rows = shape.batch * shape.time if lengths is None else int(lengths.sum())
    weights = [weight for weight in module.parameters() if weight.dim() == 2]
    return Bound(products_flops(weights, rows) / 1e9, products_seconds(weights, rows, runs))


def _rows(
    cell: str, shape: Shape, found: Mapping[str, Timings], bound: Bound | None = None
) -> Iterator[dict[str, Any]]:
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
            "gflops": None if bound is None else bound.gflop / times.median,
            "bound_gflops": None if bound is None else bound.gflop / bound.seconds,
        }


def _entry(cell: str, shape: Shape, found: Mapping[str, Timings]) -> list[selection.Measurement]:
    kernels = {name: times.median for name, times in found.items() if not name.startswith(_TORCH)}
    if not kernels:
        return []
    lengths = draw_lengths(shape)
    filled = 1.0 if lengths is None else float(lengths.sum()) / (shape.time * shape.batch)
    speeds = {name: max(kernels.values()) / seconds for name, seconds in kernels.items()}
    name = plugin_class("cell", cell).__name__
    return [selection.Measurement(name, shape.batch, shape.time, shape.input, shape.hidden, filled, speeds)]


def _show(rows: Sequence[Mapping[str, Any]], out: Output, runs: int) -> None:
    out.print_table(
        ("cell", "batch x time x input x hidden", "kernel", "training step, ms", "forward, ms", "saved, MiB",
         "first step, s", "ratio", "GFLOP/s"),
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
                "" if row["gflops"] is None else f"{row['gflops']:.0f} of {row['bound_gflops']:.0f}",
            )
            for row in rows
        ),
        caption=f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32; median (min-max) of {runs}"
        " interleaved runs; ratio: training step of torch.nn / of the kernel (ragged rows: packed); GFLOP/s: rate of"
        " the step's matrix products, of the faster of torch's BLAS and oneDNN at them alone, all time steps at once",
    )  # fmt: skip


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
