"""What the vendor kernels share: torch's own recurrent routines over padded input."""

import warnings
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from seqlab import Cell, Kernel, State
from seqlab.recurrence import last_valid, reverse_within
from seqlab.contracts.masks import valid_mask
from seqlab_cells.linear import modified, weights


class Vendor(Kernel):
    """Runs torch's routine (oneDNN, cuDNN or ATen) once for each direction, over the cell's own parameters.

    Never over a ``PackedSequence``, which leaves oneDNN and runs a step at a time. A run over blanked padding is right
    up to each row's length, since it is causal; the final output is gathered there. Where a padded step could do harm,
    the input gets one more column, 1 on padding and 0 elsewhere, whose weights (:meth:`padding`) drive the gates.
    """

    name = "vendor"

    @abstractmethod
    def run(self, cell: Cell, x: Tensor, state: State, parameters: list[Tensor]) -> tuple[Tensor, State]:
        """Call torch's routine, forward: outputs and the state after the last padded step."""

    def padding(self, cell: Cell, like: Tensor) -> Tensor | None:
        """Make what a padded step adds to the gates, ``[gates]``; ``None`` where it can do no harm."""
        return None

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Refuse what torch's routines cannot do, and a cell that is more than its weights."""
        if x.layout != torch.strided or x.is_nested:
            return "the input is not a dense tensor"
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            return "under autocast on the CPU torch's routines fail, or lower the state's precision"
        if under_vmap():
            return "torch's routines have no batching rule for vmap"
        for cell in cells:
            if (fault := modified(cell)) or (fault := unfit(weights(cell), x)):
                return fault
        return None

    def scan(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        """Scan the first cell forward and the second, if there is one, backward within each row's length."""
        return self._both(cells, x, states, lengths, final_state=True)

    def outputs(self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None) -> Tensor:
        """Do the same without the column that the final state needs."""
        return self._both(cells, x, states, lengths, final_state=False)[0]

    def _both(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None, *, final_state: bool
    ) -> tuple[Tensor, list[State]]:
        if not len(x):
            return x.new_zeros(0, x.shape[1], sum(cell.output_size for cell in cells)), list(states)
        if lengths is not None and bool((lengths == len(x)).all()):
            lengths = None
        outputs, ends = [], []
        for cell, state, backward in zip(cells, states, (False, True), strict=False):
            turned = reverse_within(x, lengths) if backward else x
            y, end = self._direction(cell, turned, state, lengths, final_state)
            outputs.append(reverse_within(y, lengths) if backward else y)
            ends.append(end)
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)), ends

    def _direction(
        self, cell: Cell, x: Tensor, state: State, lengths: Tensor | None, final_state: bool
    ) -> tuple[Tensor, State]:
        parameters = weights(cell)
        if lengths is None:
            return self._run(cell, x, state, parameters)
        dead = ~valid_mask(lengths, len(x))
        x = blank_where(dead, x)
        if final_state and (column := self.padding(cell, parameters[0])) is not None:
            x = torch.cat([x, dead.unsqueeze(-1).to(x.dtype)], dim=-1)
            parameters[0] = torch.cat([parameters[0], column.unsqueeze(-1)], dim=-1)
        y, (_, *rest) = self._run(cell, x, state, parameters)
        end = (last_valid(y, lengths, default=state[0]), *rest) if final_state else ()
        return blank_where(dead, y), end

    def _run(self, cell: Cell, x: Tensor, state: State, parameters: list[Tensor]) -> tuple[Tensor, State]:
        if not x.is_cuda:
            return self.run(cell, x, state, parameters)
        kind = x.device.type
        lowered = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        if lowered is not None and torch.cudnn_is_acceptable(x.new_empty(1, dtype=lowered)):
            # Left to itself autocast has cuDNN compute in float16, whatever type of number was asked for.
            with torch.autocast(kind, enabled=False):
                lower = [each.to(lowered) for each in (x, *state, *parameters)]
                leaves = len(state)
                y, end = self._quietly(cell, lower[0], tuple(lower[1 : 1 + leaves]), lower[1 + leaves :])
        else:
            y, end = self._quietly(cell, x, state, parameters)
        # Under autocast the state keeps its own type of number.
        end = tuple(new.to(old.dtype) for new, old in zip(end, state, strict=True))
        return y if lowered is None else y.to(lowered), end

    def _quietly(self, cell: Cell, x: Tensor, state: State, parameters: list[Tensor]) -> tuple[Tensor, State]:
        with warnings.catch_warnings():
            # cuDNN copies weights that are not in one chunk, which is little work, and advises nn.RNN's remedy.
            warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
            return self.run(cell, x, state, parameters)


def blank_where(dead: Tensor, x: Tensor) -> Tensor:
    """Set the marked steps to zero as :func:`.ragged.blank` does, on a CPU row by row: that takes half the time."""
    if x.is_cuda:
        return x.masked_fill(dead.unsqueeze(-1), 0)
    rows = dead.flatten().nonzero().squeeze(1)
    return x.flatten(0, 1).index_fill(0, rows, 0).view_as(x)


def large(like: Tensor) -> float:
    """Give a number that saturates any gate, and whose sum with another gate's is still finite."""
    device = like.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype
    return float(torch.finfo(dtype).max ** 0.5)


def unfit(parameters: list[Tensor], x: Tensor) -> str | None:
    """Say why these parameters cannot be run over this input; ``None`` where they can."""
    for parameter in parameters:
        if parameter.layout != torch.strided:
            return f"a parameter is {parameter.layout}, not dense"
        if parameter.device != x.device:
            return f"the input is on {x.device} and the parameters are on {parameter.device}"
        if not parameter.is_floating_point():
            return f"the parameters are {parameter.dtype}, not of floating point"
        if parameter.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            return f"the input is {x.dtype} and the parameters are {parameter.dtype}"
    return None


def under_vmap() -> bool:
    """Whether torch.func.vmap is at work; a graph that is being compiled has none."""
    if torch.compiler.is_compiling():
        return False
    levels = torch._C._functorch.get_interpreter_stack() or ()
    return any(level.key() == torch._C._functorch.TransformType.Vmap for level in levels)
