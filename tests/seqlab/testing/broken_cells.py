"""Cells with one fault each, of kinds that were published, and the check that must find it."""

import random
from typing import Any

import torch
from torch import Tensor, nn

from seqlab import Cell, Probe, State

from .faults import Fault


class Right(Fault, Cell):
    """The cell that the faults are put into."""

    def __init__(self, input_size: int, hidden_size: int = 5) -> None:
        super().__init__(input_size, hidden_size)
        self.from_input = nn.Linear(input_size, hidden_size)
        self.from_state = nn.Linear(hidden_size, hidden_size, bias=False)
        self.build(input_size, hidden_size)

    def build(self, input_size: int, hidden_size: int) -> None:
        """Add modules; for subclasses."""

    def project(self, x: Tensor) -> Tensor:
        return self.from_input(x)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = self.changed(torch.tanh(x + self.from_state(state[0])))
        return h, (h,)

    def changed(self, h: Tensor) -> Tensor:
        """Spoil the new state; for subclasses."""
        return h


class HardCodedDtype(Right, caught_by="shapes_and_dtypes"):
    def initial_state(self, like: Tensor) -> State:
        return (torch.zeros(like.shape[0], self.hidden_size),)


class WrongOutputSize(Right, caught_by="shapes_and_dtypes"):
    @property
    def output_size(self) -> int:
        return self.hidden_size + 1


class UnnamedLeaf(Right, caught_by="shapes_and_dtypes"):
    def initial_state(self, like: Tensor) -> State:
        return (*super().initial_state(like), like.new_zeros(like.shape[0], 1))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, (new,) = super().step(x, state[:1])
        return h, (new, state[1] + 1)


class StateWithoutBatch(Right, caught_by="shapes_and_dtypes"):
    def initial_state(self, like: Tensor) -> State:
        return (like.new_zeros(1, self.hidden_size),)


class GrowingState(Right, caught_by="shapes_and_dtypes"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, _ = super().step(x, state[:1])
        return h, (h, h)


class SqueezesOneRow(Right, caught_by="shapes_and_dtypes"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.tanh(x.squeeze() + self.from_state(state[0]).squeeze())
        h = h.unsqueeze(0).expand(len(x), -1) if h.dim() == 1 and len(x) > 1 else h
        return h, (h,)


class NeedsTwoFeatures(Right, caught_by="shapes_and_dtypes"):
    def project(self, x: Tensor) -> Tensor:
        return self.from_input((x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True))


class LooksAhead(Right, caught_by="causality"):
    """A centred smoothing over time."""

    def project(self, x: Tensor) -> Tensor:
        after = torch.cat([x[1:], x[-1:]])
        return self.from_input(0.5 * x + 0.5 * after)


class NormalisesByFuture(Right, caught_by="causality"):
    """The future enters by a number that carries no gradient."""

    def project(self, x: Tensor) -> Tensor:
        return self.from_input(x / x.detach().std())


class ReadsPadding(Right, caught_by="padding_is_invisible"):
    """The padding is zero for a cell, but how much of it there is shows in a mean over time."""

    def project(self, x: Tensor) -> Tensor:
        return self.from_input(x - x.mean(0))


class DividesByZero(Right, caught_by="padding_is_invisible"):
    """On padding 0 / 0 arises, and where() does not keep its gradient out."""

    def project(self, x: Tensor) -> Tensor:
        return self.from_input(x / x.norm(dim=-1, keepdim=True))


class NormalisesOverTheBatch(Right, caught_by="rows_are_independent"):
    def changed(self, h: Tensor) -> Tensor:
        return h - 0.5 * h.mean(0)


class RanksRows(Right, caught_by="rows_are_independent"):
    """The order of the rows decides."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        place = torch.arange(len(x), device=x.device, dtype=x.dtype).unsqueeze(1)
        return super().step(x + 0.1 * place, state)


class CountsCalls(Right, caught_by="state_carries_over_every_cut"):
    """The position is taken from how often project() ran, not from the state."""

    def project(self, x: Tensor) -> Tensor:
        position = torch.linspace(0, 1, len(x), dtype=x.dtype).view(-1, 1, 1)
        return self.from_input(x) + position


class OverwritesState(Right, caught_by="state_is_used"):
    """The carried state is put back to zero, as state-spaces did."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, _ = super().step(x, (torch.zeros_like(state[0]),))
        return h, (h,)


class NeverReadsC(Right, caught_by="state_is_used"):
    state_names = ("h", "c")

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, _ = super().step(x, state[:1])
        return h, (h, torch.tanh(h))


class KnowsTheOtherDirection(Right, caught_by="no_memory_between_calls"):
    """Cells built one after another differ: the second one of a layer counts itself."""

    built = 0

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        KnowsTheOtherDirection.built += 1
        return super().step(x * (1 + 0.01 * (KnowsTheOtherDirection.built % 7)), state)


class WrongDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return gradient * (1 - y)


class WrongGradient(Right, caught_by="gradients_are_right"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = WrongDerivative.apply(x + self.from_state(state[0]))
        return h, (h,)


class DetachesState(Right, caught_by="gradients_are_right"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, (state[0].detach(),))


class UnusedParameter(Right, caught_by="gradients_reach_every_parameter"):
    def build(self, input_size: int, hidden_size: int) -> None:
        self.forgotten = nn.Parameter(torch.randn(hidden_size))


class ZeroGradient(Right, caught_by="gradients_reach_every_parameter"):
    """The weight takes part, multiplied by nothing."""

    def build(self, input_size: int, hidden_size: int) -> None:
        self.scale = nn.Parameter(torch.randn(hidden_size))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x + 0 * self.scale, state)


class DropoutInEvaluation(Right, caught_by="evaluation_is_deterministic"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(nn.functional.dropout(x, 0.2), state)


class RemembersTheLastCall(Right, caught_by="no_memory_between_calls"):
    """It goes on where the last call ended."""

    last: Tensor | None = None

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        bias = 0 if self.last is None or self.last.shape != x.shape else 0.1 * self.last
        h, new = super().step(x + bias, state)
        self.last = h.detach()
        return h, new


class ChangesItsInput(Right, caught_by="input_is_left_alone"):
    def project(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x.mul_(0.5)
        return self.from_input(x)


class ChangesItsState(Right, caught_by="input_is_left_alone"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.tanh(x + self.from_state(state[0]))
        with torch.no_grad():
            state[0].mul_(0.5)
        return h, (h,)


class WantsContiguous(Right, caught_by="memory_layout"):
    def project(self, x: Tensor) -> Tensor:
        return self.from_input(x.view(-1, x.shape[-1])).view(*x.shape[:2], -1)


class ReadsMemoryDirectly(Right, caught_by="memory_layout"):
    """It takes the strides for granted."""

    def project(self, x: Tensor) -> Tensor:
        size = x.shape[-1]
        return self.from_input(x.as_strided(x.shape, (x.shape[1] * size, size, 1)))


class RefusesAutocast(Right, caught_by="autocast"):
    """It adds into a tensor whose dtype is not what autocast makes of the product."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.zeros_like(state[0]).addmm_(state[0], self.from_state.weight.t())
        h = torch.tanh(h.addmm_(torch.ones_like(x[:, :1]), x[:1]) + x)
        return h, (h,)


class OverflowsInLowPrecision(Right, caught_by="autocast"):
    """In bfloat16 the difference of two large numbers is lost."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.tanh((x + self.from_state(state[0]) + 4096.0) - 4096.0)
        return h, (h,)


class ExplodesInTraining(Right, caught_by="large_and_small_numbers"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, new = super().step(x, state)
        return (y / 0 if self.training else y), new


class HiddenWeight(Right, caught_by="sees_changed_parameters"):
    """A weight that is neither parameter nor buffer."""

    def build(self, input_size: int, hidden_size: int) -> None:
        self.weights = [torch.randn(hidden_size)]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x * self.weights[0].to(x.dtype), state)


class SharesOnCopy(Right, caught_by="copies_and_pickles"):
    """A deep copy shares its parameters with the original."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharesOnCopy":
        twin = type(self)(self.input_size, self.hidden_size).to(self.from_state.weight.dtype)
        twin.from_input, twin.from_state = self.from_input, self.from_state
        return twin


class HoldsALambda(Right, caught_by="copies_and_pickles"):
    def build(self, input_size: int, hidden_size: int) -> None:
        self.activation = lambda z: torch.tanh(z)


class BranchesOnNumbers(Right, caught_by="exports"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, new = super().step(x, state)
        return (h if h.sum().item() < 1e9 else 2 * h), new


class CompilesToSomethingElse(Right):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(1.01 * x if torch.compiler.is_compiling() else x, state)


class NeedsAnArgument(Right, caught_by="shapes_and_dtypes"):
    def __init__(self, input_size: int, hidden_size: int, heads: int) -> None:
        super().__init__(input_size, hidden_size)


class NoCell(Fault, nn.Module, caught_by="shapes_and_dtypes"):
    def __init__(self, input_size: int, hidden_size: int = 5) -> None:
        super().__init__()


class TransposedProbe(Right, caught_by="probe_agrees_with_autograd"):
    def probe(self, x: Tensor, states: State) -> Probe:
        slope = 1 - states[0][1:] ** 2
        return Probe(product=lambda t, gradients: ((gradients[0] * slope[t]) @ self.from_state.weight.t(),))


# At large inputs, wide sizes, other numbers as options; and what else a call may change -------------------------------


class RescalesOnceLarge(Right, caught_by="rows_are_independent"):
    def project(self, x: Tensor) -> Tensor:
        return super().project(20 * x / x.abs().amax().clamp(min=20))


class RootOfTheState(Right, caught_by="large_and_small_numbers"):
    """Its gradient at an initial state of zeros, which is learned at times, is 0 x infinity."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        h = torch.tanh(x + self.from_state(h) / (1 + h.square().sum(-1, keepdim=True).sqrt()))
        return h, (h,)


class CutsTheGradientOf128Units(Right, caught_by="gradients_are_right"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        return super().step(x, (h.detach() if self.hidden_size >= 100 else h,))


class DropsInEvaluation(Right, caught_by="every_option"):
    """As soon as its rate is not the default."""

    def __init__(self, input_size: int, hidden_size: int = 5, rate: float = 0.0) -> None:
        super().__init__(input_size, hidden_size)
        self.rate = rate

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(nn.functional.dropout(x, self.rate), state)


class KeepsZeros(Right, caught_by="trains_after_inference"):
    """Made under ``inference_mode``, they cannot be trained through."""

    def initial_state(self, like: Tensor) -> State:
        kept = self.__dict__.setdefault("zeros", {})
        key = (like.shape[0], like.dtype, like.device)
        return (kept.setdefault(key, like.new_zeros(like.shape[0], self.hidden_size)),)


class SeedsPython(Right, caught_by="evaluation_is_deterministic"):
    def build(self, input_size: int, hidden_size: int) -> None:
        random.seed(0)


class Approximates32(Right, caught_by="large_and_small_numbers"):
    def changed(self, h: Tensor) -> Tensor:
        return 1.004 * h if h.dtype == torch.float32 else h


class FollowsGradientsAlways(Right, caught_by="settings_are_left_alone"):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        with torch.enable_grad():
            return super().step(x, state)


class DropsGathered(Right, caught_by="settings_are_left_alone"):
    """It clears the gradients that earlier calls have gathered."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        for parameter in self.parameters():
            parameter.grad = None
        return super().step(x, state)
