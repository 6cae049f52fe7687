"""cell=old_cell and its kernel=old_kernel."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from seqlab import Cell, Kernel, State


class OldCell(Cell):
    r"""A leaky integrator.

    .. math::
        h' = h + σ(r) ⊙ (\tanh(W x + U h + b) - h)

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output.
    """

    plugin_api = 1

    def __init__(self, input_size: int, hidden_size: int = 128) -> None:
        super().__init__(input_size, hidden_size)
        self.from_input = nn.Linear(input_size, hidden_size)
        self.from_state = nn.Linear(hidden_size, hidden_size, bias=False)
        self.rate = nn.Parameter(torch.zeros(hidden_size))

    def project(self, x: Tensor) -> Tensor:
        """Map the inputs of all steps."""
        return self.from_input(x)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one time step."""
        (h,) = state
        h = h + self.rate.sigmoid() * (torch.tanh(x + self.from_state(h)) - h)
        return h, (h,)


class OldKernel(Kernel):
    """A plain loop over time, which overrides what a kernel of that release could."""

    plugin_api = 1
    name: ClassVar[str] = "old_kernel"
    cell: ClassVar[type[Cell]] = OldCell

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Take any input."""
        return None

    def scan(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        """Run each cell, the second one backward."""
        done = [
            _scan(cell, x, state, lengths, backward=place == 1)
            for place, (cell, state) in enumerate(zip(cells, states, strict=True))
        ]
        return torch.cat([outputs for outputs, _ in done], dim=-1), [state for _, state in done]

    def speed(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> float:
        """Claim nothing."""
        return 0.5

    def postpones(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None, calls: int | None) -> str | None:
        """Compile nothing."""
        return None


def _scan(cell: Cell, x: Tensor, state: State, lengths: Tensor | None, *, backward: bool) -> tuple[Tensor, State]:
    """Loop over time; a step beyond a row's length leaves its state as it was, and its output zero."""
    steps = x.shape[0]
    outputs: list[Tensor] = [x.new_zeros(x.shape[1], cell.output_size)] * steps
    for t in reversed(range(steps)) if backward else range(steps):
        if lengths is None:
            outputs[t], state = cell.step(cell.project(x[t : t + 1])[0], state)
            continue
        valid = (t < lengths).unsqueeze(-1)
        inside = torch.where(valid, x[t], 0.0)  # what stands in the padding is never read
        y, after = cell.step(cell.project(inside.unsqueeze(0))[0], state)
        outputs[t] = torch.where(valid, y, 0.0)
        state = tuple(torch.where(valid, new, old) for new, old in zip(after, state, strict=True))
    empty = x.new_zeros(0, x.shape[1], cell.output_size)
    return (torch.stack(outputs) if steps else empty), state
