"""Selection of the kernel that scans a layer."""

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, final

import torch
from torch import Tensor

from seqlab.contracts import Cell, Kernel, State
from seqlab.contracts.batch import Lengths
from seqlab.contracts.masks import checked
from seqlab.io.atomic import replacing
from seqlab.io.cache import cache_path
from seqlab.plugins.kernels import entry_of, precedence, untrusted_reason
from seqlab.recurrence.compiled import Compiled
from seqlab.recurrence.graphs import assume_constant_result
from seqlab.recurrence.scan import scan


@final
class CompilePolicy:
    """Decisions of one run not to use a kernel, each made once so that a run does not change kernels.

    Attributes:
        calls: number of calls of a layer in this run; ``None`` if unknown.
        reasons: why a kernel is deferred, by cell, kernel and dtype; empty if it is not.
    """

    def __init__(self, calls: int | None = None) -> None:
        self.calls = calls
        self.reasons: dict[str, str] = {}

    def defer_reason(self, kernel: Kernel, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str:
        """Return why a kernel is not compiled in this run; empty if it may be."""
        key = f"{type(cells[0]).__name__}.{kernel.name}.{x.dtype}"
        if key not in self.reasons:
            self.reasons[key] = kernel.defer_reason(cells, x, lengths, self.calls) or ""
        return self.reasons[key]

    def distrust_reason(self, kernel: Kernel, x: Tensor) -> str:
        """Return why a kernel of another distribution is not trusted; empty if it is.

        A run that began without the kernel continues without it. A run resumed on another machine does not trust
        kernels checked on the first.
        """
        entry = entry_of(kernel)
        if entry is None or (not (now := _untrusted_reason(entry, x.device.type)) and entry not in self.reasons):
            return ""
        return self.reasons.setdefault(entry, now) or now


@assume_constant_result
def _untrusted_reason(entry: str, device: str) -> str:
    return untrusted_reason(entry, device) or ""


FORMAT = 1
MAX_DISTANCE = 4.0
"""Largest distance of a shape to a measurement that is used for it, in doublings of its sizes."""


class Measurement(NamedTuple):
    """Speeds of the kernels, relative to the slowest, in a training step of one cell (its class name) and shape.

    ``filled`` is the share of the steps that is not padding.
    """

    cell: str
    batch: int
    time: int
    input: int
    hidden: int
    filled: float
    speeds: Mapping[str, float]


def table_path(device: torch.device) -> Path:
    """Return the file of this machine's measurements: one for each device, torch version and number of threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.node()} {platform.processor()}"
    return cache_path("tuning", [FORMAT, device.type, name, torch.__version__, torch.get_num_threads()], ".json")


def write_table(device: torch.device, entries: Sequence[Measurement]) -> Path:
    """Write the measurements, which this process uses from now on."""
    path = table_path(device)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps([entry._asdict() for entry in entries], indent=1), "utf-8")
    _read.cache_clear()
    return path


@cache
def _read(device: torch.device, threads: int) -> tuple[Measurement, ...]:  # noqa: ARG001  # a key of the cache
    try:
        return tuple(Measurement(**entry) for entry in json.loads(table_path(device).read_text("utf-8")))
    except (OSError, ValueError, TypeError):  # missing or damaged: the kernels' own estimates are used
        return ()


def measured_speeds(cell: str, hidden: int, x: Tensor, lengths: Tensor | None) -> Mapping[str, float]:
    """Return the speed of each kernel on the nearest measured shape; empty if none is near."""
    if torch.compiler.is_compiling():
        return {}
    entries = [entry for entry in _read(x.device, torch.get_num_threads()) if entry.cell == cell]
    if not entries or not x.numel():
        return {}
    time, batch, size = x.shape
    filled = 1.0 if lengths is None else max(1, int(lengths.sum())) / (time * batch)

    def distance(entry: Measurement) -> float:
        sizes = ((entry.batch, batch), (entry.time, time), (entry.input, size), (entry.hidden, hidden))
        away = sum(abs(math.log2(a / b)) * weight for (a, b), weight in zip(sizes, (1, 0.5, 0.5, 1), strict=True))
        return away + abs(math.log2(entry.filled / filled))

    nearest = min(entries, key=distance)
    return nearest.speeds if distance(nearest) <= MAX_DISTANCE else {}


class Loop(Kernel):
    """The reference: a loop over time, for any cell."""

    name = "loop"
    cell = Cell

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Refuse nothing."""
        return None

    def scan_one(self, cell: Cell, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Scan step by step."""
        return scan(cell, x, state, lengths)


class Choice(NamedTuple):
    """A kernel and why it was chosen."""

    kernel: Kernel
    reason: str


def choose(
    requested: str | Kernel,
    kernels: Iterable[Kernel],
    cells: Sequence[Cell],
    x: Tensor,
    lengths: Lengths | None,
    policy: CompilePolicy | None = None,
) -> Choice:
    """Choose the kernel of one layer.

    Args:
        requested: ``auto``, ``loop``, ``compiled`` (or the loop), the name of a registered kernel, or a kernel.
        kernels: the kernels registered for this type of cell.
        cells: the layer's cells.
        x: its input ``[time, batch, input]``.
        lengths: valid steps of each row, or ``None``.
        policy: of the run, for ``auto``; a new one if ``None``.

    Raises:
        ValueError: the requested kernel does not exist for this cell, or refuses the input.
    """
    lengths = None if lengths is None else checked(lengths, x)
    if requested == "loop":
        return Choice(Loop(), "asked for")
    if requested == "compiled":
        refusal = Compiled().refuses(cells, x, lengths)
        return Choice(Loop(), refusal) if refusal else Choice(Compiled(), "asked for")
    name = type(cells[0]).__name__
    if isinstance(requested, Kernel):
        # A kernel of another cell may share the name: the options were meant for this cell's own.
        fits = requested.cell in (Cell, type(cells[0]))  # one of `Cell` itself scans any, as the loop does
        return _named(requested.name, [requested] if fits else [], name, cells, x, lengths)
    kernels = list(kernels)
    if requested != "auto":
        return _named(requested, kernels, name, cells, x, lengths)
    return _fastest(kernels, name, cells, x, lengths, policy or CompilePolicy())


def _fastest(
    kernels: Sequence[Kernel],
    name: str,
    cells: Sequence[Cell],
    x: Tensor,
    lengths: Tensor | None,
    policy: CompilePolicy,
) -> Choice:
    """Choose the fastest kernel that takes the input, by measurements of this machine or else by their estimates.

    At equal speed kernels of seqlab come first, then others by distribution and name.
    """
    notes: list[str] = []
    able: list[Kernel] = []
    for kernel in kernels:
        if reason := policy.distrust_reason(kernel, x):
            notes.append(f"{kernel.name} {reason}")
        elif refusal := kernel.refuses(cells, x, lengths):
            notes.append(f"{kernel.name} refuses: {refusal}")
        else:
            able.append(kernel)
    measured = measured_speeds(name, cells[0].hidden_size, x, lengths) if len(able) > 1 else {}
    known = all(kernel.name in measured for kernel in able)
    speeds = {kernel: measured[kernel.name] if known else kernel.speed(cells, x, lengths) for kernel in able}
    for kernel in sorted(able, key=lambda kernel: (-speeds[kernel], *precedence(kernel))):
        if reason := policy.defer_reason(kernel, cells, x, lengths):
            notes.append(f"{kernel.name} deferred: {reason}")
            continue
        why = f"the first registered kernel that can scan {name}"
        if len(able) > 1:
            why = "fastest in the table of `bench --tune`" if known else "fastest available"
        return Choice(kernel, "; ".join([why, *notes]))
    return Choice(Loop(), "; ".join(notes) or f"no kernel is registered for {name}")


def _named(
    requested: str, kernels: Sequence[Kernel], name: str, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None
) -> Choice:
    for kernel in kernels:
        if kernel.name == requested:
            if refusal := kernel.refuses(cells, x, lengths):
                raise ValueError(f"kernel={requested} refuses {name}: {refusal}")
            return Choice(kernel, "asked for")
    have = ", ".join(["auto", "loop", "compiled", *(kernel.name for kernel in kernels)])
    raise ValueError(f"kernel={requested}: {name} has no such kernel; it has {have}")
