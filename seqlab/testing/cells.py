"""Checks that every cell must pass."""

import copy
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, ClassVar, cast
from unittest import SkipTest

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from seqlab.contracts import Cell, State
from seqlab.discovery.kernels import kernels_for
from seqlab.recurrence import Recurrent, scan
from seqlab.recurrence.compiled import Compiled, fault_of
from seqlab.recurrence.state import rebuild, same_structure
from seqlab.testing.compare import check_kernel, refusal_everywhere
from seqlab.testing.gradients import check_gradients
from seqlab.testing.making import make_cell
from seqlab.testing.pickling import pickled
from seqlab.testing.probing import check_probe
from seqlab.testing.suite import Suite, agree, demand


class CellSuite(Suite):
    """Checks of a cell; a subclass names it.

    Attributes:
        cell: the cell's type, or a factory that takes ``input_size`` and ``hidden_size``.
        options: what else its constructor is to be given. ``hidden_size`` is 5 unless stated, or
            the first of a few rounder sizes that it takes.
        input_size: features of one input step.
    """

    cell: ClassVar[Callable[..., Cell]]
    options: ClassVar[Mapping[str, Any]] = {}
    input_size: ClassVar[int] = 3

    # Making things ------------------------------------------------------------------------------------------------

    def make(self, *, seed: int = 0, dtype: torch.dtype = torch.float64, train: bool = False, **changed: Any) -> Cell:
        """Make the cell, the same at every call with one seed."""
        arguments = {"input_size": self.input_size, **self.options, **changed}
        return make_cell(type(self).cell, arguments, seed=seed, dtype=dtype, train=train)

    def inputs(self, time: int, batch: int, *, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
        """Draw an input ``[time, batch, input]`` from the normal distribution."""
        return torch.randn(
            time, batch, self.input_size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        ).to(dtype)

    @staticmethod
    def run(cell: Cell, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Scan with the reference loop."""
        return scan(cell, x, cell.initial_state(x[0]) if state is None else state, lengths)

    def reached(self, cell: Cell, time: int, batch: int, seed: int = 7) -> State:
        """Give a state that the cell comes to by itself, so that a law among its leaves holds."""
        with torch.no_grad():
            _, state = self.run(cell, self.inputs(time, batch, seed=seed))
        return rebuild(state, [leaf.clone() for leaf in state])

    # What it is ---------------------------------------------------------------------------------------------------

    def test_shapes_and_dtypes(self) -> None:
        """Outputs are [time, batch, output_size] in the input's dtype, and a step keeps the state's structure."""
        for dtype in (torch.float32, torch.float64):
            cell, x = self.make(dtype=dtype), self.inputs(4, 3, dtype=dtype)
            start = cell.initial_state(x[0])
            _check_start(cell, start, dtype)
            projected = cell.project(x)
            demand(projected.shape[:2] == (4, 3), f"project gives {tuple(projected.shape)}, not [4, 3, ...]")
            y, new = cell.step(projected[0], start)
            expected = (3, cell.output_size)
            demand(y.shape == expected, f"the output is {tuple(y.shape)}; output_size says {expected}")
            demand(y.dtype == dtype, f"the output is {y.dtype} for an input of {dtype}")
            fault = same_structure(new, start)
            demand(not fault, f"{fault} ({dtype})")

    def test_small_sizes(self) -> None:
        """One step, one row and one feature work as well as many."""
        for time, batch in ((1, 1), (1, 3), (5, 1)):
            cell, x = self.make(), self.inputs(time, batch)
            y, _ = self.run(cell, x)
            demand(y.shape == (time, batch, cell.output_size), f"time {time}, batch {batch}: {tuple(y.shape)}")
        narrow = self.make(input_size=1)
        y, _ = self.run(narrow, self.inputs(3, 2)[..., :1])
        demand(bool(y.isfinite().all()), "input_size 1: the output is not finite")

    # What it may look at ------------------------------------------------------------------------------------------

    def test_causality_by_gradient(self) -> None:
        """The gradient of the output at t with respect to every later input is zero."""
        cell, x = self.make(), self.inputs(6, 2).requires_grad_()
        y, _ = self.run(cell, x)
        for t in range(5):
            (gradient,) = torch.autograd.grad(y[t].sum(), x, retain_graph=True, allow_unused=True)
            later = 0.0 if gradient is None else float(gradient[t + 1 :].abs().max())
            demand(later == 0, f"the output at step {t} has a gradient of {later:.3g} in an input after it")

    def test_causality_by_perturbation(self) -> None:
        """Another future leaves the past as it was."""
        cell, x, other = self.make(), self.inputs(6, 2), self.inputs(6, 2, seed=2)
        y, _ = self.run(cell, x)
        for t in range(5):
            changed, _ = self.run(cell, torch.cat([x[: t + 1], 3 * other[t + 1 :]]))
            agree(f"the outputs up to step {t}, with other inputs after it", changed[: t + 1], y[: t + 1])

    def test_padding_is_invisible(self) -> None:
        """NaN in the padding and more of it change no output, state or gradient."""
        cell, x = self.make(), self.inputs(6, 4)
        lengths = torch.tensor([6, 1, 3, 4])
        dead = torch.arange(6).unsqueeze(1) >= lengths
        poisoned = x.masked_fill(dead.unsqueeze(-1), torch.nan)
        wide = torch.cat([poisoned, torch.full_like(x[:3], torch.nan)])
        plain = self._pass(cell, x, lengths)
        for name, gradient in [("the inputs", plain[2]), *plain[3].items()]:
            finite = bool(gradient.isfinite().all())
            demand(finite, f"zeros in the padding, as every cell gets them: the gradient of {name} is not finite")
        for what, padded, count in (("NaN in the padding", poisoned, 6), ("three more steps of padding", wide, 9)):
            got = self._pass(cell, padded, lengths)
            agree(f"{what}: outputs", got[0][:6], plain[0])
            demand(not bool(got[0][6:count].any()), f"{what}: the outputs of padding are not zero")
            for name, actual, expected in zip([*cell.state_names], got[1], plain[1], strict=False):
                agree(f"{what}: final state {name}", actual, expected)
            agree(f"{what}: gradient of the inputs", got[2][:6], plain[2])
            for name, actual, expected in zip(plain[3], got[3].values(), plain[3].values(), strict=True):
                agree(f"{what}: gradient of {name}", actual, expected)
        short, _ = self.run(cell, x[:3, 2:3])
        agree("a padded row against the same row alone", self._pass(cell, x, lengths)[0][:3, 2:3], short)

    def _pass(self, cell: Cell, x: Tensor, lengths: Tensor) -> tuple[Tensor, State, Tensor, dict[str, Tensor]]:
        x = x.clone().requires_grad_()
        y, state = self.run(cell, x, None, lengths)
        parameters = {name: p for name, p in cell.named_parameters() if p.requires_grad}
        total = y.sum() + sum(leaf.sum() for leaf in state if leaf.is_floating_point())
        gradients = torch.autograd.grad(total, [x, *parameters.values()], allow_unused=True)
        filled = [torch.zeros_like(o) if g is None else g for g, o in zip(gradients, [x, *parameters.values()])]  # noqa: B905
        return y.detach(), state, filled[0], dict(zip(parameters, filled[1:], strict=True))

    def test_rows_are_independent(self) -> None:
        """A row gives the same alone, in a batch and in another order, and no gradient crosses between rows."""
        cell, x = self.make(), self.inputs(5, 4).requires_grad_()
        y, state = self.run(cell, x)
        order = torch.tensor([2, 0, 3, 1])
        permuted, permuted_state = self.run(cell, x[:, order])
        agree("the outputs of the rows in another order", permuted, y[:, order])
        for name, actual, expected in zip(cell.state_names, permuted_state, state, strict=True):
            agree(f"state {name} of the rows in another order", actual, expected[order])
        for row in range(4):
            alone, _ = self.run(cell, x[:, row : row + 1])
            agree(f"row {row} alone against the same row in a batch", alone, y[:, row : row + 1])
        (gradient,) = torch.autograd.grad(y[:, 0].sum(), x, allow_unused=True)
        crossed = 0.0 if gradient is None else float(gradient[:, 1:].abs().max())
        demand(crossed == 0, f"the output of row 0 has a gradient of {crossed:.3g} in the input of another row")

    # The state ----------------------------------------------------------------------------------------------------

    def test_state_carries_over_every_cut(self) -> None:
        """Two runs joined by the state are the run in one, wherever the cut: outputs, state and gradient."""
        cell, x = self.make(), self.inputs(6, 2).requires_grad_()
        whole, end = self.run(cell, x)
        (expected,) = torch.autograd.grad(whole.sum(), x, allow_unused=True)
        for cut in range(1, 6):
            first, middle = self.run(cell, x[:cut])
            second, last = self.run(cell, x[cut:], middle)
            joined = torch.cat([first, second])
            agree(f"the outputs of a run cut at step {cut}", joined, whole)
            for name, actual, leaf in zip(cell.state_names, last, end, strict=True):
                agree(f"state {name} of a run cut at step {cut}", actual, leaf)
            (gradient,) = torch.autograd.grad(joined.sum(), x, allow_unused=True)
            if expected is not None:
                demand(gradient is not None, f"cut at step {cut}: no gradient reaches the input")
                agree(f"the gradient of the input of a run cut at step {cut}", gradient, expected)

    def test_state_is_used(self) -> None:
        """Outputs depend on earlier inputs, and every leaf of the state is read."""
        cell = self.make()
        x, other = self.inputs(10, 2), self.inputs(10, 2, seed=2)
        y, _ = self.run(cell, x)
        changed, _ = self.run(cell, torch.cat([other[:1], x[1:]]))
        moved = float((changed[1:] - y[1:]).detach().abs().max())
        demand(moved > 1e-12, "another first input changes no later output: the state is not used")
        here, there = self.reached(cell, 3, 2, seed=8), self.reached(cell, 5, 2, seed=9)
        outputs, end = self.run(cell, x, here)
        for index, name in enumerate(cell.state_names):
            mixed = rebuild(here, [*here[:index], there[index], *here[index + 1 :]])
            if torch.equal(here[index], there[index]):
                continue  # the same after any past, such as a mask that evaluation does not use
            got, got_end = self.run(cell, x, mixed)
            # Compared step by step would miss a leaf that only counts: then the final state tells.
            same = torch.equal(got, outputs) and all(map(torch.equal, got_end, end))
            demand(not same, f"state {name} changes neither an output nor the final state: it is never read")

    def test_reverse_is_flip(self) -> None:
        """The backward half of a bidirectional layer is the cell on each row reversed within its length."""
        seeds = iter((0, 1))
        net = Recurrent(lambda **_: self.make(seed=next(seeds)), self.input_size, bidirectional=True, kernel="loop")
        net = net.eval()
        x, lengths = self.inputs(5, 3), torch.tensor([5, 2, 4])
        y, _ = net(x, lengths=lengths)
        forward, backward = net.cells
        alone, _ = self.run(forward, x, None, lengths)
        agree("the forward half", y[..., : forward.output_size], alone)
        for row, length in enumerate(lengths.tolist()):
            flipped, _ = self.run(backward, x[:length, row : row + 1].flip(0))
            half = y[:length, row : row + 1, forward.output_size :]
            agree(f"the backward half of a row of length {length}", half, flipped.flip(0))

    # Gradients ----------------------------------------------------------------------------------------------------

    def test_gradients_are_right(self) -> None:
        """Gradients of inputs, parameters and initial state are those of finite differences in float64."""
        cell, x = self.make(), self.inputs(4, 2)
        check_gradients(cell, x, self.reached(cell, 2, 2))

    def test_probe_agrees_with_autograd(self) -> None:
        """What a cell says of its steps in closed form, if anything, is what autograd finds."""
        check_probe(self.make(), self.inputs(5, 2))

    def test_no_parameter_is_unused(self) -> None:
        """Every parameter takes part."""
        gradients = self._gradients(self.make())
        unused = [name for name, gradient in gradients.items() if gradient is None]
        demand(not unused, f"{', '.join(unused)}: no output depends on it")

    def test_gradients_reach_every_parameter(self) -> None:
        """Every parameter gets a gradient that is finite and not zero throughout."""
        silent: set[str] | None = None
        for seed, nudge in ((0, 0.0), (1, 0.0), (2, 0.1), (3, 0.3)):  # a gate that starts at 0 may hide another weight
            cell = self.make(seed=seed)
            with torch.no_grad():
                for parameter in cell.parameters():
                    if parameter.is_floating_point():
                        parameter.add_(nudge * torch.randn_like(parameter))
            gradients = self._gradients(cell)
            if not nudge:
                for name, gradient in gradients.items():
                    finite = gradient is None or bool(gradient.isfinite().all())
                    demand(finite, f"the gradient of {name} is not finite")
            zero = {name for name, gradient in gradients.items() if gradient is None or not bool(gradient.any())}
            silent = zero if silent is None else silent & zero
            if not silent:
                return
        demand(not silent, f"the gradient of {', '.join(sorted(silent or ()))} is zero")

    def _gradients(self, cell: Cell) -> dict[str, Tensor | None]:
        parameters = {name: p for name, p in cell.named_parameters() if p.requires_grad}
        if not parameters:
            return {}
        y, _ = self.run(cell, self.inputs(8, 4), self.reached(cell, 3, 4))
        if not y.requires_grad:
            return dict.fromkeys(parameters)
        weight = torch.randn_like(y)
        found = torch.autograd.grad((y * weight).sum(), list(parameters.values()), allow_unused=True)
        return dict(zip(parameters, found, strict=True))

    # Calls leave no trace -----------------------------------------------------------------------------------------

    def test_evaluation_is_deterministic(self) -> None:
        """In evaluation nothing is random: no dropout is left on."""
        cell, twin, x = self.make(), self.make(), self.inputs(5, 3)
        twin.load_state_dict(cell.state_dict())
        torch.manual_seed(11)
        y, _ = self.run(cell, x)
        torch.manual_seed(12)
        again, _ = self.run(twin, x)
        agree("two evaluations of the same input, with other random numbers,", again, y, 0.0)

    def test_no_memory_between_calls(self) -> None:
        """A call does not change what the next one gives, in training or in evaluation."""
        for train in (False, True):
            cell, x = self.make(train=train), self.inputs(5, 3)
            torch.manual_seed(11)
            y, _ = self.run(cell, x)
            self.run(cell, self.inputs(7, 2, seed=4))
            self.run(cell, self.inputs(5, 3, seed=5))
            torch.manual_seed(11)
            again, _ = self.run(cell, x)
            mode = "training" if train else "evaluation"
            agree(f"the same call in {mode}, after others on other inputs,", again, y, 1e-12)

    def test_input_is_left_alone(self) -> None:
        """Neither the input nor the state that comes in is changed in place."""
        cell, x = self.make(), self.inputs(4, 2)
        state = self.reached(cell, 2, 2)
        before, leaves = x.clone(), [leaf.clone() for leaf in state]
        with torch.no_grad():
            self.run(cell, x, state)
        agree("the input after a call against before it", x, before, 0.0)
        for name, leaf, kept in zip(cell.state_names, state, leaves, strict=True):
            agree(f"state {name} after a call against before it", leaf, kept, 0.0)

    # Other ways to run it -----------------------------------------------------------------------------------------

    def test_memory_layout(self) -> None:
        """An input that is not contiguous gives the same as one that is."""
        cell, x = self.make(), self.inputs(5, 4)
        y, _ = self.run(cell, x)
        layouts = {
            "transposed": x.transpose(0, 1).contiguous().transpose(0, 1),
            "strided": torch.stack([x, x], dim=-1)[..., 0],
            "with its features first": x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        }
        for name, view in layouts.items():
            got, _ = self.run(cell, view)
            agree(f"an input {name}", got, y)

    def test_autocast(self) -> None:
        """Under autocast to bfloat16 it runs, forward and backward, and stays near float32."""
        cell, x = self.make(dtype=torch.float32), self.inputs(5, 3, dtype=torch.float32)
        y, state = self.run(cell, x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            start = cell.initial_state(x[0])
            low, low_state = scan(cell, x, start, None)
        agree("the output under autocast to bfloat16", low, y, 0.1)
        for name, leaf, kept in zip(cell.state_names, low_state, state, strict=True):
            demand(leaf.dtype == kept.dtype, f"state {name} is {leaf.dtype} under autocast, not {kept.dtype}")
        if low.requires_grad:
            torch.autograd.backward(low.float().sum())
            for name, parameter in cell.named_parameters():
                finite = parameter.grad is None or bool(parameter.grad.isfinite().all())
                demand(finite, f"the gradient of {name} is not finite under autocast")

    def test_training_mode(self) -> None:
        """In training it runs forward and backward, and everything stays finite."""
        cell, x = self.make(train=True), self.inputs(6, 3).requires_grad_()
        y, _ = self.run(cell, x, None, torch.tensor([6, 2, 4]))
        demand(bool(y.isfinite().all()), "the output is not finite")
        if y.requires_grad:
            torch.autograd.backward(y.sum())
        for name, tensor in [("the inputs", x), *cell.named_parameters()]:
            finite = tensor.grad is None or bool(tensor.grad.isfinite().all())
            demand(finite, f"the gradient of {name} is not finite")

    def test_saves_and_loads(self) -> None:
        """A cell that loads another one's state_dict gives what that one gives."""
        cell, fresh, x = self.make(seed=0), self.make(seed=1), self.inputs(4, 2)
        file = io.BytesIO()
        torch.save(cell.state_dict(), file)
        file.seek(0)
        fresh.load_state_dict(torch.load(file, weights_only=True))
        y, _ = self.run(cell, x)
        got, _ = self.run(fresh, x)
        agree("the output after saving and loading: something is in no parameter or buffer;", got, y, 0.0)

    def test_copies_and_pickles(self) -> None:
        """A deep copy and a pickled cell give the same, and share nothing with the original."""
        cell, x = self.make(), self.inputs(4, 2)
        y, _ = self.run(cell, x)
        copied = copy.deepcopy(cell)
        got, _ = self.run(copied, x)
        agree("the output of a deep copy", got, y, 0.0)
        if not any(parametrize.is_parametrized(module) for module in cell.modules()):  # torch does not pickle those
            got, _ = self.run(pickled(cell), x)
            agree("the output after pickling", got, y, 0.0)
        with torch.no_grad():
            for parameter in copied.parameters():
                parameter.add_(1)
        again, _ = self.run(cell, x)
        agree("the output after a deep copy was changed", again, y, 0.0)

    def test_exports(self) -> None:
        """torch.export takes it, for any batch size."""
        net = Recurrent(lambda **_: self.make(dtype=torch.float32), self.input_size, kernel="loop").eval()
        x = self.inputs(3, 4, dtype=torch.float32)
        quiet = io.StringIO()  # where it refuses, the exporter prints the graph that it has so far
        with warnings.catch_warnings(), redirect_stdout(quiet), redirect_stderr(quiet):
            warnings.simplefilter("ignore")
            program = torch.export.export(
                _Outputs(net), (x,), dynamic_shapes=({1: torch.export.Dim("batch", min=2, max=64)},), strict=False
            )
        for batch in (4, 7):
            x = self.inputs(3, batch, seed=5, dtype=torch.float32)
            with torch.no_grad():
                agree(f"the exported program on {batch} rows", program.module()(x), net(x)[0], 1e-5)

    # Faster paths -------------------------------------------------------------------------------------------------

    def test_every_kernel_equals_the_loop(self) -> None:
        """Each kernel registered for the cell gives the loop's outputs, states and gradients."""
        kernels = kernels_for(type(self.make()))
        if not kernels:
            raise SkipTest("no kernel is registered for it")
        refused = []
        for kernel in kernels:
            if reason := refusal_everywhere(kernel, self.cells):
                refused.append(f"{kernel.name} refuses here: {reason}")
            else:
                check_kernel(kernel, self.cells)
        if len(refused) == len(kernels):
            raise SkipTest("; ".join(refused))

    def test_compiled_equals_the_loop(self) -> None:
        """kernel=compiled gives the loop's outputs, states and gradients, or falls back to it."""
        check_kernel(Compiled(), self.cells, dtypes=[torch.float64])
        if reason := fault_of(self.make(train=True)):
            raise SkipTest(f"the loop runs instead: {reason}")

    def cells(self, count: int, dtype: torch.dtype) -> Sequence[Cell]:
        """Make one cell for each direction, in training mode if nothing in it is random."""
        made = [self.make(seed=seed, dtype=dtype, train=True) for seed in range(count)]
        x = self.inputs(3, 2, dtype=dtype)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            first, _ = self.run(made[0], x)
            torch.manual_seed(2)
            second, _ = self.run(made[0], x)
        return made if torch.equal(first, second) else [cell.eval() for cell in made]


class _Outputs(nn.Module):
    """A network of which only the outputs are of interest."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.net(x)[0])


def _check_start(cell: Cell, start: State, dtype: torch.dtype) -> None:
    demand(isinstance(start, tuple), f"initial_state gives a {type(start).__name__}; it must be a tuple of tensors")
    names = cell.state_names
    demand(len(start) == len(names), f"the state has {len(start)} leaves, and state_names has {len(names)}")
    for name, leaf in zip(names, start, strict=True):
        shape = tuple(leaf.shape)
        demand(shape[:1] == (3,), f"state {name} is {shape} for a batch of 3: the batch must be its first axis")
        if leaf.is_floating_point():
            demand(leaf.dtype == dtype, f"state {name} is {leaf.dtype} for an input of {dtype}")
            demand(not bool(leaf.isnan().any()), f"state {name} starts with NaN")
