"""Vendor kernels: torch's own recurrent routines over padded input."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seqlab import Cell, Kernel, State
from seqlab.contracts.kernel import scan_directions
from seqlab.recurrence import last_valid, valid_mask
from seqlab_cells.weights import fault, not_dense, under_vmap, weights


class Vendor(Kernel):
    """Runs torch's routine (oneDNN, cuDNN or ATen) once for each direction, over the cell's own parameters.

    The input is padded, never a ``PackedSequence``, which leaves oneDNN and runs a step at a time. A run over zeroed
    padding is right up to each row's length, since it is causal; the final output is gathered there. Where a padded
    step could do harm, the input gets one more column, 1 on padding and 0 elsewhere, whose weights (:meth:`padding`)
    drive the gates.
    """

    name = "vendor"

    @abstractmethod
    def function(self, cell: Cell) -> Callable[..., tuple[Tensor, ...]]:
        """Return torch's routine, such as ``torch.gru``."""

    def padding(self, cell: Cell, like: Tensor) -> Tensor | None:
        """Return what a padded step adds to the gates, ``[gates]``; ``None`` where it can do no harm."""
        return None

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Refuse what torch's routines cannot do, and cells that are more than their weights."""
        if reason := not_dense(x):
            return reason
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            return "under autocast on the CPU torch's routines fail, or lower the state's precision"
        if under_vmap():
            return "torch's routines have no batching rule for vmap"
        return next((reason for cell in cells if (reason := fault(cell, x))), None)

    def scan_one(self, cell: Cell, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run torch's routine, with a column for the padding where the final state needs it."""
        parameters = weights(cell)
        if lengths is None:
            return self._run(cell, x, state, parameters)
        if (column := self.padding(cell, parameters[0])) is not None:
            padded = ~valid_mask(lengths, len(x)).unsqueeze(-1)
            x = torch.cat([x, padded.to(x.dtype)], dim=-1)
            parameters[0] = torch.cat([parameters[0], column.unsqueeze(-1)], dim=-1)
        y, (_, *rest) = self._run(cell, x, state, parameters)
        return y, (last_valid(y, lengths, default=state[0]), *rest)

    def outputs(self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None) -> Tensor:
        """Run without the column, which only the final state needs."""

        def run(cell: Cell, x: Tensor, state: State, _: Tensor | None) -> tuple[Tensor, State]:
            return self._run(cell, x, state, weights(cell))

        return scan_directions(run, cells, x, states, lengths)[0]

    def _call(self, cell: Cell, x: Tensor, state: State, parameters: list[Tensor]) -> tuple[Tensor, State]:
        """Return the outputs and the state after the last padded step."""
        start = [each.unsqueeze(0) for each in state]
        given = start if len(start) > 1 else start[0]
        y, *end = self.function(cell)(x, given, parameters, True, 1, 0.0, torch.is_grad_enabled(), False, False)
        return y, tuple(each[0] for each in end)

    def _run(self, cell: Cell, x: Tensor, state: State, parameters: list[Tensor]) -> tuple[Tensor, State]:
        if not x.is_cuda:
            return self._call(cell, x, state, parameters)
        kind = x.device.type
        lowered = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        if lowered is not None and torch.cudnn_is_acceptable(x.new_empty(1, dtype=lowered)):
            # By itself autocast makes cuDNN compute in float16, whatever dtype was asked for.
            with torch.autocast(kind, enabled=False):
                lower = [each.to(lowered) for each in (x, *state, *parameters)]
                count = 1 + len(state)
                y, end = self._quietly(cell, lower[0], tuple(lower[1:count]), lower[count:])
        else:
            y, end = self._quietly(cell, x, state, parameters)
        # Under autocast the state keeps its own dtype.
        end = tuple(new.to(old.dtype) for new, old in zip(end, state, strict=True))
        return y if lowered is None else y.to(lowered), end

    def _quietly(self, cell: Cell, x: Tensor, state: State, parameters: list[Tensor]) -> tuple[Tensor, State]:
        with warnings.catch_warnings():
            # cuDNN copies weights that are not in one chunk, which is little work, and advises nn.RNN's remedy.
            warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
            return self._call(cell, x, state, parameters)


def large(like: Tensor) -> float:
    """Return a number that saturates any gate, and whose sum with another gate's is still finite."""
    device = like.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype
    return float(torch.finfo(dtype).max ** 0.5)
