"""Wrappers of cells and layers: zoneout, dropout, DropConnect, layer normalisation, residual, highway."""

from abc import ABC
from contextlib import AbstractContextManager, nullcontext
from typing import final

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.utils import parametrize

from seqlab._deprecated import old_names
from seqlab.contracts import Cell, Probe, State
from seqlab.errors import check_range
from seqlab.recurrence.scan import rebuild


class Wrapper(Cell, ABC):
    """A cell that overrides the step of another one. It runs on the loop or compiled, not on the other's kernels."""

    def __init__(self, inner: Cell) -> None:
        super().__init__(inner.input_size, inner.hidden_size)
        self.inner = inner
        self.state_names = inner.state_names  # type: ignore[misc]  # an instance attribute here

    @property
    def output_size(self) -> int:
        """Output features of the wrapped cell."""
        return self.inner.output_size

    def initial_state(self, like: Shaped[Tensor, "batch *features"]) -> State:
        """Make the state of the wrapped cell."""
        return self.inner.initial_state(like)

    def project(self, x: Shaped[Tensor, "time batch input"]) -> Shaped[Tensor, "time batch *projected"]:
        """Project as the wrapped cell does."""
        return self.inner.project(x)


def unwrapped(cell: Cell) -> Cell:
    """Return the innermost cell."""
    while isinstance(cell, Wrapper):
        cell = cell.inner
    return cell


@final
class Zoneout(Wrapper):
    r"""Zoneout: random units keep their state (Krueger et al. 2017, arXiv 1606.01305, eq. 4).

    .. math:: s_t = d_t ⊙ s_{t-1} + (1 - d_t) ⊙ \mathrm{step}(x_t, s_{t-1}), \quad d_t ∼ \mathrm{Bernoulli}(p)

    In evaluation :math:`d_t` is its mean :math:`p`. Integer tensors do not change. An output that is a tensor of the
    state (such as an LSTM's ``h``) is zoned out with it.

    Args:
        inner: the cell to wrap.
        rate: probability :math:`p` of keeping a unit; at least 0 and less than 1.
    """

    def __init__(self, inner: Cell, rate: float) -> None:
        super().__init__(inner)
        self.rate = check_probability("zoneout", rate)

    def step(self, x: Shaped[Tensor, "batch *projected"], state: State) -> tuple[Shaped[Tensor, "batch output"], State]:
        """Advance the wrapped cell, and mix the old state in."""
        y, new = self.inner.step(x, state)
        mixed = [self._mix(n, o) if n.is_floating_point() else n for n, o in zip(new, state, strict=True)]
        output = next((m for m, n in zip(mixed, new, strict=True) if n is y), y)
        return output, rebuild(new, mixed)

    def probe(self, x: Shaped[Tensor, "time batch *projected"], states: State) -> Probe:
        """Return the gates of the wrapped cell, whose Jacobians do not apply."""
        return Probe(gates=self.inner.probe(x, states).gates)

    def _mix(self, new: Tensor, old: Tensor) -> Tensor:
        if not self.training:
            return new + self.rate * (old - new)
        return torch.where(torch.rand_like(new) < self.rate, old, new)


@final
class StateDropout(Wrapper):
    r"""Dropout of the same units of the state at every step of a sequence (Gal & Ghahramani 2016, arXiv 1512.05287).

    .. math:: s_t = \mathrm{step}(x_t, m ⊙ h_{t-1}), \quad m ∼ \mathrm{Bernoulli}(1 - p) / (1 - p)

    The mask :math:`m` of each row is drawn with the initial state and is its last tensor, so that a sequence in pieces
    keeps its mask. It applies to the first tensor of the state.

    Args:
        inner: the cell to wrap.
        rate: probability :math:`p` of dropping a unit; at least 0 and less than 1.
    """

    def __init__(self, inner: Cell, rate: float) -> None:
        super().__init__(inner)
        self.rate = check_probability("state_dropout", rate)
        self.state_names = (*inner.state_names, "mask")  # type: ignore[misc]  # as in Wrapper

    def initial_state(self, like: Shaped[Tensor, "batch *features"]) -> State:
        """Make the state of the wrapped cell and a mask, which is one in evaluation."""
        state = self.inner.initial_state(like)
        return (*state, nn.functional.dropout(torch.ones_like(state[0]), self.rate, self.training))

    def step(self, x: Shaped[Tensor, "batch *projected"], state: State) -> tuple[Shaped[Tensor, "batch output"], State]:
        """Advance the wrapped cell from the masked state."""
        *leaves, mask = state
        like = self.inner.initial_state(leaves[0])
        y, new = self.inner.step(x, rebuild(like, [leaves[0] * mask, *leaves[1:]]))
        return y, (*new, mask.clone())

    def probe(self, x: Shaped[Tensor, "time batch *projected"], states: State) -> Probe:
        """Return the gates of the wrapped cell for the masked states."""
        *leaves, mask = states
        like = self.inner.initial_state(leaves[0][0])
        return Probe(gates=self.inner.probe(x, rebuild(like, [leaves[0] * mask, *leaves[1:]])).gates)


class DropConnect(nn.Module):
    """Parametrisation that drops single weights in training (Wan et al. 2013)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with random entries zero and the others scaled."""
        return nn.functional.dropout(weight, self.rate, self.training)


def drop_weights(cell: Cell, rate: float) -> Cell:
    """Drop single recurrent weights, the same at every step (Merity et al. 2017, arXiv 1708.02182, section 2).

    The type of the cell and so its kernels stay the same; :func:`shared_masks` keeps the masks for a pass.

    Args:
        cell: its recurrent matrices are those that a step applies to the state.
        rate: probability of dropping a weight; at least 0 and less than 1.
    """
    check_probability("weight_drop", rate)
    matrices = recurrent_matrices(cell)
    if not matrices:
        raise ValueError(f"weight_drop: {type(cell).__name__} has no matrix that a step applies to its state")
    for owner, name in matrices:
        # unsafe=True skips a trial run, which would draw random numbers
        parametrize.register_parametrization(owner, name, DropConnect(rate), unsafe=True)
    return cell


def shared_masks(active: bool) -> AbstractContextManager[None]:
    """Keep the mask of each dropped weight within this context."""
    return parametrize.cached() if active else nullcontext()


def recurrent_matrices(cell: Cell) -> list[tuple[nn.Module, str]]:
    """Find the matrices that a step applies to its state: those with a gradient at input 0 and state 0.5."""
    named = {name: parameter for name, parameter in cell.named_parameters() if parameter.dim() >= 2}
    if not named:
        return []
    like = next(iter(named.values()))
    with torch.enable_grad():
        x = cell.project(like.new_zeros(1, 1, cell.input_size))[0].detach()
        start = cell.initial_state(x)
        filled = [torch.full_like(leaf, 0.5) if leaf.is_floating_point() else leaf for leaf in start]
        y, state = cell.step(x, rebuild(start, filled))
        result = y.sum() + sum(leaf.sum() for leaf in state if leaf.is_floating_point())
        gradients = torch.autograd.grad(result, list(named.values()), allow_unused=True)
    found = []
    for name, gradient in zip(named, gradients, strict=True):
        if gradient is not None and bool(gradient.any()):
            owner, _, attribute = name.rpartition(".")
            found.append((cell.get_submodule(owner), attribute))
    return found


def check_probability(name: str, rate: float) -> float:
    """Return a rate, >= 0 and < 1."""
    check_range(name, rate, 0, below=1)
    return rate


def regularised(cell: Cell, *, zoneout: float = 0.0, state_dropout: float = 0.0, weight_drop: float = 0.0) -> Cell:
    """Wrap a cell in the regularisers whose rate is not 0."""
    if weight_drop:
        cell = drop_weights(cell, weight_drop)
    if state_dropout:
        cell = StateDropout(cell, state_dropout)
    return Zoneout(cell, zoneout) if zoneout else cell


CONNECTIONS = ("none", "residual", "highway")


def locked_dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Drop the same features at every step of a sequence (Gal & Ghahramani 2016); ``x`` is ``[time, batch, ...]``."""
    if not training or not rate:
        return x
    return x * nn.functional.dropout(x.new_ones(1, *x.shape[1:]), rate)


@final
class LayerWrapper(nn.Module):
    r"""Normalisation of a layer's output and a connection around the layer, ``[time, batch, size]``.

    .. math:: \text{none: } y \qquad \text{residual: } x + y \qquad
        \text{highway: } g ⊙ y + (1 - g) ⊙ x,\; g = σ(W x + b)

    with :math:`y` normalised over its features first if ``layer_norm`` (Ba et al. 2016), residual (He et al. 2016) or
    highway (Srivastava et al. 2015) with initial :math:`b = -1`, which carries the input. A layer whose input and
    output differ in size has no connection.

    Args:
        input_size: input features of the layer.
        output_size: output features of the layer.
        layer_norm: whether to normalise the output.
        connection: ``none``, ``residual`` or ``highway``.
    """

    def __init__(self, input_size: int, output_size: int, *, layer_norm: bool, connection: str) -> None:
        super().__init__()
        if connection not in CONNECTIONS:
            raise ValueError(f"connection must be one of {', '.join(CONNECTIONS)}, got {connection}")
        self.norm = nn.LayerNorm(output_size) if layer_norm else nn.Identity()
        self.connection = connection if input_size == output_size else "none"
        if self.connection == "highway":
            self.gate = nn.Linear(input_size, output_size)
            nn.init.constant_(self.gate.bias, -1.0)

    @property
    def is_plain(self) -> bool:
        """Whether the output is unchanged."""
        return self.connection == "none" and isinstance(self.norm, nn.Identity)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Combine a layer's input ``x`` and its output ``y``."""
        y = self.norm(y)
        if self.connection == "residual":
            return x + y
        if self.connection == "highway":
            return x + torch.sigmoid(self.gate(x)) * (y - x)  # not lerp, which autocast leaves with two dtypes
        return y


@final
class LearnedStart(nn.Module):
    """Learned initial state, the same for all rows. It begins as the cell's own; integers are not learned.

    Args:
        cell: the cell; of a wrapped one, the innermost.
    """

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        like = next(cell.parameters()).new_zeros(1, cell.input_size)
        self.leaves = nn.ParameterList(
            nn.Parameter(leaf[0].detach().clone(), requires_grad=leaf.is_floating_point())
            for leaf in cell.initial_state(like)
        )

    def forward(self, start: State) -> State:
        """Replace the cell's initial state; tensors that wrappers appended stay."""
        learned = [
            value.to(leaf.dtype).expand_as(leaf) if leaf.is_floating_point() else leaf
            for value, leaf in zip(self.leaves, start, strict=False)
        ]
        return rebuild(start, [*learned, *start[len(learned) :]])


__getattr__ = old_names(__name__, {"Around": "LayerWrapper"})
