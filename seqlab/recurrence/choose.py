"""Which path scans a layer: the loop or a kernel, and why."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, final

from torch import Tensor

from seqlab.contracts import Cell, Kernel, State
from seqlab.contracts.lengths import Lengths
from seqlab.contracts.masks import checked
from seqlab.discovery.kernels import whose
from seqlab.recurrence import tuning
from seqlab.recurrence.compiled import Compiled
from seqlab.recurrence.readiness import readiness
from seqlab.recurrence.scan import scan


@final
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
    measured = tuning.speeds(name, cells[0].hidden_size, x, lengths) if len(able) > 1 else {}
    known = all(kernel.name in measured for kernel in able)
    speeds = {kernel: measured[kernel.name] if known else kernel.speed(cells, x, lengths) for kernel in able}
    for kernel in sorted(able, key=lambda kernel: (-speeds[kernel], *whose(kernel))):
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
