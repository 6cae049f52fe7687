"""Checks of a kernel's gradients, by value in every way that training asks for them."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from seqlab.recurrence.selection import Loop
from seqlab.testing.comparison import TOLERANCES, accepts, compared, computed, short
from seqlab.testing.kernels.values import KernelMaking
from seqlab.testing.layer import Call, Forward, Values, everything, forward, named_gradients
from seqlab.testing.suite import agree

_CONTEXTS = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
_ROWS: dict[str, tuple[list[int] | None, int]] = {
    "full rows": (None, 1),
    "ragged rows": ([0, 7, 3, 5], 1),
    "full rows, both directions": (None, 2),
    "ragged rows, both directions": ([0, 7, 3, 5], 2),
    "one row, both directions": ([4], 2),
}


class GradientChecks(KernelMaking):
    """The loop's gradients, whatever else is wanted or not."""

    def test_frozen_parameters(self) -> None:
        """Each tensor alone without a gradient, and each alone with one: the others' gradients stay right."""
        for call in self.calls(gradients=True):
            expected = everything(Loop(), call.in_dtype(torch.float64))
            for what, chosen in _selections(call):
                one = replace(call, sources=chosen).at(what)
                if accepts(self.make(), one):
                    compared(computed(self.make(), one), expected, one)

    def test_parts_of_the_loss(self) -> None:
        """A loss of the outputs alone, or of one final state alone, has the gradients of the loop."""
        for call in self.calls(gradients=True):
            expected = everything(Loop(), call.in_dtype(torch.float64))
            for name in [name for name, value in expected.items() if _is_part(name, value)]:
                one = replace(call, results=frozenset({name})).at(f"a loss of {name} alone")
                compared(computed(self.make(), one), everything(Loop(), one.in_dtype(torch.float64)), one)

    def test_outputs_without_the_state(self) -> None:
        """Where nobody asks for the final state: the same outputs, and the same gradients from them."""
        for call in self.calls(gradients=True):
            one = replace(call, final_state=False).at("without the final state")
            compared(computed(self.make(), one), everything(Loop(), one.in_dtype(torch.float64)), one)

    def test_without_gradients(self) -> None:
        """Under ``no_grad`` and ``inference_mode``, in training and in evaluation: the loop's outputs and states."""
        kernel = self.make()
        for train in (True, False):
            for where, (rows, directions) in _ROWS.items():
                plain = self.call(where, rows, directions=directions, train=train)
                for name, context in _CONTEXTS.items():
                    for dtype in TOLERANCES:
                        call = plain.in_dtype(dtype).at(name, "training" if train else "evaluation", short(dtype))
                        with context():
                            if not accepts(kernel, call):
                                continue
                            actual = computed(kernel, call)
                            compared(actual, everything(Loop(), call.in_dtype(torch.float64)), call)
                            alone = replace(call, final_state=False).at("without the state")
                            compared(computed(kernel, alone), actual, alone, 0.1)

    def test_evaluation_mode(self) -> None:
        """A cell in evaluation has the gradients of the loop, as one in training has."""
        for call in self.calls(gradients=True, train=False):
            one = call.at("evaluation")
            compared(computed(self.make(), one), everything(Loop(), call.in_dtype(torch.float64)), one)

    def test_one_graph_twice(self) -> None:
        """Two passes backward through one graph give the same, and ``.grad`` adds them up."""
        for call in self.calls(gradients=True):
            expected = everything(Loop(), call.in_dtype(torch.float64))
            done = forward(self.make(), call)
            loss = done.loss
            if not loss.requires_grad:
                continue
            for turn in ("first", "second"):
                one = call.at(f"the {turn} pass backward through one graph")
                compared(done.values() | done.gradients(loss), expected, one)
            for _ in range(2):
                torch.autograd.backward(loss, retain_graph=True, inputs=list(done.sources.values()))
            added = named_gradients(done.sources, [source.grad for source in done.sources.values()])
            twice = {name: 2 * value if name in added else value for name, value in expected.items()}
            compared(done.values() | added, twice, call.at(".grad after two passes backward"))

    def test_calls_that_share_parameters(self) -> None:
        """Two calls, and one cell in both directions: their gradients add up, in whatever order they are asked for."""
        kernel = self.make()
        for call in self.calls(gradients=True):
            lengths = None if call.lengths is None else call.lengths.clamp(max=5)
            other = replace(call, x=0.7 * call.x.flip(0)[:5], lengths=lengths)
            expected = _summed(_gradients_of(forward(Loop(), one.in_dtype(torch.float64))) for one in (call, other))
            for order in ((0, 1), (1, 0)):
                done = [forward(kernel, one) for one in (call, other)]
                got = _summed(_gradients_of(done[index]) for index in order)
                for name, value in got.items():
                    what = f"{call.where}, two calls before the first pass backward: {name}"
                    agree(what, value, expected[name], 4 * TOLERANCES[call.x.dtype])
            if len(call.cells) == 2:
                one = replace(call, cells=[call.cells[0]] * 2).at("one cell for both directions")
                wide = call.in_dtype(torch.float64)
                if accepts(self.make(), one):
                    right = everything(Loop(), replace(wide, cells=[wide.cells[0]] * 2))
                    compared(computed(self.make(), one), right, one)

    def test_layout_of_the_gradient(self) -> None:
        """A gradient that comes in expanded or transposed is taken as it is, and left alone."""
        for call in self.calls(gradients=True):
            done, right = forward(self.make(), call), forward(Loop(), call.in_dtype(torch.float64))
            y = done.results["outputs"]
            if not y.requires_grad:
                continue
            for what, given in _incoming(y):
                kept = given.clone()
                got, want = (_pulled(one, given.to(one.results["outputs"].dtype)) for one in (done, right))
                agree(f"{call.where}: a gradient that comes in {what}, after the pass backward", given, kept, 0.0)
                for name, value in got.items():
                    where = f"{call.where}, a gradient that comes in {what}: {name}"
                    agree(where, value, want[name], 4 * TOLERANCES[call.x.dtype])

    def test_values_kept_for_backward(self) -> None:
        """What is changed in place between forward and backward raises an error, or does not matter."""
        for call in self.calls(gradients=True):
            expected = everything(Loop(), call.in_dtype(torch.float64))
            for what in ("the inputs", "the initial states", "the outputs", "the parameters"):
                done = forward(self.make(), call.in_dtype(call.x.dtype), copied=True)
                loss, values = done.loss, done.values()
                if not loss.requires_grad:
                    continue
                with torch.no_grad():
                    for tensor in _parts(what, done):
                        tensor.mul_(1.5)
                try:
                    got = done.gradients(loss)
                except RuntimeError:
                    continue
                compared(values | got, expected, call.at(f"{what} changed in place before the pass backward"))


def _is_part(name: str, value: Tensor) -> bool:
    return value.is_floating_point() and not name.startswith("the gradient")


def _selections(call: Call) -> Iterator[tuple[str, frozenset[str]]]:
    """List what may need a gradient: nothing but one, all but one, the parameters alone, everything but them."""
    done = forward(Loop(), call.in_dtype(call.x.dtype))
    names = frozenset(done.sources)
    given = frozenset(name for name in names if name == "the inputs" or name.startswith("initial state"))
    for name in done.sources:
        yield f"no gradient wanted of {name}", names - {name}
        yield f"a gradient wanted of {name} alone", frozenset({name})
    yield "no gradient wanted of inputs and states", names - given
    yield "all parameters frozen", given
    yield "no gradient wanted of the initial states", names - given | {"the inputs"}


def _gradients_of(done: Forward) -> Values:
    return {name: value for name, value in done.gradients().items() if "of the inputs" not in name}


def _summed(several: "Iterator[Values]") -> Values:
    total: Values = {}
    for values in several:
        for name, value in values.items():
            if "initial state" not in name:
                total[name] = total[name] + value if name in total else value
    return total


def _incoming(y: Tensor) -> Iterator[tuple[str, Tensor]]:
    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(9)).to(y.dtype)

    time, batch, size = y.shape
    yield "expanded from one number", torch.ones((), dtype=y.dtype).expand(y.shape)
    yield "expanded over the steps", drawn(batch, size).expand(y.shape)
    yield "expanded over the rows", drawn(time, 1, size).expand(y.shape)
    yield "transposed", drawn(batch, time, size).transpose(0, 1)
    yield "with its features first", drawn(size, time, batch).permute(1, 2, 0)


def _pulled(done: Forward, given: Tensor) -> Values:
    """Pull a gradient of the outputs back to the sources."""
    y = done.results["outputs"]
    wanted = list(done.sources.values())
    return named_gradients(
        done.sources, torch.autograd.grad([y], wanted, [given], retain_graph=True, allow_unused=True)
    )


def _parts(what: str, done: Forward) -> list[Tensor]:
    if what == "the inputs":
        return [done.x]
    if what == "the outputs":
        return [done.results["outputs"]]
    if what == "the initial states":
        return [leaf for state in done.states for leaf in state if leaf.is_floating_point()]
    return [parameter for cell in done.call.cells for parameter in cell.parameters() if parameter.is_floating_point()]
