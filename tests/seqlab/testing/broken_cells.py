"""Cells with one fault each, of the kinds that were shipped by others, and the check that must catch it."""

from typing import Any

import torch
from torch import Tensor, nn

from seqlab import Cell, Probe, State


class Right(Cell):
    """The cell that the faults are put into."""

    def __init__(self, input_size: int, hidden_size: int = 5) -> None:
        super().__init__(input_size, hidden_size)
        self.from_input = nn.Linear(input_size, hidden_size)
        self.from_state = nn.Linear(hidden_size, hidden_size, bias=False)

    def project(self, x: Tensor) -> Tensor:
        return self.from_input(x)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.tanh(x + self.from_state(state[0]))
        return h, (h,)


class HardCodedDtype(Right):
    def initial_state(self, like: Tensor) -> State:
        return (torch.zeros(like.shape[0], self.hidden_size),)


class WrongOutputSize(Right):
    @property
    def output_size(self) -> int:
        return self.hidden_size + 1


class UnnamedLeaf(Right):
    def initial_state(self, like: Tensor) -> State:
        return (*super().initial_state(like), like.new_zeros(like.shape[0], 1))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, (new,) = super().step(x, state[:1])
        return h, (new, state[1] + 1)


class StateWithoutBatch(Right):
    def initial_state(self, like: Tensor) -> State:
        return (like.new_zeros(1, self.hidden_size),)


class GrowingState(Right):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, _ = super().step(x, state[:1])
        return h, (h, h)


class SqueezesOneRow(Right):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.tanh(x.squeeze() + self.from_state(state[0]).squeeze())
        h = h.unsqueeze(0).expand(len(x), -1) if h.dim() == 1 and len(x) > 1 else h
        return h, (h,)


class NeedsTwoFeatures(Right):
    def project(self, x: Tensor) -> Tensor:
        return self.from_input((x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True))


class LooksAhead(Right):
    """A centred smoothing over time."""

    def project(self, x: Tensor) -> Tensor:
        after = torch.cat([x[1:], x[-1:]])
        return self.from_input(0.5 * x + 0.5 * after)


class NormalisesByFuture(Right):
    """The future enters by a number that carries no gradient."""

    def project(self, x: Tensor) -> Tensor:
        return self.from_input(x / x.detach().std())


class ReadsPadding(Right):
    """The padding is zero for a cell, but how much of it there is shows in a mean over time."""

    def project(self, x: Tensor) -> Tensor:
        return self.from_input(x - x.mean(0))


class DividesByZero(Right):
    """On padding 0 / 0 arises, and where() does not keep its gradient out."""

    def project(self, x: Tensor) -> Tensor:
        return self.from_input(x / x.norm(dim=-1, keepdim=True))


class NormalisesOverTheBatch(Right):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = super().step(x, state)[0]
        h = h - 0.5 * h.mean(0)
        return h, (h,)


class RanksRows(Right):
    """The order of the rows decides."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        place = torch.arange(len(x), device=x.device, dtype=x.dtype).unsqueeze(1)
        return super().step(x + 0.1 * place, state)


class CountsCalls(Right):
    """The position is taken from how often project() ran, not from the state."""

    def project(self, x: Tensor) -> Tensor:
        position = torch.linspace(0, 1, len(x), dtype=x.dtype).view(-1, 1, 1)
        return self.from_input(x) + position


class OverwritesState(Right):
    """The carried state is put back to zero, as state-spaces did."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, _ = super().step(x, (torch.zeros_like(state[0]),))
        return h, (h,)


class NeverReadsC(Right):
    state_names = ("h", "c")

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, _ = super().step(x, state[:1])
        return h, (h, torch.tanh(h))


class KnowsTheOtherDirection(Right):
    """Cells built one after another differ: the second one of a layer counts itself."""

    built = 0

    def __init__(self, input_size: int, hidden_size: int = 5) -> None:
        super().__init__(input_size, hidden_size)

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


class WrongGradient(Right):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = WrongDerivative.apply(x + self.from_state(state[0]))
        return h, (h,)


class DetachesState(Right):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, (state[0].detach(),))


class UnusedParameter(Right):
    def __init__(self, input_size: int, hidden_size: int = 5) -> None:
        super().__init__(input_size, hidden_size)
        self.forgotten = nn.Parameter(torch.randn(hidden_size))


class ZeroGradient(Right):
    """The weight takes part, multiplied by nothing."""

    def __init__(self, input_size: int, hidden_size: int = 5) -> None:
        super().__init__(input_size, hidden_size)
        self.scale = nn.Parameter(torch.randn(hidden_size))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x + 0 * self.scale, state)


class DropoutInEvaluation(Right):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(nn.functional.dropout(x, 0.2), state)


class RemembersTheLastCall(Right):
    """It goes on where the last call ended."""

    last: Tensor | None = None

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        bias = 0 if self.last is None or self.last.shape != x.shape else 0.1 * self.last
        h, new = super().step(x + bias, state)
        self.last = h.detach()
        return h, new


class ChangesItsInput(Right):
    def project(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x.mul_(0.5)
        return self.from_input(x)


class ChangesItsState(Right):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.tanh(x + self.from_state(state[0]))
        with torch.no_grad():
            state[0].mul_(0.5)
        return h, (h,)


class WantsContiguous(Right):
    def project(self, x: Tensor) -> Tensor:
        return self.from_input(x.view(-1, x.shape[-1])).view(*x.shape[:2], -1)


class ReadsMemoryDirectly(Right):
    """It takes the strides for granted."""

    def project(self, x: Tensor) -> Tensor:
        size = x.shape[-1]
        return self.from_input(x.as_strided(x.shape, (x.shape[1] * size, size, 1)))


class RefusesAutocast(Right):
    """It adds into a tensor whose dtype is not what autocast makes of the product."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.zeros_like(state[0]).addmm_(state[0], self.from_state.weight.t())
        h = torch.tanh(h.addmm_(torch.ones_like(x[:, :1]), x[:1]) + x)
        return h, (h,)


class OverflowsInLowPrecision(Right):
    """In bfloat16 the difference of two large numbers is lost."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.tanh((x + self.from_state(state[0]) + 4096.0) - 4096.0)
        return h, (h,)


class ExplodesInTraining(Right):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, new = super().step(x, state)
        return (y / 0 if self.training else y), new


class HiddenWeight(Right):
    """A weight that is neither parameter nor buffer."""

    def __init__(self, input_size: int, hidden_size: int = 5) -> None:
        super().__init__(input_size, hidden_size)
        self.weights = [torch.randn(hidden_size)]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x * self.weights[0].to(x.dtype), state)


class SharesOnCopy(Right):
    """A deep copy shares its parameters with the original."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharesOnCopy":
        twin = type(self)(self.input_size, self.hidden_size).to(self.from_state.weight.dtype)
        twin.from_input, twin.from_state = self.from_input, self.from_state
        return twin


class HoldsALambda(Right):
    def __init__(self, input_size: int, hidden_size: int = 5) -> None:
        super().__init__(input_size, hidden_size)
        self.activation = lambda z: torch.tanh(z)


class BranchesOnNumbers(Right):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, new = super().step(x, state)
        return (h if h.sum().item() < 1e9 else 2 * h), new


class CompilesToSomethingElse(Right):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(1.01 * x if torch.compiler.is_compiling() else x, state)


class NeedsAnArgument(Right):
    def __init__(self, input_size: int, hidden_size: int, heads: int) -> None:
        super().__init__(input_size, hidden_size)


class NoCell(nn.Module):
    def __init__(self, input_size: int, hidden_size: int = 5) -> None:
        super().__init__()


class TransposedProbe(Right):
    def probe(self, x: Tensor, states: State) -> Probe:
        slope = 1 - states[0][1:] ** 2
        return Probe(product=lambda t, gradients: ((gradients[0] * slope[t]) @ self.from_state.weight.t(),))


CAUGHT_BY: dict[type, str] = {
    TransposedProbe: "probe_agrees_with_autograd",
    HardCodedDtype: "shapes_and_dtypes",
    WrongOutputSize: "shapes_and_dtypes",
    UnnamedLeaf: "shapes_and_dtypes",
    StateWithoutBatch: "shapes_and_dtypes",
    GrowingState: "shapes_and_dtypes",
    NeedsAnArgument: "shapes_and_dtypes",
    NoCell: "shapes_and_dtypes",
    SqueezesOneRow: "small_sizes",
    NeedsTwoFeatures: "small_sizes",
    LooksAhead: "causality_by_gradient",
    NormalisesByFuture: "causality_by_perturbation",
    ReadsPadding: "padding_is_invisible",
    DividesByZero: "padding_is_invisible",
    NormalisesOverTheBatch: "rows_are_independent",
    RanksRows: "rows_are_independent",
    CountsCalls: "state_carries_over_every_cut",
    OverwritesState: "state_is_used",
    NeverReadsC: "state_is_used",
    KnowsTheOtherDirection: "reverse_is_flip",
    WrongGradient: "gradients_are_right",
    DetachesState: "gradients_are_right",
    UnusedParameter: "no_parameter_is_unused",
    ZeroGradient: "gradients_reach_every_parameter",
    DropoutInEvaluation: "evaluation_is_deterministic",
    RemembersTheLastCall: "no_memory_between_calls",
    ChangesItsInput: "input_is_left_alone",
    ChangesItsState: "input_is_left_alone",
    WantsContiguous: "memory_layout",
    ReadsMemoryDirectly: "memory_layout",
    RefusesAutocast: "autocast",
    OverflowsInLowPrecision: "autocast",
    ExplodesInTraining: "training_mode",
    HiddenWeight: "saves_and_loads",
    SharesOnCopy: "copies_and_pickles",
    HoldsALambda: "copies_and_pickles",
    BranchesOnNumbers: "exports",
}
