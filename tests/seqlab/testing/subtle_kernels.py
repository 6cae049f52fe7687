"""Kernels that are right in the small case, in training, once; and the check that must catch each."""

import copy
import random
from typing import Any, Literal

import torch
from torch import Tensor

from seqlab.contracts.masks import valid_mask, zero_padding
from seqlab.recurrence import scan
from seqlab.recurrence.selection import Loop

from .broken_cells import Right
from .broken_kernels import Faultless


class Switched(Right):
    """Its step depends on its options."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 5,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        skip: bool = False,
        leak: float = 0.0,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.nonlinearity, self.skip, self.leak = nonlinearity, skip, leak

    def step(self, x, state):
        total = x + self.from_state(state[0]) + (x if self.skip else 0)
        h = torch.tanh(total) if self.nonlinearity == "tanh" else torch.relu(total)
        h = h + self.leak * state[0]
        return h, (h,)


def twin_with(cell, **changed):
    twin = copy.copy(cell)
    twin.__dict__ = {**cell.__dict__, **changed}
    return twin


class IgnoresTheNonlinearity(Faultless, caught_by="every_option"):
    cell = Switched

    def scan(self, cells, x, states, lengths):
        return super().scan([twin_with(cell, nonlinearity="tanh") for cell in cells], x, states, lengths)


class IgnoresAFlag(Faultless, caught_by="every_option"):
    cell = Switched

    def scan(self, cells, x, states, lengths):
        return super().scan([twin_with(cell, skip=False) for cell in cells], x, states, lengths)


class IgnoresANumber(Faultless, caught_by="every_option"):
    cell = Switched

    def scan(self, cells, x, states, lengths):
        return super().scan([twin_with(cell, leak=0.0) for cell in cells], x, states, lengths)


class WrongWithItsOwnOption(Faultless, caught_by="every_option"):
    def __init__(self, save: Literal["all", "none"] = "all") -> None:
        self.save = save

    def scan(self, cells, x, states, lengths):
        return super().scan(cells, x.detach() if self.save == "none" else x, states, lengths)


class TileBorder(Faultless, caught_by="sizes"):
    """The last tile of 32 units is cut off."""

    def after(self, cells, x, lengths, y, ends):
        if cells[0].hidden_size > 32 and cells[0].hidden_size % 32:
            y = torch.cat([y[..., :-1], 0.5 * y[..., -1:]], dim=-1)
        return y, ends


class InputTile(Faultless, caught_by="sizes"):
    """Input features beyond a multiple of 16 are added in twice."""

    def scan(self, cells, x, states, lengths):
        if x.shape[-1] > 16 and x.shape[-1] % 16:
            x = torch.cat([x[..., :-1], 2 * x[..., -1:]], dim=-1)
        return super().scan(cells, x, states, lengths)


def frozen_twin(cell):
    """The cell with the same weights, of which no gradient comes."""
    twin = copy.deepcopy(cell)
    return twin.requires_grad_(False)


class SumsTheLast64Steps(Faultless, caught_by="sizes"):
    """The gradient of the weights is summed over one block of 64 steps."""

    def scan(self, cells, x, states, lengths):
        if len(x) <= 64 or lengths is not None or len(cells) > 1:
            return super().scan(cells, x, states, lengths)
        first, middle = super().scan([frozen_twin(cells[0])], x[:-64], states, None)
        second, end = super().scan(cells, x[-64:], middle, None)
        return torch.cat([first, second]), end


class LongSingleRow(Faultless, caught_by="sizes"):
    """A single long row is cut into pieces, and the state is lost between them."""

    def scan(self, cells, x, states, lengths):
        if x.shape[1] > 1 or len(x) <= 256 or len(cells) > 1:
            return super().scan(cells, x, states, lengths)
        first, _ = super().scan(cells, x[:256], states, None)
        second, end = super().scan(cells, x[256:], states, None)
        return torch.cat([first, second]), end


class ManyRowsInParts(Faultless, caught_by="sizes"):
    """Beyond 128 rows the parts are put together, and the states are those of the first part."""

    def scan(self, cells, x, states, lengths):
        if x.shape[1] <= 128 or lengths is not None or len(cells) > 1:
            return super().scan(cells, x, states, lengths)
        rest = [tuple(leaf[: x.shape[1] - 128] for leaf in state) for state in states]
        first, ends = super().scan(cells, x[:, :128], [tuple(leaf[:128] for leaf in s) for s in states], None)
        second, more = super().scan(cells, x[:, 128:], rest, None)
        joined = [tuple(torch.cat(leaf) for leaf in zip(*both, strict=True)) for both in zip(ends, more, strict=True)]
        return torch.cat([first, second], 1), joined


class NeedsTheInputsGradient(Faultless, caught_by="frozen_parameters"):
    """Without a gradient for x it gives none at all."""

    def scan(self, cells, x, states, lengths):
        if not x.requires_grad:
            cells = [frozen_twin(cell) for cell in cells]
        return super().scan(cells, x, states, lengths)


class OneFrozenFreezesAll(Faultless, caught_by="frozen_parameters"):
    def scan(self, cells, x, states, lengths):
        if not all(parameter.requires_grad for parameter in cells[0].parameters()):
            cells = [frozen_twin(cell) for cell in cells]
        return super().scan(cells, x, states, lengths)


class Evaluates(Faultless, caught_by="without_gradients"):
    """Without gradients it takes a shorter way, which leaves the lengths out in both directions."""

    def scan(self, cells, x, states, lengths):
        if torch.is_grad_enabled() or len(cells) == 1 or lengths is None:
            return super().scan(cells, x, states, lengths)
        x = zero_padding(x, lengths)
        y, end = scan(cells[0], x, states[0], lengths)
        back, back_end = scan(cells[1], x.flip(0), states[1], None)
        dead = ~valid_mask(lengths, len(x)).unsqueeze(-1)
        return torch.cat([y, back.flip(0).masked_fill(dead, 0)], -1), [end, back_end]


class InferenceOnly(Faultless, caught_by="without_gradients"):
    """In inference mode empty rows end in zero."""

    def after(self, cells, x, lengths, y, ends):
        if torch.is_inference_mode_enabled() and lengths is not None:
            ends = [tuple(leaf * (lengths > 0).unsqueeze(1) for leaf in end) for end in ends]
        return y, ends


class EmptyRowsBackward(Faultless, caught_by="ragged_rows"):
    """The backward cell's state of a row of length 0 is zero."""

    def after(self, cells, x, lengths, y, ends):
        if lengths is not None and len(cells) == 2:
            ends = [ends[0], tuple(leaf * (lengths > 0).unsqueeze(1) for leaf in ends[1])]
        return y, ends


class EvaluationMode(Faultless, caught_by="parts_of_the_loss"):
    """A cell in evaluation gives no gradient."""

    def scan(self, cells, x, states, lengths):
        if not cells[0].training:
            cells = [frozen_twin(cell) for cell in cells]
        return super().scan(cells, x, states, lengths)


class NaiveTanh(Faultless, caught_by="large_and_small_numbers"):
    """tanh as a quotient of exponentials."""

    def scan(self, cells, x, states, lengths):
        if lengths is not None or len(cells) > 1:
            return super().scan(cells, x, states, lengths)
        (h,), outputs = states[0], []
        for p in cells[0].project(x):
            grown = torch.exp(2 * (p + cells[0].from_state(h)))
            h = (grown - 1) / (grown + 1)
            outputs.append(h)
        y = torch.stack(outputs) if outputs else x.new_zeros(0, x.shape[1], cells[0].hidden_size)
        return y, [(h,)]


class ReadsMemoryDirectly(Faultless, caught_by="memory_layout"):
    def scan(self, cells, x, states, lengths):
        if not x.is_contiguous() and x.untyped_storage().nbytes() >= x.nbytes:
            _, batch, size = x.shape
            x = x.as_strided(x.shape, (batch * size, size, 1))
        return super().scan(cells, x, states, lengths)


class ReadsStatesDirectly(Faultless, caught_by="memory_layout"):
    """A state that is expanded is taken for one row."""

    def scan(self, cells, x, states, lengths):
        states = [
            tuple(
                torch.zeros_like(leaf) if leaf.dim() > 1 and leaf.stride(0) == 0 and len(leaf) > 1 else leaf
                for leaf in state
            )
            for state in states
        ]
        return super().scan(cells, x, states, lengths)


class SortsTheLengths(Faultless, caught_by="input_is_left_alone"):
    def scan(self, cells, x, states, lengths):
        result = super().scan(cells, x, states, None if lengths is None else lengths.clone())
        if lengths is not None:
            lengths.copy_(lengths.sort(descending=True).values)
        return result


class HoldsALambda(Faultless, caught_by="copies_and_pickles"):
    def __init__(self) -> None:
        self.activation = lambda z: z.tanh()


class Reseeds(Faultless, caught_by="same_call_twice"):
    def scan(self, cells, x, states, lengths):
        torch.manual_seed(0)
        return super().scan(cells, x, states, lengths)


class SlightlyRandom(Faultless, caught_by="same_call_twice"):
    def after(self, cells, x, lengths, y, ends):
        return y + 1e-4 * y * torch.rand((), dtype=y.dtype), ends


class CachesByVersion(Faultless, caught_by="sees_changed_parameters"):
    """Packs the weights again only where their version counter has moved."""

    def __init__(self) -> None:
        self.packed: dict[int, Any] = {}

    def scan(self, cells, x, states, lengths):
        twins = []
        for cell in cells:
            key = tuple((p.data_ptr(), p._version, p.dtype) for p in cell.parameters())
            kept, values = self.packed.get(id(cell), (None, None))
            if kept != key:
                values = [p.detach().clone() for p in cell.parameters()]
                self.packed[id(cell)] = key, values
            twins.append((cell, values))
        return super().scan([stale(cell, values) for cell, values in twins], x, states, lengths)


def stale(cell, values):
    """Give a cell whose numbers are old ones, and whose gradients go to the parameters all the same."""
    twin = copy.deepcopy(cell)
    names = [name for name, _ in cell.named_parameters()]
    for name, parameter, old in zip(names, cell.parameters(), values, strict=True):
        module = twin.get_submodule(name.rpartition(".")[0])
        leaf = name.rpartition(".")[2]
        del module._parameters[leaf]
        setattr(module, leaf, parameter + (old - parameter).detach())
    return twin


class ReadsTheLearnedWeights(Faultless, caught_by="computed_weights"):
    """What weights are computed from is taken for them."""

    def scan(self, cells, x, states, lengths):
        twins = [copy.deepcopy(cell) for cell in cells]
        for twin, cell in zip(twins, cells, strict=True):
            twin.__dict__, twin.training = {**cell.__dict__, "_modules": dict(cell._modules)}, cell.training
            for name, module in cell._modules.items():
                if hasattr(module, "parametrizations"):
                    learned = module.parametrizations.weight.original
                    twin._modules[name] = Weighed(learned, module.bias)
        return super().scan(twins, x, states, lengths)


class Weighed(torch.nn.Module):
    def __init__(self, weight, bias):
        super().__init__()
        self.given = (weight, bias)

    def forward(self, x):
        return torch.nn.functional.linear(x, *self.given)


class FirstSizeOnly(Faultless, caught_by="no_memory_between_calls"):
    """Its workspace has the size of the first layer that it met."""

    def __init__(self) -> None:
        self.size: int | None = None

    def scan(self, cells, x, states, lengths):
        self.size = self.size or cells[0].hidden_size
        y, ends = super().scan(cells, x, states, lengths)
        return y if cells[0].hidden_size == self.size else 0.99 * y, ends


class SlowAnswer(Faultless, caught_by="estimates"):
    def speed(self, cells, x, lengths):
        return float("nan")


class LowersTheState(Faultless, caught_by="autocast"):
    def after(self, cells, x, lengths, y, ends):
        if torch.is_autocast_enabled("cpu"):
            ends = [tuple(leaf.bfloat16() for leaf in end) for end in ends]
        return y, ends


class CrashesOnNothing(Faultless, caught_by="no_steps_and_no_rows"):
    def scan(self, cells, x, states, lengths):
        x[0, 0]
        return super().scan(cells, x, states, lengths)


class OtherGradientsWithoutTheState(Faultless, caught_by="parts_of_the_loss"):
    def outputs(self, cells, x, states, lengths):
        return super().outputs(cells, x.detach() + 0 * x if lengths is not None else x, states, lengths)


class LastOfAnEmptyRowIsItsState(Faultless, caught_by="ragged_rows"):
    def last(self, cells, x, states, lengths, final_state):
        y, ends = super().last(cells, x, states, lengths, True)
        if lengths is not None and len(cells) == 1:
            y = torch.where((lengths == 0).unsqueeze(1), states[0][0], y)
        return y, ends


class ForgetsTheStateOfShortRows(Faultless, caught_by="state_carries_over_every_cut"):
    """A row that ended before this piece begins again from zero."""

    def scan(self, cells, x, states, lengths):
        y, ends = Loop().scan(cells, x, states, lengths)
        if lengths is not None and len(cells) == 1 and len(x) < 7 and bool((lengths == 0).any()):
            ends = [tuple(leaf * (lengths > 0).unsqueeze(1) for leaf in end) for end in ends]
        return y, ends


class RemembersTheSize(Faultless, caught_by="no_memory_between_calls"):
    """A workspace as large as the largest call so far, of which too much is read."""

    def __init__(self) -> None:
        self.longest = 0

    def after(self, cells, x, lengths, y, ends):
        self.longest = max(self.longest, len(x))
        return y if len(x) == self.longest else y * 1.001, ends


# What else a call may change, and what only shows without gradients ---------------------------------------------------


class IgnoresTheNonlinearityWithoutGradients(Faultless, caught_by="every_option"):
    cell = Switched

    def scan(self, cells, x, states, lengths):
        if not torch.is_grad_enabled():
            cells = [twin_with(cell, nonlinearity="tanh") for cell in cells]
        return super().scan(cells, x, states, lengths)


class KeepsWeightsWithoutGradients(Faultless, caught_by="sees_changed_parameters"):
    """By identity and version, which a change through ``.data`` leaves as they were."""

    def scan(self, cells, x, states, lengths):
        if torch.is_grad_enabled():
            return super().scan(cells, x, states, lengths)
        kept = []
        for cell in cells:
            key = [(id(parameter), parameter._version) for parameter in cell.parameters()]
            if getattr(cell, "kept_key", None) != key:
                cell.kept_key, cell.kept = key, [copy.deepcopy(cell)]
            kept.append(cell.kept[0])
        return super().scan(kept, x, states, lengths)


class LeavesTheCellInEvaluation(Faultless, caught_by="settings_are_left_alone"):
    def scan(self, cells, x, states, lengths):
        for cell in cells:
            cell.eval()
        return super().scan(cells, x, states, lengths)


class FlushesDenormals(Faultless, caught_by="settings_are_left_alone"):
    def scan(self, cells, x, states, lengths):
        torch.set_flush_denormal(True)
        return super().scan(cells, x, states, lengths)


class SeedsPython(Faultless, caught_by="same_call_twice"):
    def scan(self, cells, x, states, lengths):
        random.seed(0)
        return super().scan(cells, x, states, lengths)


class KeepsATensorOfInference(Faultless, caught_by="trains_after_inference"):
    def __init__(self) -> None:
        self.kept: list[dict[torch.dtype, Tensor]] = [{}]

    def scan(self, cells, x, states, lengths):
        one = self.kept[0].setdefault(x.dtype, torch.ones(1, dtype=x.dtype))
        return super().scan(cells, x * one, states, lengths)


class WrongAt128Units(Faultless, caught_by="sizes"):
    def after(self, cells, x, lengths, y, ends):
        return (1.001 * y if cells[0].hidden_size == 128 else y), ends


class WrongAt128Rows(Faultless, caught_by="sizes"):
    def after(self, cells, x, lengths, y, ends):
        return (1.001 * y if x.shape[1] == 128 else y), ends
