"""LSTM by torch's own routine."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.autograd import forward_ad

from seqlab import Cell, Routine, State
from seqlab_cells.linear import modified, weights
from seqlab_cells.lstm.cell import LSTM
from seqlab_cells.vendor import Vendor, large


@final
class LSTMVendor(Vendor):
    """``torch.lstm``: oneDNN for float32 on a CPU, cuDNN on a GPU."""

    cell = LSTM

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Refuse forward-mode differentiation too, which oneDNN's and cuDNN's layers lack."""
        if forward_ad._current_level >= 0:
            return "torch.lstm has no forward-mode derivative"
        return super().refuses(cells, x, lengths)

    def run(self, cell: Cell, x: Tensor, state: State, parameters: list[Tensor]) -> tuple[Tensor, State]:
        """One layer, forward."""
        start = [leaf.unsqueeze(0) for leaf in state]
        y, h, c = torch.lstm(x, start, parameters, True, 1, 0.0, torch.is_grad_enabled(), False, False)
        return y, (h[0], c[0])

    def padding(self, cell: Cell, like: Tensor) -> Tensor | None:
        """Freeze c on padding: a forget gate of exactly 1 and an input gate of exactly 0.

        ``torch.lstm`` gives c only after the last padded step; frozen, that is the c of the last valid step, and so
        are its gradients.
        """
        column = like.new_zeros(4, cell.hidden_size)
        column[0], column[1] = -large(like), large(like)
        return column.flatten()

    def routine(self, cell: Cell) -> Routine | None:
        """ONNX's ``LSTM`` has its gates in the order i, o, f, g."""
        return None if modified(cell) else Routine(torch.ops.aten.lstm.input, "LSTM", weights(cell), (0, 3, 1, 2))
