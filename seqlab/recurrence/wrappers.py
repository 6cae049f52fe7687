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
    """A cell that changes what another one does; all but ``step`` is the other one's.

    A wrapped cell is another cell: it runs on the loop or compiled, not on the other's kernels.

    Args:
        inner: the cell to wrap.
    """

    def __init__(self, inner: Cell) -> None:
        super().__init__(inner.input_size, inner.hidden_size)
        self.inner = inner
        self.state_names = inner.state_names  # type: ignore[misc]  # the same for all of its class, as a cell's is

    @property
    def output_size(self) -> int:
        """That of the wrapped cell."""
        return self.inner.output_size

    def initial_state(self, like: Shaped[Tensor, "batch *features"]) -> State:
        """Make the wrapped cell's."""
        return self.inner.initial_state(like)

    def project(self, x: Shaped[Tensor, "time batch input"]) -> Shaped[Tensor, "time batch *projected"]:
        """Do what the wrapped cell does."""
        return self.inner.project(x)


def unwrapped(cell: Cell) -> Cell:
    """Give the innermost cell."""
    while isinstance(cell, Wrapper):
        cell = cell.inner
    return cell


@final
class Zoneout(Wrapper):
    r"""Keeps some units of the state as they were (Krueger et al. 2017, arXiv 1606.01305, eq. 4).

    .. math:: s_t = d_t ⊙ s_{t-1} + (1 - d_t) ⊙ \mathrm{step}(x_t, s_{t-1}), \quad d_t ∼ \mathrm{Bernoulli}(p)

    In evaluation :math:`d_t` is its mean :math:`p`. Leaves of integers are left alone. An output that is a leaf of
    the state (as ``h`` is an LSTM's) is zoned out with it.

    Args:
        inner: the cell to wrap.
        rate: probability :math:`p` of keeping a unit; at least 0 and less than 1.

    Raises:
        ValueError: the rate is out of its range.
    """

    def __init__(self, inner: Cell, rate: float) -> None:
        super().__init__(inner)
        self.rate = check_probability("zoneout", rate)

    def step(self, x: Shaped[Tensor, "batch *projected"], state: State) -> tuple[Shaped[Tensor, "batch output"], State]:
        """Advance the wrapped cell, and keep a share of the state."""
        y, new = self.inner.step(x, state)
        mixed = [self._mix(n, o) if n.is_floating_point() else n for n, o in zip(new, state, strict=True)]
        output = next((m for m, n in zip(mixed, new, strict=True) if n is y), y)
        return output, rebuild(new, mixed)

    def probe(self, x: Shaped[Tensor, "time batch *projected"], states: State) -> Probe:
        """Give the wrapped cell's gates; its Jacobians are not those of the mixture."""
        return Probe(gates=self.inner.probe(x, states).gates)

    def _mix(self, new: Tensor, old: Tensor) -> Tensor:
        if not self.training:
            return new + self.rate * (old - new)
        return torch.where(torch.rand_like(new) < self.rate, old, new)


@final
class StateDropout(Wrapper):
    r"""Drops the same units of the output state at every step of a sequence (Gal & Ghahramani 2016, arXiv 1512.05287).

    .. math:: s_t = \mathrm{step}(x_t, m ⊙ h_{t-1}), \quad m ∼ \mathrm{Bernoulli}(1 - p) / (1 - p)

    The mask :math:`m` of each row is drawn with the initial state and travels in it as a last leaf, so that a sequence
    that is cut in two keeps its mask. It falls on the state's first leaf only.

    Args:
        inner: the cell to wrap.
        rate: probability :math:`p` of dropping a unit; at least 0 and less than 1.

    Raises:
        ValueError: the rate is out of its range.
    """

    def __init__(self, inner: Cell, rate: float) -> None:
        super().__init__(inner)
        self.rate = check_probability("state_dropout", rate)
        self.state_names = (*inner.state_names, "mask")  # type: ignore[misc]  # as in Wrapper

    def initial_state(self, like: Shaped[Tensor, "batch *features"]) -> State:
        """Make the wrapped cell's, and a mask: ones in evaluation."""
        state = self.inner.initial_state(like)
        return (*state, nn.functional.dropout(torch.ones_like(state[0]), self.rate, self.training))

    def step(self, x: Shaped[Tensor, "batch *projected"], state: State) -> tuple[Shaped[Tensor, "batch output"], State]:
        """Advance the wrapped cell from the masked state."""
        *leaves, mask = state
        like = self.inner.initial_state(leaves[0])
        y, new = self.inner.step(x, rebuild(like, [leaves[0] * mask, *leaves[1:]]))
        return y, (*new, mask.clone())

    def probe(self, x: Shaped[Tensor, "time batch *projected"], states: State) -> Probe:
        """Give the wrapped cell's gates from the masked states."""
        *leaves, mask = states
        like = self.inner.initial_state(leaves[0][0])
        return Probe(gates=self.inner.probe(x, rebuild(like, [leaves[0] * mask, *leaves[1:]])).gates)


class DropConnect(nn.Module):
    """A parametrisation that drops single weights, in training (Wan et al. 2013).

    Args:
        rate: probability of dropping a weight.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, weight: Tensor) -> Tensor:
        """Give the weight with some entries zero and the others scaled up."""
        return nn.functional.dropout(weight, self.rate, self.training)


def drop_weights(cell: Cell, rate: float) -> Cell:
    """Drop single recurrent weights, the same at every step (Merity et al. 2017, arXiv 1708.02182, section 2).

    The cell stays the cell it was, so that its kernels still take it; :func:`one_mask` holds the masks for a pass.

    Args:
        cell: its recurrent matrices are those that a step applies to its state.
        rate: probability of dropping a weight; at least 0 and less than 1.

    Raises:
        ValueError: the rate is out of its range, or the cell has no recurrent matrix.
    """
    check_probability("weight_drop", rate)
    matrices = recurrent_matrices(cell)
    if not matrices:
        raise ValueError(f"weight_drop: {type(cell).__name__} has no matrix that a step applies to its state")
    for owner, name in matrices:
        # unsafe=True leaves out a trial run, which would draw from the random generator
        parametrize.register_parametrization(owner, name, DropConnect(rate), unsafe=True)
    return cell


def shared_masks(active: bool) -> AbstractContextManager[None]:
    """Within this context each dropped weight keeps its mask."""
    return parametrize.cached() if active else nullcontext()


def recurrent_matrices(cell: Cell) -> list[tuple[nn.Module, str]]:
    """Find the matrices that a step applies to its state, by asking autograd at input zero and a state that is not."""
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
    check_range(at_least=0, below=1, **{name: rate})
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
    r"""Turns a layer's input and output into what the next layer reads, ``[time, batch, size]``.

    .. math:: \text{none: } y \qquad \text{residual: } x + y \qquad
        \text{highway: } g ⊙ y + (1 - g) ⊙ x,\; g = σ(W x + b)

    with :math:`y` normalised over its features first if asked for (Ba et al. 2016), the residual of He et al. 2016
    and the highway of Srivastava et al. 2015 with :math:`b = -1`, so that it begins by carrying the input. A first
    layer whose input differs in size from its output has no way past it.

    Args:
        input_size: features the layer reads.
        output_size: features the layer gives.
        layer_norm: whether to normalise its output.
        connection: the way past it.

    Raises:
        ValueError: there is no such connection.
    """

    def __init__(self, input_size: int, output_size: int, *, layer_norm: bool, connection: str) -> None:
        super().__init__()
        if connection not in CONNECTIONS:
            raise ValueError(f"connection is {connection}; it must be one of {', '.join(CONNECTIONS)}")
        self.norm = nn.LayerNorm(output_size) if layer_norm else nn.Identity()
        self.connection = connection if input_size == output_size else "none"
        if self.connection == "highway":
            self.gate = nn.Linear(input_size, output_size)
            nn.init.constant_(self.gate.bias, -1.0)

    @property
    def is_plain(self) -> bool:
        """Whether the output is passed on as it is."""
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
    """A learned initial state, the same for all rows; it starts as the cell's own and leaves integers alone.

    Args:
        cell: whose state it is; of a wrapped cell, the innermost.
    """

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        like = next(cell.parameters()).new_zeros(1, cell.input_size)
        self.leaves = nn.ParameterList(
            nn.Parameter(leaf[0].detach().clone(), requires_grad=leaf.is_floating_point())
            for leaf in cell.initial_state(like)
        )

    def forward(self, start: State) -> State:
        """Put the learned leaves in the place of the cell's own; what a wrapper added after them stays."""
        learned = [
            value.to(leaf.dtype).expand_as(leaf) if leaf.is_floating_point() else leaf
            for value, leaf in zip(self.leaves, start, strict=False)
        ]
        return rebuild(start, [*learned, *start[len(learned) :]])


__getattr__ = old_names(__name__, {"Around": "LayerWrapper"})
