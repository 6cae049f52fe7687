"""RNN by torch's own routine."""

from typing import final

import torch
from torch import Tensor

from seqlab import Cell, Routine, State
from seqlab_cells.linear import modified, weights
from seqlab_cells.rnn.cell import RNN
from seqlab_cells.vendor import Vendor, large


@final
class RNNVendor(Vendor):
    """``torch.rnn_tanh`` and ``torch.rnn_relu``."""

    cell = RNN

    def run(self, cell: Cell, x: Tensor, state: State, parameters: list[Tensor]) -> tuple[Tensor, State]:
        """One layer, forward."""
        routine = torch.rnn_tanh if cell.nonlinearity == "tanh" else torch.rnn_relu
        y, h = routine(x, state[0].unsqueeze(0), parameters, True, 1, 0.0, torch.is_grad_enabled(), False, False)
        return y, (h[0],)

    def padding(self, cell: Cell, like: Tensor) -> Tensor | None:
        """Hold relu at zero on padding: unbounded, it could overflow there, and 0 x inf is a NaN gradient."""
        return None if cell.nonlinearity == "tanh" else like.new_full((cell.hidden_size,), -large(like))

    def routine(self, cell: Cell) -> Routine | None:
        """ONNX's ``RNN`` has torch's one gate."""
        if modified(cell):
            return None
        tanh = cell.nonlinearity == "tanh"
        operator = torch.ops.aten.rnn_tanh.input if tanh else torch.ops.aten.rnn_relu.input
        return Routine(operator, "RNN", weights(cell), (0,), activations=("Tanh" if tanh else "Relu",))
