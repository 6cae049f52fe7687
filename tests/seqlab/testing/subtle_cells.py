"""Cells that are right in evaluation, at small sizes or by default, and the check that must find the fault."""

import enum
import random
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from seqlab import State

from .broken_cells import Right

# In training alone --------------------------------------------------------------------------------------------------


class MixesRowsInTraining(Right, caught_by="rows_are_independent"):
    def changed(self, h: Tensor) -> Tensor:
        return h - 0.1 * h.mean(0) if self.training else h


class MixesRowsUnderDropout(Right, caught_by="rows_are_independent"):
    """Random in training, so that only the same random numbers show what crosses over."""

    def project(self, x: Tensor) -> Tensor:
        p = super().project(nn.functional.dropout(x, 0.3, self.training))
        return p + 0.1 * p.detach().amax(1, keepdim=True) if self.training else p


class RunningStatistics(Right, caught_by="no_memory_between_calls"):
    def build(self, input_size: int, hidden_size: int) -> None:
        self.register_buffer("mean", torch.zeros(input_size))

    def project(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(x.mean((0, 1)).to(self.mean.dtype), 0.1)
        return super().project(x - self.mean)


class CutsTheGradientInTraining(Right, caught_by="gradients_are_right"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, (state[0].detach(),) if self.training else state)


class HalvesTheGradientUnderDropout(Right, caught_by="gradients_are_right"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, _ = super().step(nn.functional.dropout(x, 0.3, self.training), state)
        if self.training and h.requires_grad:
            h.register_hook(lambda gradient: 0.5 * gradient)
        return h, (h,)


class LooksAheadInTraining(Right, caught_by="causality"):
    def project(self, x: Tensor) -> Tensor:
        return super().project(x + 0.1 * x.roll(-1, 0) if self.training else x)


class PositionInTraining(Right, caught_by="state_carries_over_every_cut"):
    def project(self, x: Tensor) -> Tensor:
        place = torch.arange(len(x), dtype=x.dtype).view(-1, 1, 1)
        return super().project(x) + (0.1 * place if self.training else 0)


class NormalisesTheBatchInTraining(Right, caught_by="shapes_and_dtypes"):
    """One row has no deviation."""

    def build(self, input_size: int, hidden_size: int) -> None:
        self.norm = nn.BatchNorm1d(hidden_size, affine=False, track_running_stats=False)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(self.norm(x) if self.training else x, state)


class ForeignRandomNumbers(Right, caught_by="evaluation_is_deterministic"):
    """torch's seed does not repeat it."""

    def project(self, x: Tensor) -> Tensor:
        return super().project(x * (1 + 0.1 * random.random()) if self.training else x)


class CutsTheGradientInFloat32(Right, caught_by="large_and_small_numbers"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, (state[0].detach(),) if x.dtype == torch.float32 else state)


# Sizes --------------------------------------------------------------------------------------------------------------


class LooksAheadInLongRows(Right, caught_by="causality"):
    def project(self, x: Tensor) -> Tensor:
        return super().project(x - x[64:].mean(0) if len(x) > 64 else x)


class CutsTheGradientOfLongRows(Right, caught_by="gradients_are_right"):
    def project(self, x: Tensor) -> Tensor:
        p = super().project(x)
        return torch.cat([p[:-100].detach(), p[-100:]]) if len(x) > 100 else p


class MixesManyRows(Right, caught_by="rows_are_independent"):
    def project(self, x: Tensor) -> Tensor:
        return super().project(x - 0.1 * x.mean(1, keepdim=True) if x.shape[1] > 64 else x)


class MixesRowsOfWideStates(Right, caught_by="rows_are_independent"):
    def changed(self, h: Tensor) -> Tensor:
        return torch.cat([h[:, :32], h[:1, 32:].expand(len(h), -1)], 1) if self.hidden_size > 32 else h


class MixesRowsOfManyFeatures(Right, caught_by="rows_are_independent"):
    def project(self, x: Tensor) -> Tensor:
        p = super().project(x)
        return p.cumsum(1) if self.input_size % 16 == 0 else p


class TurnsASquareState(Right, caught_by="rows_are_independent"):
    """It takes the batch for the last axis where both are as long."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        return super().step(x, (h.t() if h.shape[0] == h.shape[1] else h,))


class SqueezesOneUnit(Right, caught_by="shapes_and_dtypes"):
    def changed(self, h: Tensor) -> Tensor:
        return h.squeeze(-1)


class ClockOfTheProjection(Right, caught_by="state_carries_over_every_cut"):
    """From the 65th step of a call on it does something else."""

    def project(self, x: Tensor) -> Tensor:
        late = (torch.arange(len(x)) >= 64).view(-1, 1, 1)
        return torch.where(late, 0.5, 1.0).to(x.dtype) * super().project(x)


# Numbers ------------------------------------------------------------------------------------------------------------


class NaiveTanh(Right, caught_by="large_and_small_numbers"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        grown = torch.exp(2 * (x + self.from_state(state[0])))
        h = (grown - 1) / (grown + 1)
        return h, (h,)


class NaiveGradient(Right, caught_by="large_and_small_numbers"):
    """Right forward; backward 0 times infinity."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        total = x + self.from_state(state[0])
        h = torch.where(total > 20, torch.ones_like(total), torch.log1p(torch.exp(total)).tanh())
        return h, (h,)


class SquaresInFloat32(Right, caught_by="large_and_small_numbers"):
    def project(self, x: Tensor) -> Tensor:
        return super().project(x / (1 + x.pow(16).mean(-1, keepdim=True)).pow(1 / 16))


class DividesByTheNorm(Right, caught_by="large_and_small_numbers"):
    """It keeps zero out and not what is nearly zero."""

    def project(self, x: Tensor) -> Tensor:
        norm = x.square().sum(-1, keepdim=True).sqrt()
        return super().project(torch.where(x.abs().sum(-1, keepdim=True) > 0, x / norm, torch.zeros_like(x)))


class GrowingNormaliser(Right, caught_by="large_and_small_numbers"):
    """A sum and its normaliser that grow with every step; only their ratio counts."""

    state_names = ("h", "norm")

    def initial_state(self, like: Tensor) -> State:
        return (*super().initial_state(like)[:1], like.new_ones(like.shape[0], 1))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        sums, norm = state
        sums, norm = 2 * sums + norm * torch.tanh(x + self.from_state(sums / norm)), 2 * norm
        return sums / norm, (sums, norm)


# Memory and places --------------------------------------------------------------------------------------------------


class RandomStart(Right, caught_by="evaluation_is_deterministic"):
    def initial_state(self, like: Tensor) -> State:
        return (0.1 * torch.randn(like.shape[0], self.hidden_size, dtype=like.dtype),)


class StartsFromTheData(Right, caught_by="initial_state_is_fixed"):
    def initial_state(self, like: Tensor) -> State:
        return (like[:, :1].expand(-1, self.hidden_size) * 0 + like[:, :1].nan_to_num().sign(),)


class StartsFromTheShapeOfTheData(Right, caught_by="initial_state_is_fixed"):
    """Zeros, by a product with the data, which may be NaN in padding."""

    def initial_state(self, like: Tensor) -> State:
        return (like[:, :1].expand(-1, self.hidden_size) * 0,)


class StartsByRow(Right, caught_by="initial_state_is_fixed"):
    def initial_state(self, like: Tensor) -> State:
        return (torch.linspace(0, 1, len(like), dtype=like.dtype).unsqueeze(1).expand(-1, self.hidden_size),)


class Reseeds(Right, caught_by="evaluation_is_deterministic"):
    def __init__(self, input_size: int, hidden_size: int = 5) -> None:
        torch.manual_seed(0)
        super().__init__(input_size, hidden_size)


class ReseedsInACall(Right, caught_by="evaluation_is_deterministic"):
    def project(self, x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return super().project(x)


class WarmsUp(Right, caught_by="no_memory_between_calls"):
    """After a hundred steps it is another cell."""

    calls = 0

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        self.calls += 1
        return super().step(x if self.calls < 100 else 0.9 * x, state)


class CountsInABuffer(Right, caught_by="no_memory_between_calls"):
    def build(self, input_size: int, hidden_size: int) -> None:
        self.register_buffer("steps", torch.zeros(()))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        self.steps += 1
        return super().step(x, state)


class SharedCache(Right, caught_by="rows_are_independent"):
    """A cache of all cells, by the shape of the input."""

    seen: ClassVar[dict[Any, Tensor]] = {}

    def project(self, x: Tensor) -> Tensor:
        kept = self.seen.setdefault((x.shape, x.dtype), x.detach().mean() * 0.01)
        return super().project(x + kept)


class CachesItsWeights(Right, caught_by="sees_changed_parameters"):
    """In evaluation the weights are turned once."""

    turned: Tensor | None = None

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if self.training or torch.is_grad_enabled():
            return super().step(x, state)
        if self.turned is None or self.turned.dtype != x.dtype:
            self.turned = self.from_state.weight.t().clone()
        h = torch.tanh(x + state[0] @ self.turned)
        return h, (h,)


class CachesItsWeightsAlways(Right, caught_by="sees_changed_parameters"):
    packed: tuple[Any, Tensor] | None = None

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        weight = self.from_state.weight
        if self.packed is None or self.packed[0] != weight.dtype or self.training:
            self.packed = weight.dtype, weight.detach().clone()
        shift = self.packed[1] - weight.detach()
        h = torch.tanh(x + nn.functional.linear(state[0], weight + shift))
        return h, (h,)


class OneOutputBuffer(Right, caught_by="input_is_left_alone"):
    """Each step writes into the same memory."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, new = super().step(x, state)
        if torch.is_grad_enabled():
            return h, new
        if getattr(self, "memory", None) is None or self.memory.shape != h.shape or self.memory.dtype != h.dtype:
            self.memory = h.clone()
        self.memory.copy_(h)
        return self.memory, new


class SavesMemoryWithoutGradients(Right, caught_by="input_is_left_alone"):
    """Without gradients the state is changed in place."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, new = super().step(x, state)
        if not torch.is_grad_enabled():
            new = (state[0].copy_(h),)
        return h, new


class AnotherWayWithoutGradients(Right, caught_by="frozen_parameters"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, new = super().step(x, state)
        return (h if torch.is_grad_enabled() else h.float().to(h.dtype)), new


class NeedsTheInputsGradient(Right, caught_by="frozen_parameters"):
    """Where the input needs no gradient, the recurrent weights get a wrong one."""

    def project(self, x: Tensor) -> Tensor:
        p = super().project(x)
        return p if x.requires_grad else p.detach() + 0 * p


class SpoiledSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.slope = 1 - torch.tanh(x) ** 2
        return torch.tanh(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return ctx.slope.mul_(gradient)


class OnePassBackward(Right, caught_by="frozen_parameters"):
    """The second pass through a graph finds what the first one left."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = SpoiledSlope.apply(x + self.from_state(state[0]))
        return h, (h,)


class RemembersThePreviousInput(Right, caught_by="state_carries_over_every_cut"):
    """Kept from step to step outside the state, and begun anew by each projection."""

    previous: Tensor | None = None

    def project(self, x: Tensor) -> Tensor:
        self.previous = None
        return super().project(x)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        before, self.previous = self.previous, x.detach()
        return super().step(x if before is None else x + 0.1 * before, state)


class RemembersTheBatch(Right, caught_by="no_memory_between_calls"):
    """The number of rows is taken from the last initial state that was made."""

    rows = 0

    def initial_state(self, like: Tensor) -> State:
        self.rows = len(like)
        return super().initial_state(like)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x * (1.0 if len(x) == self.rows else 0.9), state)


class GrowsAParameter(Right, caught_by="no_memory_between_calls"):
    """Made at the first call, after the optimizer."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if not hasattr(self, "scale"):
            self.scale = nn.Parameter(torch.ones(self.hidden_size, dtype=x.dtype))
        return super().step(x * self.scale, state)


class SetsTheDtype(Right, caught_by="evaluation_is_deterministic"):
    def __init__(self, input_size: int, hidden_size: int = 5) -> None:
        torch.set_default_dtype(torch.float64)
        super().__init__(input_size, hidden_size)


class SharesWeightsWithAll(Right, caught_by="copies_and_pickles"):
    """One matrix for all cells of the class."""

    shared: ClassVar[dict[int, nn.Linear]] = {}

    def build(self, input_size: int, hidden_size: int) -> None:
        self.from_state = self.shared.setdefault(hidden_size, self.from_state)


class FixedOutputSize(Right, caught_by="shapes_and_dtypes"):
    @property
    def output_size(self) -> int:
        return 5


class FixedDevice(Right, caught_by="shapes_and_dtypes"):
    def initial_state(self, like: Tensor) -> State:
        return (torch.zeros(like.shape[0], self.hidden_size, dtype=like.dtype),)


# Options ------------------------------------------------------------------------------------------------------------


class Kind(enum.Enum):
    plain = "plain"
    smooth = "smooth"


class FaultyOptions(Right):
    def __init__(
        self,
        input_size: int,
        hidden_size: int = 5,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        centred: bool = False,
        kind: Kind = Kind.plain,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.nonlinearity, self.centred, self.kind = nonlinearity, centred, kind


class DetachesWithRelu(FaultyOptions, caught_by="every_option"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if self.nonlinearity == "tanh":
            return super().step(x, state)
        h = torch.relu(x + self.from_state(state[0].detach()))
        return h, (h,)


class CentresOverRows(FaultyOptions, caught_by="every_option"):
    def project(self, x: Tensor) -> Tensor:
        return super().project(x - x.mean(1, keepdim=True) if self.centred else x)


class SmoothsOverTheFuture(FaultyOptions, caught_by="every_option"):
    def project(self, x: Tensor) -> Tensor:
        return super().project(x + x.roll(-1, 0) if self.kind is Kind.smooth else x)


class CannotBeMade(FaultyOptions, caught_by="every_option"):
    def __init__(self, input_size: int, hidden_size: int = 5, deep: bool = False) -> None:
        super().__init__(input_size, hidden_size)
        if deep:
            self.more = nn.Linear(hidden_size, self.sizes)
