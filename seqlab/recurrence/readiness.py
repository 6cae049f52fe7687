"""Which kernels ``kernel=auto`` may take: asked once in a run, so that all its steps are computed alike.

A kernel that is compiled in the middle of a run would change the last digits from there on, and a run that stopped
before would not come out again bit for bit.
"""

from collections.abc import Mapping, Sequence
from typing import Final, final

import torch
from torch import Tensor

from seqlab.contracts import Cell, Kernel
from seqlab.discovery.kernels import entry_of
from seqlab.discovery.trust import why_not


@final
class Readiness:
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
    return why_not(entry, device) or ""


readiness: Final = Readiness()
"""This process'."""
