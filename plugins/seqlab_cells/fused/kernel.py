"""Fused kernels: the scan of a whole layer in one call.

What only a scan needs (the compiler, Triton, the operator) is imported when it is used.
"""

import logging
import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from seqlab import Cell, Kernel, State
from seqlab.recurrence.graphs import assume_constant_result
from seqlab.recurrence.scan import map_state
from seqlab_cells.gpu import limits
from seqlab_cells.vendor import Vendor
from seqlab_cells.weights import Epilogue, Layer, fault, is_single_vmap, not_dense, under_vmap, weights

log = logging.getLogger("seqlab")

COMPILE_SECONDS = 8.0
"""What a compilation takes, about; what a run must be able to save."""
STEP_SECONDS = {"Gru": 6e-5, "Lstm": 7e-6, "RnnTanh": 2.5e-5, "RnnRelu": 2.5e-5}
"""What this kernel saves of the forward time of torch's routines per step (docs/results/kernels.md), rounded down."""
UNKNOWN = 2.0
"""Speed on a GPU without a benchmark record, so that ``auto`` asks :meth:`Fused.defer_reason` for the reason."""
_warned: set[tuple[str, torch.dtype]] = set()


class Fused(Kernel):
    r"""Scans a layer in one call: each thread has its own rows, and does all work on a chunk of steps while in cache.

    In C++, compiled on first use; by torch's routine where that is impossible; on a GPU in Triton, which holds W on
    chip over all steps and so takes only hidden sizes for which it fits (:mod:`seqlab_cells.gpu`). No step of padding
    is computed. Its derivative computes

    .. math::
        \frac{\partial L}{\partial W} = \sum_{chunks} \sum_{t \in chunk} δ_t x_t^\top

    with :math:`δ_t` the gradient of the gates, where each chunk is summed apart from the total, so that long sequences
    lose no digits. The gates are kept for it, or recomputed from the states before each step, which are all known by
    then (as in Appleyard, Kociský & Blunsom 2016, arXiv 1604.01946, one product serves many steps).

    Args:
        save: what is kept for the gradient: ``gates``, the fastest; ``recompute``, the states alone, from which the
            gates are recomputed; ``checkpoint``, every n-th state, from which the steps between are run again.
        every: steps from one kept state to the next with ``save=checkpoint``; 0 for the square root of all steps.

    Raises:
        ValueError: an option is out of its range.
    """

    name = "fused"
    vendor: ClassVar[type[Vendor]]
    """What runs where nothing can be compiled."""

    def __init__(self, save: Literal["gates", "recompute", "checkpoint"] = "gates", every: int = 0) -> None:
        if save not in ("gates", "recompute", "checkpoint"):
            raise ValueError(f"save must be gates, recompute or checkpoint, got {save!r}")
        if every < 0:
            raise ValueError(f"every must be >= 0 (0 for the square root of all steps), got {every}")
        self.save, self.every = save, every

    @abstractmethod
    def epilogue(self, cell: Cell) -> Epilogue:
        """Return what the scan does to the gates of this cell."""

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Refuse other devices and dtypes, a W too large for a GPU, and cells that are more than their weights."""
        if reason := not_dense(x):
            return reason
        if x.device.type not in ("cpu", "cuda"):
            return f"the input is on {x.device}; the fused kernel is for the CPU and for CUDA"
        if forward_ad._current_level >= 0:
            return "it has no forward-mode derivative"
        if under_vmap() and (reason := self._not_batched()):
            return reason
        for cell in cells:
            if reason := fault(cell, x):
                return reason
            dtype = weights(cell)[0].dtype
            if limits.uses_triton(x):
                dtype = limits.compute_dtype(x, dtype)
                if reason := limits.refusal(self.epilogue(cell), cell.hidden_size, dtype, x):
                    return reason
            elif dtype not in (torch.float32, torch.float64):
                return f"the parameters are {dtype}; it computes in float32 and float64"
        return None

    def _not_batched(self) -> str | None:
        """Return why it has no batching rule for the transforms of ``torch.func`` that are active."""
        if self.save == "checkpoint":
            return "save=checkpoint has no batching rule for vmap"
        return None if is_single_vmap() else "it has no batching rule for vmap within or around another transform"

    def speed(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> float:
        """Estimate from measurements on CPUs with AVX2 (docs/results/kernels.md), rounded down; on a GPU by record."""
        from seqlab_cells.fused.native import compiled_before

        if x.is_cuda:
            unknown = not limits.records(limits.architecture(x.device))
            return UNKNOWN if unknown else self._recorded(cells, x, lengths) or 0.0
        time, batch, _ = x.shape
        epilogue, hidden = self.epilogue(cells[0]), cells[0].hidden_size
        if compiled_before(epilogue.name, weights(cells[0])[0].dtype) is None:
            return 0.9  # by torch's routine
        if epilogue.states == 2:
            full = 0.8 if batch < 2 * torch.get_num_threads() or hidden >= 256 else 1.1
        else:
            full = 0.9 if batch == 1 and hidden >= 192 else 1.2
        return full if lengths is None or under_vmap() else full * time * batch / max(1, int(lengths.sum()))

    def defer_reason(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None, calls: int | None) -> str | None:
        """Defer where compilation takes longer than the run saves, and on a GPU without a benchmark record."""
        from seqlab_cells.fused.native import compiled_before

        if x.is_cuda:
            if self._recorded(cells, x, lengths) is not None:
                return None
            name = limits.architecture(x.device)
            return f"no benchmark record for {name} (write one by benchmarks/gpu_campaign.py)"
        if os.environ.get("SEQLAB_COMPILE") == "never":
            return "not compiled, and SEQLAB_COMPILE=never"
        epilogue = self.epilogue(cells[0]).name
        if compiled_before(epilogue, weights(cells[0])[0].dtype) is not False:
            return None
        saved = 3 * len(cells) * x.shape[0] * STEP_SECONDS[epilogue]  # forward, and twice as much backward
        if self.speed(cells, x, lengths) > 1 and (calls or 0) * saved >= COMPILE_SECONDS:
            return None
        return "not compiled, and the run may be too short to pay off (kernel=fused compiles it)"

    def _recorded(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> float | None:
        """Return the recorded speed relative to cuDNN on the GPU at hand."""
        dtype = limits.compute_dtype(x, weights(cells[0])[0].dtype)
        name = "tf32" if limits.precision(dtype) == "tf32" else str(dtype).removeprefix("torch.")
        return limits.recorded_speed(self.epilogue(cells[0]).name, name, cells, x, lengths)

    def scan(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        """Run one layer, both directions in one call."""
        return self._run(cells, x, states, lengths, True)

    def outputs(self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None) -> Tensor:
        """Return the outputs alone, without parts of the final states for autograd to follow."""
        return self._run(cells, x, states, lengths, False)[0]

    def last(
        self,
        cells: Sequence[Cell],
        x: Tensor,
        states: Sequence[State],
        lengths: Tensor | None,
        final_state: bool,
    ) -> tuple[Tensor, list[State]]:
        """Return the final h of each direction: no gradient of the outputs of all steps is filled in or read."""
        _, ends = self._run(cells, x, states, lengths, True)
        parts = [end[0] for end in ends]
        y = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return (y if lengths is None else y.masked_fill((lengths == 0).unsqueeze(1), 0)), ends

    def _run(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None, with_ends: bool
    ) -> tuple[Tensor, list[State]]:
        from seqlab_cells.fused.ops import checkpointed_scan, fused_outputs, fused_scan

        parameters = [weight for cell in cells for weight in weights(cell)]
        flat = [each for state in states for each in state]
        epilogue, dtype = self.epilogue(cells[0]), parameters[0].dtype
        triton = limits.uses_triton(x)
        if triton:  # in autocast's dtype, if it is on, as cuDNN does; the states keep theirs
            dtype = limits.compute_dtype(x, dtype)
            parameters = [weight.to(dtype) for weight in parameters]
        else:  # under autocast they may differ; it is computed in the parameters' precision
            if not _compiled(epilogue.name, dtype):
                with torch.autocast(x.device.type, enabled=False):
                    given = [map_state(lambda each: each.to(dtype), state) for state in states]
                    return self.vendor().scan(cells, x.to(dtype), given, lengths)
            flat = [each.to(dtype) for each in flat]
        x = x.to(dtype)
        save: str = self.save
        wanted = any(each.requires_grad for each in (x, *flat, *parameters)) or under_vmap()  # whose rule looks itself
        if not torch.is_grad_enabled() or not wanted:
            save = "none"
        if save == "checkpoint":
            y, ends = checkpointed_scan(Layer(x, lengths, flat, parameters, epilogue, save), self.every)
        elif not with_ends:
            return fused_outputs(x, lengths, flat, parameters, epilogue.name, save), []
        else:
            y, h, c, _ = fused_scan(x, lengths, flat, parameters, epilogue.name, save)
            parts = (h, c)[: epilogue.states]
            ends = [tuple(each[d] for each in parts) for d in range(len(cells))]
        if triton and with_ends:
            ends = [
                tuple(new.to(old.dtype) for new, old in zip(end, state, strict=True))
                for end, state in zip(ends, states, strict=True)
            ]
        return y, ends


@assume_constant_result
def _compiled(epilogue: str, dtype: torch.dtype) -> bool:
    """Compile if that is still to be done; where it cannot be, warn once and return False."""
    from seqlab_cells.fused import native

    try:
        native.library(epilogue, dtype)
    except native.NoCompilerError as error:
        if (epilogue, dtype) not in _warned:
            log.warning("kernel=fused runs %s by torch's routine, not in C++: %s", epilogue, error)
            _warned.add((epilogue, dtype))
        return False
    return True
