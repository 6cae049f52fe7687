"""Kernels with one fault each, and the check that must catch it; all scan the cell ``Right``."""

from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqlab import Cell, Kernel, State
from seqlab.recurrence import scan
from seqlab.recurrence.selection import Loop

spec = util.spec_from_file_location("broken_cells", Path(__file__).with_name("broken_cells.py"))
broken_cells = util.module_from_spec(spec)
spec.loader.exec_module(broken_cells)


class Faultless(Kernel):
    """The loop under another name: what the faults are put into."""

    name = "faultless"
    cell = broken_cells.Right

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        return None if x.dtype in (torch.float32, torch.float64) else f"the input is {x.dtype}"

    def scan(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        return Loop().scan(cells, x, states, lengths)


class Nameless(Faultless):
    name = None  # type: ignore[assignment]  # what is wrong with it


class ScansNothing(Kernel):
    name = "nothing"
    cell = broken_cells.Right

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        return None


class WrongOutput(Faultless):
    def scan(self, cells, x, states, lengths):
        y, ends = super().scan(cells, x, states, lengths)
        return 1.001 * y, ends


class ZeroGradients(Faultless):
    """What haste shipped: right outputs, no gradient to the input."""

    def scan(self, cells, x, states, lengths):
        return super().scan(cells, x.detach(), states, lengths)


class LeavesPaddingOutputs(Faultless):
    def scan(self, cells, x, states, lengths):
        y, ends = super().scan(cells, x, states, lengths)
        return y + (y == 0).all(-1, keepdim=True) * 0.5, ends


class EndsAfterThePadding(Faultless):
    def scan(self, cells, x, states, lengths):
        y, _ = super().scan(cells, x, states, lengths)
        _, ends = super().scan(cells, torch.nan_to_num(x), states, None)
        return y, ends


class ForgetsEmptyRows(Faultless):
    def scan(self, cells, x, states, lengths):
        y, ends = super().scan(cells, x, states, lengths)
        if lengths is None:
            return y, ends
        return y, [tuple(leaf * (lengths > 0).unsqueeze(1) for leaf in end) for end in ends]


class ReadsPadding(Faultless):
    def scan(self, cells, x, states, lengths):
        if lengths is None:
            return super().scan(cells, x, states, lengths)
        y, ends = super().scan(cells, x, states, lengths)
        return y + 0 * x.sum(-1, keepdim=True), ends


class FlipsThePadding(Faultless):
    """Backward over all steps instead of within each row's length."""

    def scan(self, cells, x, states, lengths):
        forward, end = scan(cells[0], x, states[0], lengths)
        if len(cells) == 1:
            return forward, [end]
        backward, back_end = scan(cells[1], torch.nan_to_num(x).flip(0), states[1], None)
        return torch.cat([forward, backward.flip(0)], dim=-1), [end, back_end]


class SqueezesOneRow(Faultless):
    def scan(self, cells, x, states, lengths):
        y, ends = super().scan(cells, x, states, lengths)
        return y.squeeze(1), ends


class StartsAtZero(Faultless):
    """The state that comes in is overwritten, as state-spaces did."""

    def scan(self, cells, x, states, lengths):
        zero = [tuple(torch.zeros_like(leaf) + 0 * leaf for leaf in state) for state in states]
        return super().scan(cells, x, zero, lengths)


class ForgetsThePadding(Faultless):
    """Without the final state it leaves the lengths out."""

    def outputs(self, cells, x, states, lengths):
        return self.scan(cells, x, states, None)[0]


class NeedsEveryGradient(Faultless):
    def scan(self, cells, x, states, lengths):
        y, ends = super().scan(cells, x, states, lengths)
        if y.requires_grad:
            torch.autograd.grad(y.sum(), list(cells[0].parameters()), retain_graph=True)
        return y, ends


class NeedsContiguous(Faultless):
    def scan(self, cells, x, states, lengths):
        return super().scan(cells, x.view(-1).view(x.shape), states, lengths)


class ChangesItsInput(Faultless):
    def scan(self, cells, x, states, lengths):
        result = super().scan(cells, x.clone(), states, lengths)
        with torch.no_grad():
            x.mul_(2)
        return result


class PacksTheWeightsOnce(Faultless):
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


class OwnsAWeight(Faultless):
    def __init__(self) -> None:
        self.scale = torch.nn.Parameter(torch.ones(()))


class TakesAnything(Faultless):
    """It refuses nothing and fails in low precision."""

    def refuses(self, cells, x, lengths):
        return None

    def scan(self, cells, x, states, lengths):
        if x.dtype == torch.float16:
            raise RuntimeError("not implemented for 'Half'")
        return super().scan(cells, x, states, lengths)


class RefusesWithoutAReason(Faultless):
    def refuses(self, cells, x, lengths):
        return False if x.dtype == torch.float16 else super().refuses(cells, x, lengths)


CAUGHT_BY: dict[type[Kernel], str] = {
    Nameless: "names_its_cell",
    ScansNothing: "names_its_cell",
    WrongOutput: "full_rows",
    ZeroGradients: "full_rows",
    LeavesPaddingOutputs: "ragged_rows",
    EndsAfterThePadding: "ragged_rows",
    ForgetsEmptyRows: "empty_rows",
    ReadsPadding: "nan_in_the_padding",
    FlipsThePadding: "both_directions",
    SqueezesOneRow: "one_step_and_one_row",
    StartsAtZero: "state_carries_over_every_cut",
    ForgetsThePadding: "outputs_without_the_state",
    NeedsEveryGradient: "frozen_parameters",
    NeedsContiguous: "memory_layout",
    ChangesItsInput: "input_is_left_alone",
    PacksTheWeightsOnce: "sees_changed_parameters",
    OwnsAWeight: "parameters_are_the_cells",
    TakesAnything: "refuses_what_it_cannot_do",
    RefusesWithoutAReason: "refuses_what_it_cannot_do",
}
