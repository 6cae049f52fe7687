"""GRU by torch's own routine."""

from typing import final

import torch
from torch import Tensor

from seqlab import Cell, Routine, State
from seqlab_cells.gru.cell import GRU
from seqlab_cells.linear import modified, weights
from seqlab_cells.vendor import Vendor


@final
class GRUVendor(Vendor):
    """``torch.gru``."""

    cell = GRU

    def run(self, cell: Cell, x: Tensor, state: State, parameters: list[Tensor]) -> tuple[Tensor, State]:
        """One layer, forward."""
        h = state[0].unsqueeze(0)
        y, h = torch.gru(x, h, parameters, True, 1, 0.0, torch.is_grad_enabled(), False, False)
        return y, (h[0],)

    def routine(self, cell: Cell) -> Routine | None:
        """ONNX's ``GRU`` has its gates in the order z, r, n, and resets after the product if it is told to."""
        if modified(cell):
            return None
        return Routine(torch.ops.aten.gru.input, "GRU", weights(cell), (1, 0, 2), {"linear_before_reset": 1})
