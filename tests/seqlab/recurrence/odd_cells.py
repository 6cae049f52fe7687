"""Small cells that do all that the contract allows and the classic three do not."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from seqlab import Cell, State


class Leaky(Cell):
    """One state, an elementwise decay: what can be worked out by hand. h' = a h + x W."""

    def __init__(self, input_size: int, hidden_size: int = 3) -> None:
        super().__init__(input_size, hidden_size)
        self.decay = nn.Parameter(torch.linspace(0.5, 0.9, hidden_size))
        self.weight = nn.Parameter(torch.randn(input_size, hidden_size))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        h = self.decay * h + x @ self.weight
        return h, (h,)


class Projected(Cell):
    """Its output is narrower than its state (as in LSTMP)."""

    def __init__(self, input_size: int, hidden_size: int = 5) -> None:
        super().__init__(input_size, hidden_size)
        self.inner = nn.Linear(input_size + hidden_size, hidden_size)
        self.outer = nn.Linear(hidden_size, self.output_size, bias=False)

    @property
    def output_size(self) -> int:
        return 2

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.tanh(self.inner(torch.cat([x, state[0]], dim=-1)))
        return self.outer(h), (h,)


class Memory(NamedTuple):
    """A matrix and its norm: unequal leaves, with names."""

    matrix: Tensor
    norm: Tensor


class MatrixMemory(Cell):
    """Fast weights: the state is a matrix of outer products (Schmidhuber 1992), in a NamedTuple."""

    state_names = Memory._fields

    def __init__(self, input_size: int, hidden_size: int = 3) -> None:
        super().__init__(input_size, hidden_size)
        self.maps = nn.Linear(input_size, 3 * hidden_size)

    def initial_state(self, like: Tensor) -> Memory:
        batch, size = like.shape[0], self.hidden_size
        return Memory(like.new_zeros(batch, size, size), like.new_zeros(batch, size))

    def project(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.maps(x)).unflatten(-1, (3, self.hidden_size))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        assert isinstance(state, Memory)
        key, value, query = x.unbind(1)
        matrix = 0.9 * state.matrix + value.unsqueeze(2) * key.unsqueeze(1)
        norm = 0.9 * state.norm + key
        read = (matrix @ query.unsqueeze(2)).squeeze(2)
        return read / (1 + (norm * query).sum(-1, keepdim=True)), Memory(matrix, norm)


class Counting(Cell):
    """An integer step counter beside a float state; the output is the running mean of the inputs."""

    state_names = ("sum", "steps")

    def __init__(self, input_size: int, hidden_size: int = 1) -> None:
        super().__init__(input_size, hidden_size)
        self.scale = nn.Parameter(torch.ones(hidden_size))

    def initial_state(self, like: Tensor) -> State:
        batch = like.shape[0]
        return like.new_zeros(batch, self.hidden_size), like.new_zeros(batch, dtype=torch.int64)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        total, steps = state[0] + x.mean(-1, keepdim=True), state[1] + 1
        return self.scale * total / steps.unsqueeze(1), (total, steps)


class Delayed(Cell):
    """A leaf as wide as the input: the input of the step before, mixed into this one."""

    state_names = ("h", "previous")

    def __init__(self, input_size: int, hidden_size: int = 3) -> None:
        super().__init__(input_size, hidden_size)
        self.mix = nn.Linear(2 * input_size + hidden_size, hidden_size)

    def initial_state(self, like: Tensor) -> State:
        batch = like.shape[0]
        return like.new_zeros(batch, self.hidden_size), like.new_zeros(batch, self.input_size)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, previous = state
        h = torch.tanh(self.mix(torch.cat([x, previous, h], dim=-1)))
        return h, (h, x)


class Shifting(Leaky):
    """Faulty: its state changes its dtype, its shape or its structure, as asked."""

    def __init__(self, input_size: int, hidden_size: int = 3, fault: str = "dtype") -> None:
        super().__init__(input_size, hidden_size)
        self.fault = fault

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, (h,) = super().step(x, state)
        faulty = {"dtype": (h.half(),), "shape": (h[:, :1],), "leaves": (h, h), "type": [h]}
        return y, faulty[self.fault]  # type: ignore[return-value]  # the last one is meant to be wrong


ODD: list[type[Cell]] = [Leaky, Projected, MatrixMemory, Counting, Delayed]
