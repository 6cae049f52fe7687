"""Checks that the calls of a kernel leave no trace."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from seqlab.contracts import Cell, Kernel
from seqlab.recurrence.selection import Loop
from seqlab.testing.comparison import accepts, compared, computed
from seqlab.testing.inputs import RefusedError
from seqlab.testing.kernels.values import KernelMaking
from seqlab.testing.layer import LAYOUTS, Call, Values, everything, forward, starts
from seqlab.testing.process import Trainable, pickled, random_states, seed_all, unchanged, unusual_settings
from seqlab.testing.suite import agree, demand


class CallChecks(KernelMaking):
    """The same call gives the same, whatever came before it, and changes nothing."""

    def test_trains_after_inference(self) -> None:
        """After a first call under ``inference_mode`` it passes backward without an error."""
        kernel = self.make()
        for call in self.calls():
            with torch.inference_mode():
                if not accepts(kernel, call):
                    continue
                computed(kernel, call)
            computed(kernel, call.at("after a call under inference_mode"))

    def test_same_call_twice(self) -> None:
        """The same call gives the same numbers, whatever the state of the random numbers, and leaves that as it was."""
        kernel = self.make()
        for call in self.calls():
            found = []
            for seed in (3, 4):
                seed_all(seed)
                before = torch.get_rng_state()
                found.append((computed(kernel, call), random_states()))
                agree(f"{call.where}: the state of torch's random numbers", torch.get_rng_state(), before, 0.0)
            (first, after), (second, later) = found
            for whose in after:  # that of Python may be drawn from: those who check types at run time do
                demand(after[whose] != later[whose], f"{call.where}: a call sets {whose}'s seed")
            for name, value in second.items():
                agree(f"{call.where}, the same call again: {name}", value, first[name], 1e-6)

    def test_input_is_left_alone(self) -> None:
        """Neither the input, the lengths, the state that comes in nor a parameter is changed, forward or backward."""
        for call in self.calls():
            self._left_alone(call)
            with torch.no_grad():
                self._left_alone(call.at("without gradients"))

    def _left_alone(self, call: Call) -> None:
        weights = [{name: value.clone() for name, value in cell.state_dict().items()} for cell in call.cells]
        lengths = None if call.lengths is None else call.lengths.clone()
        done = forward(self.make(), call)
        results = done.values()
        done.gradients()
        where = f"{call.where}, after a call against before it"
        agree(f"{where}: the input", done.x, call.given()[1], 0.0)
        if lengths is not None and call.lengths is not None:
            agree(f"{where}: the lengths", call.lengths, lengths, 0.0)
        for index, (cell, state, before) in enumerate(
            zip(call.cells, done.states, starts(call.cells, done.x), strict=True)
        ):
            for name, leaf, kept in zip(cell.state_names, state, before, strict=True):
                agree(f"{where}: initial state {name} of cell {index}", leaf, kept, 0.0)
            same = cell.state_dict().keys() == weights[index].keys()
            demand(same, f"{where}: cell {index} has other parameters or buffers")
            for name, value in cell.state_dict().items():
                agree(f"{where}: {name} of cell {index}", value, weights[index][name], 0.0)
        for name, value in done.results.items():
            agree(f"{call.where}, after the pass backward against before it: {name}", value, results[name], 0.0)

    def test_settings_are_left_alone(self) -> None:
        """Neither torch's settings, the cells' mode, nor ``requires_grad`` and ``.grad`` of a parameter are changed."""
        for call in self.calls():
            with unusual_settings() as before:
                self._settings_left_alone(call, before)

    def _settings_left_alone(self, call: Call, before: dict[str, Any]) -> None:
        kernel = self.make()
        unchanged("the constructor", before)
        x, states, kept = call.given()[1], starts(call.cells, call.x), Trainable(call.cells)
        for grad in (True, False) if call.differentiable else (False,):
            where = f"{call.where}: a call {'with' if grad else 'without'} gradients"
            with torch.set_grad_enabled(grad):
                if kernel.refuses(call.cells, x, call.lengths):
                    continue
                y, ends = kernel.scan(call.cells, x, states, call.lengths)
                if grad and y.requires_grad:
                    wanted = [p for cell in call.cells for p in cell.parameters() if p.requires_grad]
                    torch.autograd.grad(y.sum(), wanted, allow_unused=True)
            unchanged(where, before)
            kept.unchanged(where)
            follows = y.requires_grad or any(leaf.requires_grad for end in ends for leaf in end)
            demand(grad or not follows, f"{where} gives results with a gradient to follow")

    def test_no_memory_between_calls(self) -> None:
        """A call does not change what the next one gives, of this cell, another one, other sizes or another dtype."""
        kernel = self.make()
        for call in self.calls():
            first = computed(kernel, call)
            right = _right(first, call)
            others = {
                "another input": replace(call, x=2 * call.x.flip(0)),
                "fewer steps": _shorter(call),
                "fewer rows": replace(
                    call, x=call.x[:, :2], lengths=None if call.lengths is None else call.lengths[:2]
                ),
                "other weights": replace(call, cells=_other_weights(call.cells)),
            }
            with suppress(RefusedError):
                wide = {"hidden_size": 12} if "hidden_size" not in self.options else {}
                rows = None if call.lengths is None else [9, 0, 2, 4, 9]
                larger = self.call(call.where, rows, time=9, batch=5, directions=len(call.cells), input_size=8, **wide)
                others["a larger layer"] = larger.in_dtype(call.x.dtype)
            for what, other in others.items():
                if accepts(kernel, other):
                    _compare(kernel, other.at(f"after another call, now {what}"), right)
            for name, value in computed(kernel, call).items():
                agree(f"{call.where}, the same call after others: {name}", value, first[name], 1e-6)

    def test_sees_changed_parameters(self) -> None:
        """Parameters that were changed since the last call, in whatever way, are seen, with gradients or without."""
        for call in self.calls():
            self._sees_changes(call)
            with torch.no_grad():
                self._sees_changes(call.at("without gradients"))
            self._moves(call)

    def _sees_changes(self, call: Call) -> None:
        kernel = self.make()
        if accepts(kernel, call):
            for what, change in _CHANGES.items():
                own = call.in_dtype(call.x.dtype)
                right = _right(computed(kernel, own), own)
                for cell in own.cells:
                    change(cell)
                after = own.at(f"after parameters were {what}")
                if accepts(kernel, after):
                    _compare(kernel, after, right)

    def _moves(self, call: Call) -> None:
        """Use one cell in another dtype after a first call."""
        kernel, own = self.make(), call.in_dtype(call.x.dtype)
        other = torch.float32 if call.x.dtype == torch.float64 else torch.float64
        right = _right(computed(kernel, own), own)
        moved = replace(own, x=own.x.to(other), where=f"{call.where}, then the same cells as {other}")
        for cell in own.cells:
            cell.double() if other == torch.float64 else cell.float()
        if accepts(kernel, moved):
            _compare(kernel, moved, right)

    def test_computed_weights(self) -> None:
        """Weights that are computed from others, as with ``weight_drop``, are the computed ones, or refused."""
        kernel = self.make()
        for call in self.calls():
            right = _right(computed(kernel, call), call)
            cells = copy.deepcopy(list(call.cells))
            modules = [module for cell in cells for module in list(cell.modules())[1:]]
            for module in modules:
                for name, parameter in list(module.named_parameters(recurse=False)):
                    if (
                        parameter.dim() == 2
                        and parameter.is_floating_point()
                        and not parametrize.is_parametrized(module)
                    ):
                        parametrize.register_parametrization(module, name, _Halved())
            one = replace(call, cells=cells).at("weights that are computed")
            if accepts(kernel, one):
                _compare(kernel, one, right)

    def test_copies_and_pickles(self) -> None:
        """A copy and a pickled kernel, used or not, scan as the kernel does; so do a copied and a pickled cell."""
        kernel = self.make()
        for call in self.calls():
            first = computed(kernel, call)
            twins = {"a deep copy of the kernel": copy.deepcopy(kernel), "the kernel after pickling": pickled(kernel)}
            for what, twin in twins.items():
                for name, value in computed(twin, call.at(what)).items():
                    agree(f"{call.where}, {what}: {name}", value, first[name], 1e-6)
            for name, value in computed(kernel, replace(call, cells=copy.deepcopy(list(call.cells)))).items():
                agree(f"{call.where}, a deep copy of the cells: {name}", value, first[name], 1e-6)

    def test_memory_layout(self) -> None:
        """Inputs, states, lengths and weights that are not contiguous give the same as those that are."""
        kernel = self.make()
        for call in self.calls():
            right = _right(computed(kernel, call), call)
            for one in _layouts(call):
                if accepts(kernel, one):
                    _compare(kernel, one, right)


class _Halved(nn.Module):
    """Computes a weight from the one that is learned."""

    def forward(self, weight: Tensor) -> Tensor:
        """Halve it."""
        return 0.5 * weight


def _right(values: Values, call: Call) -> frozenset[str]:
    """Name the results of a first call that are the loop's; the others are wrong for a reason of their own."""
    expected, right = everything(Loop(), call.in_dtype(torch.float64)), set[str]()
    for name, value in values.items():
        with suppress(AssertionError, KeyError):
            compared({name: value}, {name: expected[name]}, call)
            right.add(name)
    return frozenset(right)


def _compare(kernel: Kernel, call: Call, right: frozenset[str]) -> None:
    """Hold a later call against the loop, in those results that were right at first."""
    both = computed(kernel, call), everything(Loop(), call.in_dtype(torch.float64))
    got, expected = ({name: value for name, value in one.items() if name in right} for one in both)
    compared(got, expected, call)


def _shorter(call: Call) -> Call:
    return replace(call, x=call.x[:3], lengths=None if call.lengths is None else call.lengths.clamp(max=3))


def _other_weights(cells: Sequence[Cell]) -> list[Cell]:
    twins = copy.deepcopy(list(cells))
    for twin in twins:
        _scaled(twin)
    return twins


def _real(cell: Cell) -> Iterator[nn.Parameter]:
    return (parameter for parameter in cell.parameters() if parameter.is_floating_point())


def _scaled(cell: Cell) -> None:
    with torch.no_grad():
        for parameter in _real(cell):
            parameter.mul_(0.5)


def _by_data(cell: Cell) -> None:
    for parameter in _real(cell):
        parameter.data = 0.6 * parameter.data


def _silently(cell: Cell) -> None:
    for parameter in _real(cell):
        parameter.data.mul_(0.7)


def _loaded(cell: Cell) -> None:
    state = {name: 0.8 * value if value.is_floating_point() else value for name, value in cell.state_dict().items()}
    cell.load_state_dict(state)


def _replaced(cell: Cell) -> None:
    for module in cell.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and parameter.is_floating_point():
                setattr(module, name, nn.Parameter(0.9 * parameter.detach()))


_CHANGES: dict[str, Callable[[Cell], None]] = {
    "changed in place": _scaled,
    "given other data": _by_data,
    "changed through .data": _silently,
    "loaded": _loaded,
    "replaced": _replaced,
}


def _layouts(call: Call) -> Iterator[Call]:
    for what, layout in LAYOUTS.items():
        plain = replace(call, poison=call.poison and "expanded" not in what)
        yield replace(plain, layout=layout).at(f"an input that is {what}")
        yield replace(plain, state_layout=layout).at(f"initial states that are {what}")
    if call.lengths is not None:
        strided = torch.stack([call.lengths, call.lengths], dim=1)[:, 0]
        yield replace(call, lengths=strided).at("lengths that are strided")
        yield replace(call, lengths=call.lengths.int()).at("lengths in int32")
    twins = copy.deepcopy(list(call.cells))
    for twin in twins:
        for parameter in _real(twin):
            if parameter.dim() == 2:
                parameter.data = parameter.data.t().contiguous().t()
    yield replace(call, cells=twins).at("weights that are transposed")
