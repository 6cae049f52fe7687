"""Selection of the kernel that scans a layer."""

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, final

import torch
from torch import Tensor

from seqlab.contracts import Cell, Kernel, State
from seqlab.contracts.batch import Lengths
from seqlab.io.atomic import replacing
from seqlab.io.cache import cache_path
from seqlab.plugins.kernels import entry_of, precedence, untrusted_reason
from seqlab.recurrence.compiled import Compiled
from seqlab.recurrence.scan import checked_lengths, reverse_within, scan


@final
class CompilePolicy:
    """What the kernels of this process said when they were first asked.

    Attributes:
        calls: how often a layer will be called in this run, as far as is known.
        said: why each kernel waits, by cell, kernel and dtype; empty where it does not.
    """

    def __init__(self) -> None:
        self.calls: int | None = None
        self.said: dict[str, str] = {}

    def begin(self, said: Mapping[str, str] | None = None) -> None:
        """Ask all anew in a run that begins, or go by what was said before in one that goes on."""
        self.calls, self.said = None, dict(said or {})

    def waits(self, kernel: Kernel, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str:
        """Say why a kernel is not ready; the empty text where it is."""
        key = f"{type(cells[0]).__name__}.{kernel.name}.{x.dtype}"
        if key not in self.said:
            self.said[key] = kernel.postpones(cells, x, lengths, self.calls) or ""
        return self.said[key]

    def unchecked(self, kernel: Kernel, x: Tensor) -> str:
        """Say why a kernel of another distribution is not trusted; the empty text where it is.

        A run that began without it goes on without it, and one that goes on elsewhere trusts nothing that was checked
        on another machine.
        """
        entry = entry_of(kernel)
        if entry is None or (not (now := _why_not(entry, x.device.type)) and entry not in self.said):
            return ""
        return self.said.setdefault(entry, now) or now


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch has no type for it
def _why_not(entry: str, device: str) -> str:
    return untrusted_reason(entry, device) or ""


readiness: Final = CompilePolicy()
"""This process'."""


FORMAT = 1
FAR = 4.0
"""Doublings of a shape's sizes, added up, beyond which a measurement says nothing of it."""


class Entry(NamedTuple):
    """One measurement: a training step of one cell and shape by each kernel.

    Attributes:
        cell: the cell's class name.
        batch: rows.
        time: steps of the longest.
        input: features of a step.
        hidden: features of the state.
        filled: the part of all steps that is not padding.
        speeds: how many times as fast as the slowest, by kernel.
    """

    cell: str
    batch: int
    time: int
    input: int
    hidden: int
    filled: float
    speeds: Mapping[str, float]


def table_path(device: torch.device) -> Path:
    """Say where this machine's table is kept: one for each device, version of torch and number of threads.

    Raises:
        OSError: the cache folder cannot be made.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.node()} {platform.processor()}"
    return cache_path("tuning", [FORMAT, device.type, name, torch.__version__, torch.get_num_threads()], ".json")


def write(device: torch.device, entries: Sequence[Entry]) -> Path:
    """Keep a table, for this process too."""
    path = table_path(device)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps([entry._asdict() for entry in entries], indent=1), "utf-8")
    _read.cache_clear()
    return path


@cache
def _read(device: torch.device, threads: int) -> tuple[Entry, ...]:  # noqa: ARG001  # a key of the cache
    try:
        return tuple(Entry(**entry) for entry in json.loads(table_path(device).read_text("utf-8")))
    except (OSError, ValueError, TypeError):  # none, or one that is damaged: the built-in expectations then serve
        return ()


def measured_speeds(cell: str, hidden: int, x: Tensor, lengths: Tensor | None) -> Mapping[str, float]:
    """Find how fast each kernel was on the measured shape that is nearest; nothing where none is near.

    Args:
        cell: the cell's class name.
        hidden: features of its state.
        x: ``[time, batch, input]``.
        lengths: valid steps of each row.
    """
    if torch.compiler.is_compiling():
        return {}
    entries = [entry for entry in _read(x.device, torch.get_num_threads()) if entry.cell == cell]
    if not entries or not x.numel():
        return {}
    time, batch, size = x.shape
    filled = 1.0 if lengths is None else max(1, int(lengths.sum())) / (time * batch)

    def distance(entry: Entry) -> float:
        sizes = ((entry.batch, batch), (entry.time, time), (entry.input, size), (entry.hidden, hidden))
        away = sum(abs(math.log2(a / b)) * weight for (a, b), weight in zip(sizes, (1, 0.5, 0.5, 1), strict=True))
        return away + abs(math.log2(entry.filled / filled))

    nearest = min(entries, key=distance)
    return nearest.speeds if distance(nearest) <= FAR else {}


@final
class Loop(Kernel):
    """The reference: a plain loop over time, for every cell."""

    name = "loop"
    cell = Cell

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Never."""
        return None

    def scan(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        """Scan the first cell forward and the second, if there is one, backward within each row's length."""
        forward, final_state = scan(cells[0], x, states[0], lengths)
        if len(cells) == 1:
            return forward, [final_state]
        backward, final_backward = scan(cells[1], reverse_within(x, lengths), states[1], lengths)
        outputs = torch.cat([forward, reverse_within(backward, lengths)], dim=-1)
        return outputs, [final_state, final_backward]


class Choice(NamedTuple):
    """A kernel and why it was taken."""

    kernel: Kernel
    reason: str


def choose(
    requested: str | Kernel,
    kernels: Iterable[Kernel],
    cells: Sequence[Cell],
    x: Tensor,
    lengths: Lengths | None,
) -> Choice:
    """Pick the path for one layer.

    Args:
        requested: ``auto``, ``loop``, ``compiled`` (or the loop), the name of a registered kernel, or a kernel.
        kernels: the kernels registered for this type of cell.
        cells: the layer's cells.
        x: its input ``[time, batch, input]``.
        lengths: valid steps of each row, or ``None``.

    Raises:
        ValueError: a kernel that was asked for by name does not exist for this cell, or refuses.
    """
    lengths = None if lengths is None else checked_lengths(lengths, x)
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
    return _fastest(kernels, name, cells, x, lengths)


def _fastest(kernels: Sequence[Kernel], name: str, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> Choice:
    """Take the fastest of those that do not refuse: by what was measured here, or else by what each expects.

    At equal speed seqlab's own come first, then those of others by distribution and name.
    """
    against: list[str] = []
    able: list[Kernel] = []
    for kernel in kernels:
        if unchecked := readiness.unchecked(kernel, x):
            against.append(f"{kernel.name} {unchecked}")
        elif refusal := kernel.refuses(cells, x, lengths):
            against.append(f"{kernel.name} refuses: {refusal}")
        else:
            able.append(kernel)
    measured = measured_speeds(name, cells[0].hidden_size, x, lengths) if len(able) > 1 else {}
    known = all(kernel.name in measured for kernel in able)
    speeds = {kernel: measured[kernel.name] if known else kernel.speed(cells, x, lengths) for kernel in able}
    for kernel in sorted(able, key=lambda kernel: (-speeds[kernel], *precedence(kernel))):
        if waits := readiness.waits(kernel, cells, x, lengths):
            against.append(f"{kernel.name} waits: {waits}")
            continue
        why = f"the first registered kernel that can scan {name}"
        if len(able) > 1:
            why = "the fastest in the table of `bench --tune`" if known else "the fastest, as far as is known"
        return Choice(kernel, "; ".join([why, *against]))
    return Choice(Loop(), "; ".join(against) or f"no kernel is registered for {name}")


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
