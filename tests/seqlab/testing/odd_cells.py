"""More cells that are odd and right, beside those of ``tests/seqlab/recurrence/odd_cells.py``."""

import enum
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal, weight_norm

from seqlab import Cell, State

from .broken_cells import Right


class WeightNormed(Right):
    def build(self, input_size: int, hidden_size: int) -> None:
        weight_norm(self.from_state)


class Orthogonal(Right):
    def build(self, input_size: int, hidden_size: int) -> None:
        orthogonal(self.from_state)


class LayerNormed(Right):
    """Over the features of one row; one unit has none to normalise."""

    def build(self, input_size: int, hidden_size: int) -> None:
        if hidden_size < 2:
            raise ValueError(f"hidden_size is {hidden_size}; a layer norm needs at least 2")
        self.norm = nn.LayerNorm(hidden_size)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.tanh(self.norm(x + self.from_state(state[0])))
        return h, (h,)


class LearnedStart(Right):
    """It counts the rows by ``len``, which torch.export takes for a constant."""

    def build(self, input_size: int, hidden_size: int) -> None:
        self.start = nn.Parameter(torch.randn(hidden_size))

    def initial_state(self, like: Tensor) -> State:
        return (self.start.to(like.dtype).expand(len(like), -1),)


class Buffered(Right):
    """A fixed random mask of its weights, kept in a buffer."""

    def build(self, input_size: int, hidden_size: int) -> None:
        self.register_buffer("mask", (torch.rand(hidden_size, hidden_size) < 0.8).float())

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.tanh(x + nn.functional.linear(state[0], self.from_state.weight * self.mask.to(x.dtype)))
        return h, (h,)


class Dropped(Right):
    """Random in training."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.tanh(x + self.from_state(nn.functional.dropout(state[0], 0.3, self.training)))
        return h, (h,)


class Masked(Right):
    """One dropout mask for all steps, carried in the state."""

    state_names = ("h", "mask")

    def initial_state(self, like: Tensor) -> State:
        ones = like.new_ones(like.shape[0], self.hidden_size)
        return like.new_zeros(ones.shape), nn.functional.dropout(ones, 0.3, self.training)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, mask = state
        h = torch.tanh(x + self.from_state(h * mask))
        return h, (h, mask)


class Wider(Right):
    """Its output is wider than its state."""

    @property
    def output_size(self) -> int:
        return 2 * self.hidden_size

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, new = super().step(x, state)
        return torch.cat([h, h**2], -1), new


class Window(Cell):
    """Its state is the last three inputs: a convolution."""

    state_names = ("inputs",)

    def __init__(self, input_size: int, hidden_size: int = 5) -> None:
        super().__init__(input_size, hidden_size)
        self.mix = nn.Linear(4 * input_size, hidden_size)

    def initial_state(self, like: Tensor) -> State:
        return (like.new_zeros(like.shape[0], 3, self.input_size),)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        seen = torch.cat([state[0], x.unsqueeze(1)], 1)
        return torch.tanh(self.mix(seen.flatten(1))), (seen[:, 1:],)


class Clocked(Right):
    """A clock in the state: every other step keeps the state as it was."""

    state_names = ("h", "clock")

    def initial_state(self, like: Tensor) -> State:
        return like.new_zeros(like.shape[0], self.hidden_size), like.new_zeros(like.shape[0], 1, dtype=torch.int64)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, clock = state
        new = torch.tanh(x + self.from_state(h))
        h = torch.where(clock % 2 == 0, new, h)
        return h, (h, clock + 1)


class Heads(Cell):
    """Its units are in heads of four: the size must be a multiple."""

    def __init__(self, input_size: int, hidden_size: int = 8) -> None:
        super().__init__(input_size, hidden_size)
        if hidden_size % 4:
            raise ValueError(f"hidden_size is {hidden_size}; it must be a multiple of 4")
        self.maps = nn.Linear(input_size, hidden_size)
        self.decay = nn.Parameter(torch.rand(hidden_size // 4))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        decay = torch.sigmoid(self.decay).repeat_interleave(4)
        h = decay * state[0] + (1 - decay) * torch.tanh(self.maps(x))
        return h, (h,)


class Stabilised(Right):
    """Exponential gates under a running maximum (Beck et al. 2024)."""

    state_names = ("c", "n", "m")

    def __init__(self, input_size: int, hidden_size: int = 5) -> None:
        super().__init__(input_size, 3 * hidden_size)
        self.hidden_size = hidden_size
        self.from_state = nn.Linear(hidden_size, 3 * hidden_size, bias=False)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        c, n, m = state
        i, f, z = (x + self.from_state(c / n.abs().clamp(min=1))).chunk(3, -1)
        f = nn.functional.logsigmoid(f)
        new = torch.maximum(f + m, i)
        i, f = torch.exp(i - new), torch.exp(f + m - new)
        c, n = f * c + i * torch.tanh(z), f * n + i
        return c / n.abs().clamp(min=1), (c, n, new)


class Style(enum.Enum):
    smooth = 1
    rough = 2


class Choices(Right):
    """Several options that go together, or not."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 5,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        residual: bool = False,
        style: Style = Style.smooth,
        noise: float = 0.0,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if residual and nonlinearity == "relu":
            raise ValueError("residual goes with nonlinearity=tanh alone")
        self.nonlinearity, self.residual, self.style = nonlinearity, residual, style

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        total = x + self.from_state(state[0])
        h = torch.tanh(total) if self.nonlinearity == "tanh" else torch.relu(total)
        h = 0.5 * (h + state[0]) if self.residual else h
        h = h if self.style is Style.smooth else torch.where(h > 0, h, 0.1 * h)
        return h, (h,)


class LowRank(Right):
    """Recurrent weights in half precision's range only by their product; tied to the input's."""

    def build(self, input_size: int, hidden_size: int) -> None:
        self.left = nn.Parameter(torch.randn(hidden_size, 2) / 2)
        self.from_state = nn.Linear(hidden_size, 2, bias=False)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.tanh(x + self.from_state(state[0]) @ self.left.t())
        return h, (h,)


class Embedding(Right):
    """A fixed weight that no gradient changes."""

    def build(self, input_size: int, hidden_size: int) -> None:
        self.from_state.weight.requires_grad_(False)


ODD: list[type[Cell]] = [
    WeightNormed, Orthogonal, LayerNormed, LearnedStart, Buffered, Dropped, Masked, Wider, Window, Clocked, Heads,
    Stabilised, Choices, LowRank, Embedding,
]  # fmt: skip
