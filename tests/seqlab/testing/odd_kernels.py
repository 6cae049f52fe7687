"""Kernels that are odd, and right."""

import torch

from seqlab import Kernel
from seqlab.recurrence import scan

from .broken_kernels import ByHand, Faultless
from .subtle_kernels import Switched


class ForwardOnly(Faultless):
    """It refuses what needs a gradient."""

    def refuses(self, cells, x, lengths):
        tensors = [x, *(parameter for cell in cells for parameter in cell.parameters())]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return "it has no derivative"
        return super().refuses(cells, x, lengths)

    def scan(self, cells, x, states, lengths):
        with torch.no_grad():
            return super().scan(cells, x, states, lengths)


class OtherOrder(Faultless):
    """In float32 its sums run the other way and in pieces."""

    def scan(self, cells, x, states, lengths):
        if lengths is not None or len(cells) > 1 or not len(x):
            return super().scan(cells, x, states, lengths)
        (cell,), (h,), outputs = cells, states[0], []
        weight, given = cell.from_state.weight.t(), cell.from_input.weight.t()
        for x_t in x:
            total = cell.from_input.bias
            for k in reversed(range(len(given))):
                total = total + x_t[:, k : k + 1] * given[k]
            for k in range(0, len(weight), 3):
                total = total + h[:, k : k + 3] @ weight[k : k + 3]
            h = torch.tanh(total)
            outputs.append(h)
        return torch.stack(outputs), [(h,)]


class OneDirection(Kernel):
    """It implements one cell forward, and leaves directions, padding and empty input to the base class."""

    name, cell = "one_direction", Faultless.cell

    def refuses(self, cells, x, lengths):
        return Faultless().refuses(cells, x, lengths)

    def scan_one(self, cell, x, state, lengths):
        assert len(x)
        assert not x.isnan().any()
        return scan(cell, x, state, lengths)


class Choosy(Faultless):
    """float32, full rows, forward, at most 64 units and 100 rows, contiguous input."""

    def refuses(self, cells, x, lengths):
        if x.dtype != torch.float32 or lengths is not None or len(cells) > 1:
            return "float32, full rows and forward only"
        if cells[0].hidden_size > 64 or x.shape[1] > 100 or not x.numel() or not x.is_contiguous():
            return "64 units, 100 rows and contiguous input at most"
        if torch.is_autocast_enabled("cpu"):
            return "autocast"
        return None


class GPUOnly(Faultless):
    def refuses(self, cells, x, lengths):
        return None if x.is_cuda else f"it is for a GPU, and the input is on {x.device}"


class OverOptions(Faultless):
    """Right for every option of its cell."""

    cell = Switched


ODD: list[type[Kernel]] = [ForwardOnly, OneDirection, OtherOrder, Choosy, GPUOnly, OverOptions, ByHand]
