"""Checks that the calls of a kernel have no side effects, and of its gradients in every way that training asks for."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from seqlab.contracts import Cell, Kernel
from seqlab.recurrence.selection import Loop
from seqlab.testing.comparison import TOLERANCES, accepts, compare, run_kernel, short
from seqlab.testing.kernels.values import RAGGED, KernelBase
from seqlab.testing.layer import (
    LAYOUTS,
    Call,
    Forward,
    RefusedError,
    Values,
    all_results,
    forward,
    loop_results,
    named_gradients,
    reached_states,
)
from seqlab.testing.process import ParameterFlags, pickled, random_states, require_unchanged, seed_all, unusual_settings
from seqlab.testing.suite import assert_all_close, assert_close, require


class CallChecks(KernelBase):
    """The same call gives the same, whatever came before it, and changes nothing."""

    def test_trains_after_inference(self) -> None:
        """After a first call under ``inference_mode`` it passes backward without an error."""
        kernel = self.make()
        for call in self.calls():
            with torch.inference_mode():
                if not accepts(kernel, call):
                    continue
                run_kernel(kernel, call)
            run_kernel(kernel, call.at("after a call under inference_mode"))

    def test_same_call_twice(self) -> None:
        """The same call gives the same numbers, whatever the seeds, and leaves the random numbers as they were."""
        kernel = self.make()
        for call in self.calls():
            found = []
            for seed in (3, 4):
                seed_all(seed)
                before = torch.get_rng_state()
                found.append((run_kernel(kernel, call), random_states()))
                what = f"{call.where}: the state of torch's random numbers"
                assert_close(what, torch.get_rng_state(), before, 0.0)
            (first, after), (second, later) = found
            for library in after:  # a run-time type checker may draw from Python's
                require(after[library] != later[library], f"{call.where}: a call sets {library}'s seed")
            assert_all_close(f"{call.where}, the same call again", second, first, 1e-6)

    def test_input_is_left_alone(self) -> None:
        """Neither the input, the lengths, the initial state nor a parameter is changed, forward or backward."""
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
        where = f"{call.where}, after a call"
        assert_close(f"{where}: the input", done.x, call.given()[1], 0.0)
        if lengths is not None and call.lengths is not None:
            assert_close(f"{where}: the lengths", call.lengths, lengths, 0.0)
        starts = reached_states(call.cells, done.x)
        for index, (cell, state, before) in enumerate(zip(call.cells, done.states, starts, strict=True)):
            for name, h, kept in zip(cell.state_names, state, before, strict=True):
                assert_close(f"{where}: initial state {name} of cell {index}", h, kept, 0.0)
            same = cell.state_dict().keys() == weights[index].keys()
            require(same, f"{where}: cell {index} has other parameters or buffers")
            assert_all_close(f"{where}: cell {index}", cell.state_dict(), weights[index], 0.0)
        assert_all_close(f"{call.where}, after the backward pass", done.results, results, 0.0)

    def test_settings_are_left_alone(self) -> None:
        """Neither torch's settings, the cells' mode, nor ``requires_grad`` and ``.grad`` of a parameter are changed."""
        for call in self.calls():
            with unusual_settings() as before:
                kernel = self.make()
                require_unchanged("the constructor", before)
                x, states, flags = call.given()[1], reached_states(call.cells, call.x), ParameterFlags(call.cells)
                for grad in (True, False) if call.differentiable else (False,):
                    where = f"{call.where}: a call {'with' if grad else 'without'} gradients"
                    with torch.set_grad_enabled(grad):
                        if kernel.refuses(call.cells, x, call.lengths):
                            continue
                        y, ends = kernel.scan(call.cells, x, states, call.lengths)
                        if grad and y.requires_grad:
                            wanted = [p for cell in call.cells for p in cell.parameters() if p.requires_grad]
                            torch.autograd.grad(y.sum(), wanted, allow_unused=True)
                    require_unchanged(where, before)
                    flags.require_unchanged(where)
                    follows = y.requires_grad or any(h.requires_grad for end in ends for h in end)
                    require(grad or not follows, f"{where} records a graph")

    def test_no_memory_between_calls(self) -> None:
        """A call does not change what the next one gives, of this cell, another one, other sizes or another dtype."""
        kernel = self.make()
        for call in self.calls():
            first = run_kernel(kernel, call)
            right = _right(first, call)
            few = cut = lengths = call.lengths
            if lengths is not None:
                few, cut = lengths[:2], lengths.clamp(max=3)
            twin = call.in_dtype(call.x.dtype)
            for cell in twin.cells:
                _change(cell, "changed in place")
            others = {
                "another input": replace(call, x=2 * call.x.flip(0)),
                "fewer steps": replace(call, x=call.x[:3], lengths=cut),
                "fewer rows": replace(call, x=call.x[:, :2], lengths=few),
                "other weights": twin,
            }
            with suppress(RefusedError):
                wide = {"hidden_size": 12} if "hidden_size" not in self.options else {}
                rows = None if call.lengths is None else [9, 0, 2, 4, 9]
                larger = self.call(call.where, rows, time=9, batch=5, directions=len(call.cells), input_size=8, **wide)
                others["a larger layer"] = larger.in_dtype(call.x.dtype)
            for what, other in others.items():
                _compare(kernel, other.at(f"after another call, now {what}"), right)
            assert_all_close(f"{call.where}, the same call after others", run_kernel(kernel, call), first, 1e-6)

    def test_sees_changed_parameters(self) -> None:
        """Parameters that were changed since the last call, in whatever way, are used, with gradients or without."""
        for call in self.calls():
            self._sees_changes(call)
            with torch.no_grad():
                self._sees_changes(call.at("without gradients"))
            kernel, own = self.make(), call.in_dtype(call.x.dtype)
            right = _right(run_kernel(kernel, own), own)
            other = torch.float32 if call.x.dtype == torch.float64 else torch.float64
            for cell in own.cells:
                cell.double() if other == torch.float64 else cell.float()
            _compare(kernel, replace(own, x=own.x.to(other)).at(f"then the same cells as {other}"), right)

    def _sees_changes(self, call: Call) -> None:
        kernel = self.make()
        for what in _CHANGES if accepts(kernel, call) else ():
            own = call.in_dtype(call.x.dtype)
            right = _right(run_kernel(kernel, own), own)
            for cell in own.cells:
                _change(cell, what)
            _compare(kernel, own.at(f"after parameters were {what}"), right)

    def test_computed_weights(self) -> None:
        """Weights that are computed from others, as with ``weight_drop``, are the computed ones, or refused."""
        kernel = self.make()
        for call in self.calls():
            right = _right(run_kernel(kernel, call), call)
            cells = copy.deepcopy(list(call.cells))
            for module in [module for cell in cells for module in list(cell.modules())[1:]]:
                for name, weight in list(module.named_parameters(recurse=False)):
                    if weight.dim() == 2 and weight.is_floating_point() and not parametrize.is_parametrized(module):
                        parametrize.register_parametrization(module, name, _Halved())
            _compare(kernel, replace(call, cells=cells).at("weights that are computed"), right)

    def test_copies_and_pickles(self) -> None:
        """A copy and a pickled kernel, used or not, scan as the kernel does; so does a copied cell."""
        kernel = self.make()
        for call in self.calls():
            first = run_kernel(kernel, call)
            for what, twin, cells in (
                ("a deep copy of the kernel", copy.deepcopy(kernel), call.cells),
                ("the kernel after pickling", pickled(kernel), call.cells),
                ("a deep copy of the cells", kernel, copy.deepcopy(list(call.cells))),
            ):
                one = replace(call, cells=cells).at(what)
                assert_all_close(one.where, run_kernel(twin, one), first, 1e-6)

    def test_memory_layout(self) -> None:
        """Inputs, states, lengths and weights that are not contiguous give the same as those that are."""
        kernel = self.make()
        for call in self.calls():
            right = _right(run_kernel(kernel, call), call)
            for one in _layouts(call):
                _compare(kernel, one, right)


class _Halved(nn.Module):
    """Computes a weight from the one that is learned."""

    def forward(self, weight: Tensor) -> Tensor:
        return 0.5 * weight


def _right(results: Values, call: Call) -> frozenset[str]:
    """Return which results of a first call are the loop's; the others are wrong for a reason of their own."""
    expected, right = loop_results(call), set[str]()
    for name, value in results.items():
        with suppress(AssertionError, KeyError):
            compare({name: value}, {name: expected[name]}, call)
            right.add(name)
    return frozenset(right)


def _compare(kernel: Kernel, call: Call, right: frozenset[str]) -> None:
    """Compare a later call with the loop, unless it is refused, in those results that were right at first."""
    if accepts(kernel, call):
        both = run_kernel(kernel, call), loop_results(call)
        got, expected = ({name: value for name, value in one.items() if name in right} for one in both)
        compare(got, expected, call)


_CHANGES = ("changed in place", "given other data", "changed through .data", "loaded", "replaced")


def _change(cell: Cell, how: str) -> None:
    """Halve the parameters."""
    for module in cell.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            half = 0.5 * parameter.detach()
            if how == "replaced" and parameter.is_floating_point():
                setattr(module, name, nn.Parameter(half))
            elif how == "loaded":
                module.load_state_dict({**module.state_dict(), name: half})
            elif how == "changed through .data":
                parameter.data.copy_(half)
            elif how == "given other data":
                parameter.data = half
            elif how == "changed in place":
                with torch.no_grad():
                    parameter.copy_(half)


def _layouts(call: Call) -> Iterator[Call]:
    for what, layout in LAYOUTS.items():
        plain = replace(call, nan_padding=call.nan_padding and "expanded" not in what)
        yield replace(plain, layout=layout).at(f"an input that is {what}")
        yield replace(plain, state_layout=layout).at(f"initial states that are {what}")
    if call.lengths is not None:
        strided = torch.stack([call.lengths, call.lengths], dim=1)[:, 0]
        yield replace(call, lengths=strided).at("lengths that are strided")
        yield replace(call, lengths=call.lengths.int()).at("lengths in int32")
    twin = call.in_dtype(call.x.dtype)
    for parameter in (parameter for cell in twin.cells for parameter in cell.parameters()):
        if parameter.dim() == 2 and parameter.is_floating_point():
            parameter.data = parameter.data.t().contiguous().t()
    yield twin.at("weights that are transposed")


_ROWS: dict[str, tuple[list[int] | None, int]] = {
    "full rows": (None, 1),
    "ragged rows": (RAGGED, 1),
    "full rows, both directions": (None, 2),
    "ragged rows, both directions": (RAGGED, 2),
    "one row, both directions": ([4], 2),
}


class GradientChecks(KernelBase):
    """The loop's gradients, whichever are wanted."""

    def test_frozen_parameters(self) -> None:
        """Each tensor alone without a gradient, and each alone with one: the others' gradients stay right."""
        for call in self.calls(gradients=True):
            expected = loop_results(call)
            for what, chosen in _selections(call):
                one = replace(call, sources=chosen).at(what)
                if accepts(self.make(), one):
                    compare(run_kernel(self.make(), one), expected, one)

    def test_parts_of_the_loss(self) -> None:
        """A loss of the outputs or of one final state alone, without final states, in both modes: the loop's gradients.

        With ``Kernel.outputs``, where the final state is not wanted, the outputs are the same; ``Kernel.last`` returns
        the last ones.
        """
        for call in self.calls(gradients=True):
            results = forward(Loop(), call).results
            for name in [name for name, value in results.items() if value.is_floating_point()]:
                self._same(replace(call, results=frozenset({name})).at(f"a loss of {name} alone"))
            self._same(replace(call, final_state=False).at("without the final state"))
            if len(call.x):
                last = replace(call, last=True).at("the last outputs")
                self._same(last)
                self._same(replace(last, final_state=False).at("without the final state"))
        for call in self.calls(gradients=True, train=False):
            self._same(call.at("evaluation"))

    def _same(self, call: Call) -> Values:
        """Compare the kernel with the loop; return its results."""
        actual = run_kernel(self.make(), call)
        compare(actual, loop_results(call), call)
        return actual

    def test_without_gradients(self) -> None:
        """Under ``no_grad`` and ``inference_mode``, in training and in evaluation: the loop's outputs and states."""
        kernel = self.make()
        for train in (True, False):
            for where, (rows, directions) in _ROWS.items():
                plain = self.call(where, rows, directions=directions, train=train)
                for context in (torch.no_grad, torch.inference_mode):
                    for dtype in TOLERANCES:
                        mode = "training" if train else "evaluation"
                        call = plain.in_dtype(dtype).at(context.__name__, mode, short(dtype))
                        with context():
                            if accepts(kernel, call):
                                alone = replace(call, final_state=False).at("without the state")
                                compare(run_kernel(kernel, alone), self._same(call), alone, 0.1)

    def test_one_graph_twice(self) -> None:
        """Two backward passes through one graph give the same, and ``.grad`` adds them up."""
        for call in self.calls(gradients=True):
            expected = loop_results(call)
            done = forward(self.make(), call)
            loss = done.loss
            if not loss.requires_grad:
                continue
            for turn in ("first", "second"):
                one = call.at(f"the {turn} backward pass through one graph")
                compare(done.values() | done.gradients(loss), expected, one)
            for _ in range(2):
                torch.autograd.backward(loss, retain_graph=True, inputs=list(done.sources.values()))
            added = named_gradients(done.sources, [source.grad for source in done.sources.values()])
            twice = {name: 2 * value if name in added else value for name, value in expected.items()}
            compare(done.values() | added, twice, call.at(".grad after two backward passes"))

    def test_calls_that_share_parameters(self) -> None:
        """Gradients of two calls, and of one cell in both directions, add up, in either order."""
        kernel = self.make()
        for call in self.calls(gradients=True):
            lengths = None if call.lengths is None else call.lengths.clamp(max=5)
            other = replace(call, x=0.7 * call.x.flip(0)[:5], lengths=lengths)
            expected = _summed(forward(Loop(), one.in_dtype(torch.float64)) for one in (call, other))
            for order in (slice(None), slice(None, None, -1)):
                done = [forward(kernel, one) for one in (call, other)]
                for name, value in _summed(done[order]).items():
                    what = f"{call.where}, two calls before the first backward pass: {name}"
                    assert_close(what, value, expected[name], 4 * TOLERANCES[call.x.dtype])
            if len(call.cells) == 2:
                one = replace(call, cells=[call.cells[0]] * 2).at("one cell for both directions")
                wide = call.in_dtype(torch.float64)
                if accepts(self.make(), one):
                    right = all_results(Loop(), replace(wide, cells=[wide.cells[0]] * 2))
                    compare(run_kernel(self.make(), one), right, one)

    def test_layout_of_the_gradient(self) -> None:
        """A gradient of the outputs that is expanded or transposed is read right, and not changed."""
        for call in self.calls(gradients=True):
            done, right = forward(self.make(), call), forward(Loop(), call.in_dtype(torch.float64))
            y = done.results["outputs"]
            for what, given in _output_gradients(y) if y.requires_grad else ():
                kept = given.clone()
                got, want = (_backward(one, given) for one in (done, right))
                where = f"{call.where}, a gradient of the outputs that is {what}"
                assert_close(f"{where}, after the backward pass", given, kept, 0.0)
                for name, value in got.items():
                    assert_close(f"{where}: {name}", value, want[name], 4 * TOLERANCES[call.x.dtype])

    def test_values_kept_for_backward(self) -> None:
        """What is changed in place between forward and backward raises an error, or does not matter."""
        for call in self.calls(gradients=True):
            expected = loop_results(call)
            for what in ("the inputs", "the initial states", "the outputs", "the parameters"):
                done = forward(self.make(), call.in_dtype(call.x.dtype), copied=True)
                loss, values = done.loss, done.values()
                if not loss.requires_grad:
                    continue
                with torch.no_grad():
                    for tensor in _tensors(what, done):
                        tensor.mul_(1.5)
                try:
                    got = done.gradients(loss)
                except RuntimeError:
                    continue
                compare(values | got, expected, call.at(f"{what} changed in place before the backward pass"))


def _selections(call: Call) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield what may need a gradient: nothing but one, all but one, the parameters alone, everything but them."""
    done = forward(Loop(), call.in_dtype(call.x.dtype))
    names = frozenset(done.sources)
    given = frozenset(name for name in names if name == "the inputs" or name.startswith("initial state"))
    for name in done.sources:
        yield f"no gradient of {name}", names - {name}
        yield f"a gradient of {name} alone", frozenset({name})
    yield "no gradient of inputs and states", names - given
    yield "all parameters frozen", given
    yield "no gradient of the initial states", names - given | {"the inputs"}


def _summed(several: Iterable[Forward]) -> Values:
    """Add up the gradients of the parameters, one backward pass after another."""
    total: Values = {}
    for done in several:
        for name, value in done.gradients().items():
            if "of the inputs" not in name and "initial state" not in name:
                total[name] = total[name] + value if name in total else value
    return total


def _output_gradients(y: Tensor) -> Iterator[tuple[str, Tensor]]:
    def sample(*shape: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(9)).to(y.dtype)

    time, batch, size = y.shape
    yield "expanded from one number", torch.ones((), dtype=y.dtype).expand(y.shape)
    yield "expanded over the steps", sample(batch, size).expand(y.shape)
    yield "expanded over the rows", sample(time, 1, size).expand(y.shape)
    yield "transposed", sample(batch, time, size).transpose(0, 1)
    yield "with its features first", sample(size, time, batch).permute(1, 2, 0)


def _backward(done: Forward, gradient: Tensor) -> Values:
    """Return the gradients of the sources from one of the outputs."""
    y, wanted = done.results["outputs"], list(done.sources.values())
    found = torch.autograd.grad([y], wanted, [gradient.to(y.dtype)], retain_graph=True, allow_unused=True)
    return named_gradients(done.sources, found)


def _tensors(what: str, done: Forward) -> list[Tensor]:
    if what == "the inputs":
        return [done.x]
    if what == "the outputs":
        return [done.results["outputs"]]
    if what == "the initial states":
        return [h for state in done.states for h in state if h.is_floating_point()]
    return [parameter for cell in done.call.cells for parameter in cell.parameters() if parameter.is_floating_point()]
