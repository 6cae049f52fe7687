"""Checks that the calls of a cell have no side effects, of its gradients, and of every way to run it."""

import copy
import io
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Any, cast
from unittest import SkipTest

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from seqlab.contracts import Cell, Kernel, State
from seqlab.plugins.kernels import kernels_for
from seqlab.recurrence import Recurrent
from seqlab.recurrence.compiled import Compiled, fault_of
from seqlab.recurrence.scan import rebuild
from seqlab.testing.cells.steps import MODES, CellBase, named_state
from seqlab.testing.comparison import check_gradients, check_kernel, check_probe, refusal_everywhere
from seqlab.testing.kernels.values import KernelBase
from seqlab.testing.layer import LAYOUTS, RefusedError, Values, differentiate, is_random
from seqlab.testing.options import combinations, format_options, numeric
from seqlab.testing.process import ParameterFlags, pickled, random_states, require_unchanged, seed_all, unusual_settings
from seqlab.testing.suite import assert_all_close, assert_close, first_line, require, run_suite


class CallChecks(CellBase):
    """The same call gives the same, whatever came before it, and changes nothing."""

    def test_evaluation_is_deterministic(self) -> None:
        """In evaluation nothing is random, in training torch's seed decides, and nothing sets that seed."""
        cell, twin, x = self.make(), self.make(), self.inputs(5, 3)
        twin.load_state_dict(cell.state_dict())
        first, second = self.results(cell, x, seed=11), self.results(twin, x, seed=12)
        assert_all_close("two evaluations of the same input, with other seeds", second, first, 0.0)
        for mode, train in MODES.items():
            found, after = [], []
            for turn, seed in enumerate((3, 4, 3)):
                cell = self.make(train=train)
                seed_all(turn)  # run sets torch's seed
                found.append(self.run(cell, x, seed=seed)[0])
                after.append(random_states())
            assert_close(f"two runs in {mode} from one seed", found[2], found[0], 0.0)
            self._not_seeded(f"a call in {mode}", after)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        require(default == torch.float32, f"it sets torch's default dtype to {default}")
        after = []
        for seed in (3, 4):
            seed_all(seed)
            self.make(seed=seed)
            after.append(random_states())
        self._not_seeded("the constructor", after)

    @staticmethod
    def _not_seeded(what: str, after: list[dict[str, Any]]) -> None:
        for library in after[0]:
            fixed = after[0][library] == after[1][library]
            require(not fixed, f"{what} sets {library}'s seed: what is drawn after it is the same after any seed")

    def test_no_memory_between_calls(self) -> None:
        """A call does not change what the next one gives, nor a parameter or buffer, in training or in evaluation."""
        for train_between in MODES.values():
            for mode, train in MODES.items():
                self._no_memory(mode, train, train_between)

    def _no_memory(self, mode: str, train: bool, train_between: bool) -> None:
        cell, x = self.make(train=train), self.inputs(5, 3)
        kept = {name: value.clone() for name, value in cell.state_dict().items()}
        y, _ = self.run(cell, x)
        for called in (cell, self.make(train=train_between)):
            called.train(train_between)
            for shape in ((7, 2), (5, 3), (1, 3), (140, 2), (2, 130)):
                self.run(called, self.inputs(*shape, seed=sum(shape)), seed=5)
            with torch.no_grad():
                for seed in range(12):
                    self.run(called, self.inputs(5, 3, seed=40 + seed), seed=6)
        cell.train(train)
        between = "training" if train_between else "evaluation"
        added = ", ".join(sorted(cell.state_dict().keys() ^ kept.keys()))
        require(not added, f"a call adds or removes {added}: a parameter or buffer that no optimizer knows")
        assert_all_close(f"after calls in {between}, which must not change it", cell.state_dict(), kept, 0.0)
        again, _ = self.run(cell, x)
        assert_close(f"the same call in {mode}, after others in {between} on other inputs,", again, y, 1e-12)
        first, middle = self.run(cell, x[:2])
        self.run(cell, self.inputs(4, 7, seed=8))
        second, _ = self.run(cell, x[2:], middle)
        if not is_random(cell):
            where = f"a run in {mode} that continues from its state after a run of another batch"
            assert_close(where, torch.cat([first, second]), y, 1e-12)
        fresh, _ = self.run(self.make(train=train), x)
        where = f"a call in {mode} of a new cell of the same seed, after calls of others in {between},"
        assert_close(where, fresh, y, 1e-12)

    def test_sees_changed_parameters(self) -> None:
        """Parameters that were loaded or changed in place since the last call are used."""
        for mode, train in MODES.items():
            for grad in (True, False):
                with torch.set_grad_enabled(grad):
                    self._sees_changes(f"{mode}, {'with' if grad else 'without'} gradients", train)

    def _sees_changes(self, where: str, train: bool) -> None:
        cell, other, x = self.make(train=train), self.make(seed=1, train=train), self.inputs(5, 3)
        for called in (cell, other):
            self.run(called, x)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.copy_(1.1 * parameter)
        self._same_as_new(f"{where}: the output after weights were changed in place between two calls", other, x)
        file = io.BytesIO()
        torch.save(other.state_dict(), file)
        file.seek(0)
        cell.load_state_dict(torch.load(file, weights_only=True))
        self._same_as_new(f"{where}: the output after weights were loaded between two calls", cell, x)
        for parameter in cell.parameters():
            parameter.data.mul_(0.9)
        self._same_as_new(f"{where}: the output after weights were changed through .data between two calls", cell, x)

    def _same_as_new(self, what: str, cell: Cell, x: Tensor) -> None:
        """Compare a cell with one of the same weights that was never called."""
        fresh = self.make(seed=2, train=cell.training)
        fresh.load_state_dict(cell.state_dict())
        wanted, _ = self.run(fresh, x)
        assert_close(what, self.run(cell, x)[0], wanted, 1e-12)

    def test_input_is_left_alone(self) -> None:
        """Neither the input, the initial state nor an earlier result is changed in place."""
        for mode, train in MODES.items():
            for grad in (False, True):
                where = f"{mode}, {'with' if grad else 'without'} gradients"
                cell, x = self.make(train=train), self.inputs(4, 2)
                with torch.set_grad_enabled(grad):
                    before = x.clone()
                    for state in (self.reached(cell, 2, 2), cell.initial_state(x[0])):
                        given = _copies(cell, state)
                        self.run(cell, x, state)
                        assert_close(f"{where}: the input after a call", x, before, 0.0)
                        assert_all_close(f"{where}: after a call", named_state(cell, state), given, 0.0)
                    self._steps_left_alone(where, cell, x)

    def _steps_left_alone(self, where: str, cell: Cell, x: Tensor) -> None:
        """Compare each step's arguments, and the results of all earlier ones, with copies of them."""
        torch.manual_seed(11)
        state = cell.initial_state(x[0])
        fresh, start = not is_random(cell), _copies(cell, state)
        watched = [("the initial state", named_state(cell, state), start)]
        for t, x_t in enumerate(cell.project(x)):
            given = x_t.clone()
            y, state = cell.step(x_t, state)
            assert_close(f"{where}: what project returned for step {t}, after the step", x_t, given, 0.0)
            for name, tensors, kept in watched:
                assert_all_close(f"{where}, after step {t}: {name}", tensors, kept, 0.0)
            results = {"output": y, **named_state(cell, state)}
            watched.append((f"of step {t}", results, {name: h.detach().clone() for name, h in results.items()}))
        if fresh:
            assert_all_close(
                f"{where}: initial_state, after steps", _copies(cell, cell.initial_state(x[0])), start, 0.0
            )

    def test_settings_are_left_alone(self) -> None:
        """Neither torch's settings, the cell's mode, nor ``requires_grad`` and ``.grad`` of a parameter are changed."""
        for mode, train in MODES.items():
            with unusual_settings() as before:
                cell, x = self.make(train=train), self.inputs(3, 2)
                require_unchanged("the constructor", before)
                flags = ParameterFlags([cell])
                for grad in (True, False):
                    where = f"a call in {mode}, {'with' if grad else 'without'} gradients,"
                    with torch.set_grad_enabled(grad):
                        results = self.results(cell, x)
                    follows = ", ".join(name for name, value in results.items() if value.requires_grad)
                    require(grad or not follows, f"{where} records a graph of {follows}")
                    require_unchanged(where, before)
                    flags.require_unchanged(where)

    def test_trains_after_inference(self) -> None:
        """After a call under ``inference_mode`` it trains as before."""
        for mode, train in MODES.items():
            cell, x = self.make(train=train), self.inputs(3, 2)
            wanted, _ = self.run(self.make(train=train), x)
            with torch.inference_mode():
                self.run(cell, x)
            try:
                y, _ = self.run(cell, x)
                if y.requires_grad:
                    torch.autograd.backward(y.sum())
            except RuntimeError as error:
                fault = f"{mode}: training after a call under inference_mode raises: {first_line(error)}"
                raise AssertionError(fault) from error
            assert_close(f"{mode}: the output after a call under inference_mode", y, wanted, 1e-12)


def _copies(cell: Cell, state: tuple[Tensor, ...]) -> Values:
    return {name: h.detach().clone() for name, h in named_state(cell, state).items()}


class GradientChecks(CellBase):
    """Gradients are right and reach every parameter."""

    def test_gradients_are_right(self) -> None:
        """Gradients of inputs, parameters and initial state are those of finite differences, in both modes."""
        cell, x = self.make(), self.inputs(4, 2)
        check_gradients("evaluation", cell, x, self.reached(cell, 2, 2), every_entry=True)
        for one in self.settings():
            check_gradients(one.where, one.cell, one.x, self.reached(one.cell, 2, one.x.shape[1]))

    def test_frozen_parameters(self) -> None:
        """Which tensors need a gradient, and whether any does, changes neither a result nor another gradient."""
        for mode, train in MODES.items():
            cell, x = self.make(train=train), self.inputs(6, 3)
            start = self.reached(cell, 2, 3)
            plain, right = self._passed(cell, x, start, frozenset())
            for context in (torch.no_grad, torch.inference_mode):
                with context():
                    given = rebuild(start, [h.clone() for h in start])
                    found = self.results(cell, x.clone(), given)
                assert_all_close(f"{mode}, under {context.__name__}", found, plain, 1e-12)
            for frozen in [frozenset({name}) for name in right] + [frozenset(right) - {name} for name in right]:
                what = f"{mode}, {', '.join(sorted(frozen))} not required"
                results, gradients = self._passed(cell, x, start, frozen)
                assert_all_close(what, results | gradients, plain | right, 1e-12)

    def _passed(self, cell: Cell, x: Tensor, start: State, frozen: frozenset[str]) -> tuple[Values, Values]:
        """Run forward and twice backward; return results, and the gradients that are not frozen."""
        x, initial = x.clone(), rebuild(start, [h.clone() for h in start])
        sources = {"inputs": x, **{f"initial {name}": h for name, h in named_state(cell, initial).items()}}
        sources = {name: source for name, source in sources.items() if source.is_floating_point()}
        own = {name: p for name, p in cell.named_parameters() if p.requires_grad}
        wanted = {}
        for name, source in (sources | own).items():
            source.requires_grad_(f"the gradient of {name}" not in frozen)
            if source.requires_grad:
                wanted[name] = source
        results = self.results(cell, x, initial)
        parts = [(part * part.detach().cos()).sum() for part in results.values() if part.is_floating_point()]
        total = torch.stack(parts).sum()
        gradients = {name: gradient.clone() for name, gradient in differentiate(total, wanted).items()}
        what = "a second backward pass through one graph"
        assert_all_close(what, differentiate(total, wanted), gradients, 1e-12)
        for parameter in own.values():
            parameter.requires_grad_(True)
        return {name: value.detach() for name, value in results.items()}, gradients

    def test_probe_agrees_with_autograd(self) -> None:
        """The closed forms of ``probe``, if there are any, agree with autograd."""
        check_probe(self.make(), self.inputs(5, 2))

    def test_gradients_reach_every_parameter(self) -> None:
        """Every parameter gets a gradient that is finite and not zero throughout."""
        zero: set[str] | None = None
        for seed, nudge in ((0, 0.0), (1, 0.0), (2, 0.1), (3, 0.3)):  # a gate that starts at 0 may hide another weight
            cell = self.make(seed=seed)
            with torch.no_grad():
                for parameter in cell.parameters():
                    if parameter.is_floating_point():
                        parameter.add_(nudge * torch.randn_like(parameter))
            x = self.inputs(8, 4)
            y = torch.cat([self.run(cell, x)[0], self.run(cell, x, self.reached(cell, 3, 4))[0]])
            parameters = {name: p for name, p in cell.named_parameters() if p.requires_grad}
            gradients = differentiate((y * torch.randn_like(y)).sum(), parameters)
            for name, gradient in gradients.items() if not nudge else ():
                require(bool(gradient.isfinite().all()), f"{name} is not finite")
            now = {name for name, gradient in gradients.items() if not bool(gradient.any())}
            zero = now if zero is None else zero & now
            if not zero:
                return
        require(not zero, f"{', '.join(sorted(zero or ()))} is zero")


class PathChecks(CellBase):
    """Every way to run it gives the same."""

    def test_memory_layout(self) -> None:
        """Inputs and states that are not contiguous, or part of a larger tensor, give the same as those that are."""
        for mode, train in MODES.items():
            cell, x = self.make(train=train), self.inputs(5, 4)
            if is_random(cell):  # dropout's mask follows the layout
                continue
            start = self.reached(cell, 2, 4)
            for what, layout in LAYOUTS.items():
                given = layout(x)
                y, _ = self.run(cell, given.contiguous(), start)
                assert_close(f"{mode}: an input that is {what}", self.run(cell, given, start)[0], y)
                states = rebuild(start, [layout(h) if h.dim() > 1 else h for h in start])
                expected = self.results(cell, x, rebuild(start, [h.contiguous() for h in states]))
                assert_all_close(f"{mode}: an initial state that is {what}", self.results(cell, x, states), expected)

    def test_autocast(self) -> None:
        """Under autocast to bfloat16 it runs, forward and backward, and stays near float32."""
        for mode, train in MODES.items():
            cell, x = self.make(dtype=torch.float32, train=train), self.inputs(5, 3, dtype=torch.float32)
            y, state = self.run(cell, x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                low, low_state = self.run(cell, x)
            assert_close(f"{mode}: the output under autocast to bfloat16", low, y, 0.1)
            for name, h, kept in zip(cell.state_names, low_state, state, strict=True):
                require(h.dtype == kept.dtype, f"state {name} is {h.dtype} under autocast, not {kept.dtype}")
            if low.requires_grad:
                torch.autograd.backward(low.float().sum())
                _finite_gradients(f"{mode}, under autocast", cell)

    def test_copies_and_pickles(self) -> None:
        """A deep copy and a pickled cell give the same, and share nothing with the original."""
        for mode, train in MODES.items():
            cell, x = self.make(train=train), self.inputs(4, 2)
            y, _ = self.run(cell, x)
            copied = copy.deepcopy(cell)
            assert_close(f"{mode}: the output of a deep copy", self.run(copied, x)[0], y, 0.0)
            if not any(parametrize.is_parametrized(module) for module in cell.modules()):  # torch does not pickle those
                assert_close(f"{mode}: the output after pickling", self.run(pickled(cell), x)[0], y, 0.0)
            with torch.no_grad():
                for value in [*copied.parameters(), *copied.buffers()]:
                    value.add_(1) if value.dtype != torch.bool else value.logical_not_()
            assert_close(f"{mode}: the output after a deep copy was changed", self.run(cell, x)[0], y, 0.0)
        mine, others = (
            {value.untyped_storage().data_ptr(): name for name, value in cell.state_dict().items() if value.numel()}
            for cell in (self.make(), self.make(seed=1))
        )
        shared = [name for place, name in mine.items() if place in others]
        require(not shared, f"two cells share the memory of {', '.join(shared)}")

    def test_exports(self) -> None:
        """torch.export takes it, for any batch size."""
        net = Recurrent(lambda **_: self.make(dtype=torch.float32), self.input_size, kernel="loop").eval()
        x = self.inputs(3, 4, dtype=torch.float32)
        quiet = io.StringIO()  # where it refuses, the exporter prints the graph that it has so far
        with warnings.catch_warnings(), redirect_stdout(quiet), redirect_stderr(quiet):
            warnings.simplefilter("ignore")
            shapes = ({1: torch.export.Dim("batch", min=2, max=64)},)
            program = torch.export.export(_Outputs(net), (x,), dynamic_shapes=shapes, strict=False)
        for batch in (4, 7):
            x = self.inputs(3, batch, seed=5, dtype=torch.float32)
            with torch.no_grad():
                assert_close(f"the exported program on {batch} rows", program.module()(x), net(x)[0], 1e-5)

    def test_every_kernel_equals_the_loop(self) -> None:
        """Each kernel registered for the cell gives the loop's outputs, states and gradients, for every option."""
        kernels = kernels_for(type(self.make()))
        if not kernels:
            raise SkipTest("no kernel is registered for it")
        refused = []
        for kernel in kernels:
            if reason := refusal_everywhere(kernel, self.cells):
                refused.append(f"{kernel.name} refuses here: {reason}")
            else:
                check_kernel(kernel, self.cells)
                self._over_options(kernel)
        if len(refused) == len(kernels):
            raise SkipTest("; ".join(refused))

    def _over_options(self, kernel: Kernel) -> None:
        mine = type(self)
        for chosen in combinations(mine.cell, self.options):
            options = {**self.options, **chosen}
            members = {"kernel": staticmethod(lambda: kernel), "cell": staticmethod(mine.cell), "options": options}
            checks: KernelBase = type("Over", (KernelBase,), {**members, "input_size": self.input_size})()
            with suppress(RefusedError):
                checks.core(f"kernel {kernel.name}, cell with {format_options(chosen)}")

    def test_compiled_equals_the_loop(self) -> None:
        """kernel=compiled gives the loop's outputs, states and gradients, or falls back to it."""
        check_kernel(Compiled(), self.cells, dtypes=[torch.float64])
        if reason := fault_of(self.make(train=True)):
            raise SkipTest(f"the loop runs instead: {reason}")

    def cells(self, count: int, dtype: torch.dtype) -> Sequence[Cell]:
        """Return one cell for each direction, in training mode unless it is then random."""
        made = [self.make(seed=seed, dtype=dtype, train=True) for seed in range(count)]
        return [cell.eval() for cell in made] if is_random(made[0]) else made

    def test_every_option(self) -> None:
        """Every value of a ``Literal``, ``bool`` or enum option: all checks; other numbers: a few."""
        mine, tried = type(self), False
        few = set(mine.checks()) - set(_OF_NUMBERS)
        changes = [(chosen, set(_ONCE)) for chosen in combinations(mine.cell, self.options) if self._takes(chosen)]
        for chosen, left_out in [*changes, *((one, few) for one in numeric(mine.cell, self.options, self._takes))]:
            tried = True
            skips = dict.fromkeys(left_out, "checked for the default options alone")
            members = {"options": {**self.options, **chosen}, "skips": {**self.skips, **skips}}
            for outcome in run_suite(type("Variant", (mine,), members)):
                fault = f"{format_options(chosen)}: {outcome.check.replace('_', ' ')}: {outcome.detail}"
                require(outcome.result != "failed" or self._fails(outcome.check), fault)
        if not tried:
            raise SkipTest("it has no such option, or all are set")

    def _takes(self, chosen: Mapping[str, Any]) -> bool:
        """Return whether the constructor takes these options; some go with others only."""
        with suppress(RefusedError):
            self.make(**chosen)
            return True
        return False

    def _fails(self, check: str) -> bool:
        """Return whether a check fails with the default options as well, and is reported there."""
        plain = type("Default", (type(self),), {"skips": {**self.skips, "every_option": "it is running"}})
        return any(one.result == "failed" for one in run_suite(plain, check) if one.check == check)


_OF_NUMBERS = (
    "evaluation_is_deterministic",
    "causality",
    "rows_are_independent",
    "state_carries_over_every_cut",
    "gradients_are_right",
)
_ONCE = ("every_option", "exports", "every_kernel_equals_the_loop", "compiled_equals_the_loop", "autocast")


def _finite_gradients(where: str, cell: Cell, x: Tensor | None = None) -> None:
    for name, tensor in [("the inputs", x), *cell.named_parameters()]:
        finite = tensor is None or tensor.grad is None or bool(tensor.grad.isfinite().all())
        require(finite, f"{where}: the gradient of {name} is not finite")


class _Outputs(nn.Module):
    """Returns the outputs of a network alone."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.net(x)[0])
