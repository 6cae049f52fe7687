"""Kernels with one fault each, and the check that must catch it; all scan the cell ``Right``."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqlab import Cell, Kernel, State
from seqlab.recurrence import scan
from seqlab.recurrence.selection import Loop

from .broken_cells import Right
from .faults import Fault


class Faultless(Fault, Kernel):
    """The loop under another name: what the faults are put into."""

    name = "faultless"
    cell = Right

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        return None if x.dtype in (torch.float32, torch.float64) else f"the input is {x.dtype}"

    def scan(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        return self.after(cells, x, lengths, *Loop().scan(cells, x, states, lengths))

    def after(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None, y: Tensor, ends: list[State]) -> Any:
        """Return what the loop computed; for subclasses to spoil."""
        return y, ends


class Nameless(Faultless, caught_by="names_its_cell"):
    name = None  # type: ignore[assignment]  # what is wrong with it


class ScansNothing(Fault, Kernel, caught_by="names_its_cell"):
    name = "nothing"
    cell = Right

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        return None


class WrongOutput(Faultless, caught_by="full_rows"):
    def after(self, cells, x, lengths, y, ends):
        return 1.001 * y, ends


class ZeroGradients(Faultless, caught_by="full_rows"):
    """What haste shipped: right outputs, no gradient to the input."""

    def scan(self, cells, x, states, lengths):
        return super().scan(cells, x.detach(), states, lengths)


class LeavesPaddingOutputs(Faultless, caught_by="ragged_rows"):
    def after(self, cells, x, lengths, y, ends):
        return y + (y == 0).all(-1, keepdim=True) * 0.5, ends


class EndsAfterThePadding(Faultless, caught_by="ragged_rows"):
    def scan(self, cells, x, states, lengths):
        y, _ = super().scan(cells, x, states, lengths)
        _, ends = super().scan(cells, torch.nan_to_num(x), states, None)
        return y, ends


class ForgetsEmptyRows(Faultless, caught_by="ragged_rows"):
    def after(self, cells, x, lengths, y, ends):
        if lengths is None:
            return y, ends
        return y, [tuple(leaf * (lengths > 0).unsqueeze(1) for leaf in end) for end in ends]


class ReadsPadding(Faultless, caught_by="ragged_rows"):
    def scan(self, cells, x, states, lengths):
        if lengths is None:
            return super().scan(cells, x, states, lengths)
        y, ends = super().scan(cells, x, states, lengths)
        return y + 0 * x.sum(-1, keepdim=True), ends


class FlipsThePadding(Faultless, caught_by="ragged_rows"):
    """Backward over all steps instead of within each row's length."""

    def scan(self, cells, x, states, lengths):
        forward, end = scan(cells[0], x, states[0], lengths)
        if len(cells) == 1:
            return forward, [end]
        backward, back_end = scan(cells[1], torch.nan_to_num(x).flip(0), states[1], None)
        return torch.cat([forward, backward.flip(0)], dim=-1), [end, back_end]


class SqueezesOneRow(Faultless, caught_by="one_step_and_one_row"):
    def after(self, cells, x, lengths, y, ends):
        return y.squeeze(1), ends


class StartsAtZero(Faultless, caught_by="state_carries_over_every_cut"):
    """The state that comes in is overwritten, as state-spaces did."""

    def scan(self, cells, x, states, lengths):
        zero = [tuple(torch.zeros_like(leaf) + 0 * leaf for leaf in state) for state in states]
        return super().scan(cells, x, zero, lengths)


class ForgetsThePadding(Faultless, caught_by="parts_of_the_loss"):
    """Without the final state it leaves the lengths out."""

    def outputs(self, cells, x, states, lengths):
        return self.scan(cells, x, states, None)[0]


class LastOfThePadded(Faultless, caught_by="parts_of_the_loss"):
    def last(self, cells, x, states, lengths, final_state):
        y, ends = self.scan(cells, torch.nan_to_num(x), states, None)
        return y[-1], ends


class NeedsEveryGradient(Faultless, caught_by="frozen_parameters"):
    def after(self, cells, x, lengths, y, ends):
        if y.requires_grad:
            torch.autograd.grad(y.sum(), list(cells[0].parameters()), retain_graph=True)
        return y, ends


class NeedsContiguous(Faultless, caught_by="memory_layout"):
    def scan(self, cells, x, states, lengths):
        return super().scan(cells, x.view(-1).view(x.shape), states, lengths)


class ChangesItsInput(Faultless, caught_by="input_is_left_alone"):
    def scan(self, cells, x, states, lengths):
        result = super().scan(cells, x.clone(), states, lengths)
        with torch.no_grad():
            x.mul_(2)
        return result


class PacksTheWeightsOnce(Faultless, caught_by="sees_changed_parameters"):
    """It keeps the weights that it saw first of a cell of each size."""

    def __init__(self) -> None:
        self.packed: dict[Any, list[torch.Tensor]] = {}

    def scan(self, cells, x, states, lengths):
        own = list(cells[0].parameters())
        now = [parameter.data for parameter in own]
        sizes = tuple((*parameter.shape, parameter.dtype) for parameter in own)
        for parameter, packed in zip(own, self.packed.setdefault(sizes, [each.clone() for each in now]), strict=True):
            parameter.data = packed
        found = super().scan(cells, x, states, lengths)
        for parameter, data in zip(own, now, strict=True):
            parameter.data = data
        return found


class OwnsAWeight(Faultless, caught_by="parameters_are_the_cells"):
    def __init__(self) -> None:
        self.scale = torch.nn.Parameter(torch.ones(()))


class TakesAnything(Faultless, caught_by="refuses_what_it_cannot_do"):
    """It refuses nothing and fails in low precision."""

    def refuses(self, cells, x, lengths):
        return None

    def scan(self, cells, x, states, lengths):
        if x.dtype == torch.float16:
            raise RuntimeError("not implemented for 'Half'")
        return super().scan(cells, x, states, lengths)


class RefusesWithoutAReason(Faultless, caught_by="refuses_what_it_cannot_do"):
    def refuses(self, cells, x, lengths):
        return False if x.dtype == torch.float16 else super().refuses(cells, x, lengths)


class Walk(torch.autograd.Function):
    """A tanh RNN by hand, for one direction and full rows; the faults are in how it keeps and takes tensors."""

    @staticmethod
    def forward(ctx: Any, owner: Any, p: Tensor, h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        start, hs = h, []
        for p_t in p:
            h = torch.tanh(p_t + h @ weight.t())
            hs.append(h)
        y = torch.stack(hs)
        before = torch.cat([start.unsqueeze(0), y[:-1]])
        owner.keep(ctx, y, before, weight)
        ctx.owner = owner
        return y, hs[-1].clone()

    @staticmethod
    def backward(ctx: Any, to_y: Tensor, to_end: Tensor) -> tuple[Tensor | None, ...]:
        y, before, weight = ctx.owner.kept(ctx)
        to_y, to_h = ctx.owner.incoming(to_y, to_end)
        slope = ctx.owner.slope(y)
        steps: list[Tensor] = []
        for t in reversed(range(len(y))):
            steps.append((to_y[t] + to_h) * slope[t])
            to_h = steps[-1] @ weight
        to_p = torch.stack(steps[::-1])
        return None, to_p, to_h, to_p.flatten(0, 1).t() @ before.flatten(0, 1)


class ByHand(Faultless):
    """Right: its derivative is written out."""

    def refuses(self, cells, x, lengths):
        if not len(x) or lengths is not None or len(cells) > 1 or torch.is_autocast_enabled("cpu"):
            return "full rows, forward, and at least one step, without autocast"
        return super().refuses(cells, x, lengths)

    def scan(self, cells, x, states, lengths):
        (cell,) = cells
        y, end = Walk.apply(self, cell.project(x), states[0][0], cell.from_state.weight)
        return y, [(end,)]

    def keep(self, ctx, *tensors):
        ctx.save_for_backward(*tensors)

    def kept(self, ctx):
        return ctx.saved_tensors

    def incoming(self, to_y, to_end):
        return to_y, to_end

    def slope(self, y):
        return 1 - y**2


class SpoilsWhatItKept(ByHand, caught_by="one_graph_twice"):
    """The slope is computed in place, in the memory of what was kept."""

    def slope(self, y):
        return y.detach().pow_(2).neg_().add_(1)


class SharedWorkspace(ByHand, caught_by="calls_that_share_parameters"):
    """What a pass forward keeps lies in memory that the next call takes again."""

    def __init__(self) -> None:
        self.workspace: tuple[Tensor, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return {"workspace": ()}

    def __deepcopy__(self, memo: Any) -> "SharedWorkspace":
        return type(self)()

    def keep(self, ctx, *tensors):
        self.workspace = tuple(tensor.clone() for tensor in tensors)

    def kept(self, ctx):
        return self.workspace


class DropsTheEnd(ByHand, caught_by="parts_of_the_loss"):
    """The gradient of the final state is left out where no output counts."""

    def incoming(self, to_y, to_end):
        return to_y, to_end if bool(to_y.any()) else torch.zeros_like(to_end)


class ReadsTheGradientDirectly(ByHand, caught_by="layout_of_the_gradient"):
    """It takes the strides of the gradient for granted."""

    def incoming(self, to_y, to_end):
        if to_y.untyped_storage().nbytes() < to_y.nbytes:
            return to_y, to_end
        _, batch, size = to_y.shape
        return to_y.as_strided(to_y.shape, (batch * size, size, 1)), to_end


class WritesIntoTheGradient(ByHand, caught_by="layout_of_the_gradient"):
    def incoming(self, to_y, to_end):
        to_y.detach()[-1] += to_end
        return to_y, torch.zeros_like(to_end)


class KeepsOnTheContext(ByHand, caught_by="values_kept_for_backward"):
    """What autograd does not see kept, it does not guard."""

    def keep(self, ctx, *tensors):
        ctx.mine = tensors

    def kept(self, ctx):
        return ctx.mine
