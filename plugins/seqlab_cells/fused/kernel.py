"""What the fused kernels share: one scan of a whole layer in one call."""

import logging
import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from seqlab import Cell, Kernel, State
from seqlab_cells.fused.build import SECONDS, compiled_before
from seqlab_cells.fused.checkpoint import in_segments
from seqlab_cells.fused.library import TAILS
from seqlab_cells.fused.ops import fused_scan, why_eager
from seqlab_cells.gpu import campaigns, limits
from seqlab_cells.linear import modified, weights
from seqlab_cells.vendor import under_vmap, unfit

log = logging.getLogger("seqlab")

STEP_SECONDS = {"Gru": 6e-5, "Lstm": 7e-6, "RnnTanh": 2.5e-5, "RnnRelu": 2.5e-5}
"""What torch's routines take for a time step forward beyond this kernel (docs/results/kernels.md), rounded down."""
UNKNOWN = 2.0
"""Expected on a GPU without a campaign, so that ``auto`` asks :meth:`Fused.postpones`, which says why it must wait."""
_told: set[tuple[str, torch.dtype]] = set()


class Fused(Kernel):
    r"""Scans a layer in one call, each thread its own rows, all work on a chunk of steps while it is in the cache.

    In C++, compiled on first use; where that cannot be, in torch; on a GPU in Triton, which holds W on chip over all
    steps and so takes hidden sizes alone for which it fits (:mod:`seqlab_cells.gpu`). No step of padding is computed.
    Its derivative reads

    .. math::
        \frac{\partial L}{\partial W} = \sum_{chunks} \sum_{t \in chunk} δ_t x_t^\top

    with :math:`δ_t` the gradient of the gates, a chunk's sum being made apart from the total, so that long sequences
    lose no digits. The gates are kept for it, or built again from the states before each step, which are all known by
    then (as in Appleyard, Kociský & Blunsom 2016, arXiv 1604.01946, one product serves many steps).

    Args:
        save: what is kept for the gradient: ``gates``, the fastest; ``recompute``, which keeps the states alone and
            builds the gates again; ``checkpoint``, which keeps every so-many-th state and runs the steps between again.
        every: steps from one kept state to the next with ``save=checkpoint``; 0 takes the root of all steps.

    Raises:
        ValueError: an option is out of its range.
    """

    name = "fused"

    def __init__(self, save: Literal["gates", "recompute", "checkpoint"] = "gates", every: int = 0) -> None:
        if save not in ("gates", "recompute", "checkpoint"):
            raise ValueError(f"save is {save!r}; it must be gates, recompute or checkpoint")
        if every < 0:
            raise ValueError(f"every is {every}; it must be 0 (the root of all steps) or a number of steps")
        self.save, self.every = save, every

    @abstractmethod
    def tail(self, cell: Cell) -> str:
        """Name the cell among :data:`.library.TAILS`."""

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Refuse other devices and types of number, a W too large for a GPU, a cell that is more than its weights."""
        if x.layout != torch.strided or x.is_nested:
            return "the input is not a dense tensor"
        if x.device.type not in ("cpu", "cuda"):
            return f"the input is on {x.device}; the fused kernel is for the CPU and for CUDA"
        if forward_ad._current_level >= 0:
            return "it has no forward-mode derivative"
        if under_vmap():
            return "it has no batching rule for vmap"
        for cell in cells:
            if (fault := modified(cell)) or (fault := unfit(weights(cell), x)):
                return fault
            if limits.taken(x):
                dtype = limits.compute_dtype(x, weights(cell)[0])
                if fault := limits.refusal(TAILS[self.tail(cell)], cell.hidden_size, dtype, x):
                    return fault
            elif (dtype := weights(cell)[0].dtype) not in (torch.float32, torch.float64):
                return f"the parameters are {dtype}; it computes in float32 and float64"
        return None

    def speed(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> float:
        """Expect what was measured on CPUs with AVX2 (docs/results/kernels.md), rounded down; on a GPU its campaign."""
        if x.is_cuda:
            found = self._campaign(cells, x, lengths)
            unknown = not campaigns.points(campaigns.architecture(x.device))
            return UNKNOWN if unknown else found or 0.0
        time, batch, _ = x.shape
        tail, hidden = TAILS[self.tail(cells[0])], cells[0].hidden_size
        if compiled_before(tail.name, weights(cells[0])[0].dtype) is None:  # in torch
            return 0.4 if tail.leaves == 2 else 1.0 if lengths is None else 0.8
        if tail.leaves == 2:
            full = 0.8 if batch < 2 * torch.get_num_threads() or hidden >= 256 else 1.1
        else:
            full = 0.9 if batch == 1 and hidden >= 192 else 1.2
        return full if lengths is None else full * time * batch / max(1, int(lengths.sum()))

    def postpones(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None, calls: int | None) -> str | None:
        """Leave a run alone that would save less time than compiling takes, and a GPU on which nothing was measured."""
        if x.is_cuda:
            if self._campaign(cells, x, lengths) is not None:
                return None
            return (
                f"no campaign is recorded for {campaigns.architecture(x.device)} (benchmarks/gpu_campaign.py makes one)"
            )
        if os.environ.get("SEQLAB_COMPILE") == "never":
            return "it must be compiled, and SEQLAB_COMPILE=never"
        tail = self.tail(cells[0])
        if compiled_before(tail, weights(cells[0])[0].dtype) is not False:
            return None
        saved = 3 * len(cells) * x.shape[0] * STEP_SECONDS[tail]  # forward, and twice as much backward
        if self.speed(cells, x, lengths) > 1 and (calls or 0) * saved >= SECONDS:
            return None
        return "it is not compiled, and this may be too little work to win that time back (kernel=fused compiles it)"

    def _campaign(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> float | None:
        """Look up how fast this was against cuDNN on the GPU at hand."""
        dtype = limits.compute_dtype(x, weights(cells[0])[0])
        word = "tf32" if limits.precision(dtype) == "tf32" else str(dtype).removeprefix("torch.")
        layer = {"tail": self.tail(cells[0]), "dtype": word, "directions": len(cells), "ragged": lengths is not None}
        layer |= {"batch": x.shape[1], "time": x.shape[0], "hidden": cells[0].hidden_size}
        return campaigns.speed(campaigns.architecture(x.device), layer)

    def scan(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        """Scan the first cell forward and the second, if there is one, backward within each row's length."""
        parameters = [weight for cell in cells for weight in weights(cell)]
        leaves = [leaf for state in states for leaf in state]
        tail, dtype = self.tail(cells[0]), parameters[0].dtype
        if limits.taken(x):  # in autocast's type of number, if it is on, as cuDNN does; the states stay as they are
            dtype = limits.compute_dtype(x, parameters[0])
            parameters = [weight.to(dtype) for weight in parameters]
        else:  # under autocast they may differ; it is computed in the parameters' precision
            leaves = [leaf.to(dtype) for leaf in leaves]
            _tell(tail, dtype)
        x = x.to(dtype)
        wanted = torch.is_grad_enabled() and any(each.requires_grad for each in (x, *leaves, *parameters))
        if self.save == "checkpoint" and wanted:
            y, ends = in_segments(x, lengths, leaves, parameters, TAILS[tail], self.every)
        else:
            y, h, c, _ = fused_scan(x, lengths, leaves, parameters, tail, self.save if wanted else "none")
            parts = (h, c) if TAILS[tail].leaves == 2 else (h,)
            ends = [tuple(leaf[d] for leaf in parts) for d in range(len(cells))]
        if limits.taken(x):
            ends = [
                tuple(leaf.to(old.dtype) for leaf, old in zip(end, state, strict=True))
                for end, state in zip(ends, states, strict=True)
            ]
        return y, ends


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch has no type for it
def _tell(tail: str, dtype: torch.dtype) -> bool:
    """Compile if that is still to be done, and say so once if it cannot be."""
    if (tail, dtype) not in _told and (reason := why_eager(tail, dtype)):
        log.warning("the fused kernel of %s runs in torch, more slowly than in C++: %s", tail, reason)
    _told.add((tail, dtype))
    return True
