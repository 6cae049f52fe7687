"""Checks that the calls of a cell leave no trace."""

import copy
import io
import warnings
from collections.abc import Sequence
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
from seqlab.testing.cells.values import MODES, CellMaking
from seqlab.testing.comparison import check_kernel, refusal_everywhere
from seqlab.testing.inputs import RefusedError, is_random
from seqlab.testing.kernels.values import KernelMaking
from seqlab.testing.layer import LAYOUTS
from seqlab.testing.options import combinations, numeric, told
from seqlab.testing.process import Trainable, pickled, random_states, seed_all, unchanged, unusual_settings
from seqlab.testing.suite import agree, demand, run_suite


class CallChecks(CellMaking):
    """The same call gives the same, whatever came before it, and changes nothing."""

    def test_evaluation_is_deterministic(self) -> None:
        """In evaluation nothing is random, in training torch's seed decides, and nothing sets that seed."""
        cell, twin, x = self.make(), self.make(), self.inputs(5, 3)
        twin.load_state_dict(cell.state_dict())
        y, end = self.run(cell, x, seed=11)
        again, again_end = self.run(twin, x, seed=12)
        agree("two evaluations of the same input, with other random numbers,", again, y, 0.0)
        for name, leaf, kept in zip(cell.state_names, again_end, end, strict=True):
            agree(f"state {name} after two evaluations of the same input, with other random numbers,", leaf, kept, 0.0)
        for mode, train in MODES.items():
            found, after = [], []
            for turn, seed in enumerate((3, 4, 3)):
                cell = self.make(train=train)
                seed_all(turn)  # run sets torch's seed
                found.append(self.run(cell, x, seed=seed)[0])
                after.append(random_states())
            agree(f"two runs in {mode} from one seed", found[2], found[0], 0.0)
            for whose in after[0]:
                fixed = after[0][whose] == after[1][whose]
                fault = f"a call in {mode} sets {whose}'s seed: what is drawn after it is the same after any seed"
                demand(not fixed, fault)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        demand(default == torch.float32, f"it sets torch's default dtype to {default}")
        after = []
        for seed in (3, 4):
            seed_all(seed)
            self.make(seed=seed)
            after.append(random_states())
        for whose in after[0]:
            fixed = after[0][whose] == after[1][whose]
            fault = f"the constructor sets {whose}'s seed: all weights drawn after it are the same after any seed"
            demand(not fixed, fault)

    def test_no_memory_between_calls(self) -> None:
        """A call does not change what the next one gives, nor a parameter or buffer, in training or in evaluation."""
        for train_between in MODES.values():
            for mode, train in MODES.items():
                self._no_memory(mode, train, train_between)

    def _no_memory(self, mode: str, train: bool, train_between: bool) -> None:
        cell, x = self.make(train=train), self.inputs(5, 3)
        kept = {name: value.clone() for name, value in cell.state_dict().items()}
        y, _ = self.run(cell, x)
        other = self.make(train=train_between)
        for called in (cell, other):
            called.train(train_between)
            for shape in ((7, 2), (5, 3), (1, 3), (140, 2), (2, 130)):
                self.run(called, self.inputs(*shape, seed=sum(shape)), seed=5)
            with torch.no_grad():
                for seed in range(12):
                    self.run(called, self.inputs(5, 3, seed=40 + seed), seed=6)
        cell.train(train)
        between = "training" if train_between else "evaluation"
        added = ", ".join(sorted(cell.state_dict().keys() ^ kept.keys()))
        demand(not added, f"{added}: a parameter or buffer that comes or goes with a call, which no optimizer knows")
        for name, value in cell.state_dict().items():
            agree(f"{name} after calls in {between}, which must keep nothing,", value, kept[name], 0.0)
        again, _ = self.run(cell, x)
        agree(f"the same call in {mode}, after others in {between} on other inputs,", again, y, 1e-12)
        first, middle = self.run(cell, x[:2])
        self.run(cell, self.inputs(4, 7, seed=8))
        second, _ = self.run(cell, x[2:], middle)
        if not is_random(cell):
            where = f"a run in {mode} that goes on from its state after a run of another batch"
            agree(where, torch.cat([first, second]), y, 1e-12)
        fresh, _ = self.run(self.make(train=train), x)
        agree(f"a call in {mode} of a new cell of the same seed, after calls of others in {between},", fresh, y, 1e-12)

    def test_sees_changed_parameters(self) -> None:
        """Parameters that were loaded or changed in place since the last call are seen."""
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
        fresh = self.make(seed=2, train=train)
        fresh.load_state_dict(other.state_dict())
        wanted, _ = self.run(fresh, x)
        got, _ = self.run(other, x)
        agree(f"{where}: the output after weights were changed in place between two calls", got, wanted, 1e-12)
        cell.load_state_dict(other.state_dict())
        got, _ = self.run(cell, x)
        agree(f"{where}: the output after weights were loaded between two calls", got, wanted, 1e-12)
        for changed in (cell, fresh):
            for parameter in changed.parameters():
                parameter.data.mul_(0.9)
        wanted, got = (self.run(one, x)[0] for one in (self._twin(fresh, train), cell))
        agree(f"{where}: the output after weights were changed through .data between two calls", got, wanted, 1e-12)

    def _twin(self, cell: Cell, train: bool) -> Cell:
        """Make a cell that was never called, of the same weights."""
        twin = self.make(seed=3, train=train)
        twin.load_state_dict(cell.state_dict())
        return twin

    def test_input_is_left_alone(self) -> None:
        """Neither the input, the state that comes in nor an earlier result is changed in place."""
        for mode, train in MODES.items():
            for grad in (False, True):
                where = f"{mode}, {'with' if grad else 'without'} gradients"
                cell, x = self.make(train=train), self.inputs(4, 2)
                with torch.set_grad_enabled(grad):
                    before = x.clone()
                    for state in (self.reached(cell, 2, 2), cell.initial_state(x[0])):
                        leaves = [leaf.clone() for leaf in state]
                        self.run(cell, x, state)
                        agree(f"{where}: the input after a call against before it", x, before, 0.0)
                        for name, leaf, kept in zip(cell.state_names, state, leaves, strict=True):
                            agree(f"{where}: state {name} after a call against before it", leaf, kept, 0.0)
                    self._steps_left_alone(where, cell, x)

    def _steps_left_alone(self, where: str, cell: Cell, x: Tensor) -> None:
        """Hold each step's arguments, and the results of all earlier ones, against copies of them."""
        torch.manual_seed(11)
        state = cell.initial_state(x[0])
        fresh = not is_random(cell)
        start = [leaf.clone() for leaf in state]
        projected = cell.project(x)
        watched: list[tuple[str, Tensor, Tensor]] = []
        _watch(watched, "the initial state", cell, state)
        for t, x_t in enumerate(projected):
            given = x_t.clone()
            y, state = cell.step(x_t, state)
            agree(f"{where}: what project gave for step {t}, after the step", x_t, given, 0.0)
            for name, tensor, kept in watched:
                agree(f"{where}: {name}, after step {t}", tensor, kept, 0.0)
            watched.append((f"the output of step {t}", y, y.detach().clone()))
            _watch(watched, f"the state after step {t}", cell, state)
        if fresh:
            for name, leaf, kept in zip(cell.state_names, cell.initial_state(x[0]), start, strict=True):
                agree(f"{where}: initial_state {name} after steps against before them", leaf, kept, 0.0)

    def test_settings_are_left_alone(self) -> None:
        """Neither torch's settings, the cell's mode, nor ``requires_grad`` and ``.grad`` of a parameter are changed."""
        for mode, train in MODES.items():
            with unusual_settings() as before:
                self._settings_left_alone(mode, train, before)

    def _settings_left_alone(self, mode: str, train: bool, before: dict[str, Any]) -> None:
        cell, x = self.make(train=train), self.inputs(3, 2)
        unchanged("the constructor", before)
        kept = Trainable([cell])
        for grad in (True, False):
            where = f"a call in {mode}, {'with' if grad else 'without'} gradients,"
            with torch.set_grad_enabled(grad):
                y, end = self.run(cell, x)
            follows = [
                name
                for name, value in zip(("the output", *cell.state_names), (y, *end), strict=True)
                if value.requires_grad
            ]
            demand(grad or not follows, f"{where} gives {', '.join(follows)} with a gradient to follow")
            unchanged(where, before)
            kept.unchanged(where)

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
                first = str(error).splitlines()[0]
                raise AssertionError(f"{mode}: training after a call under inference_mode raises: {first}") from error
            agree(f"{mode}: the output after a call under inference_mode", y, wanted, 1e-12)


def _watch(watched: list[tuple[str, Tensor, Tensor]], what: str, cell: Cell, state: State) -> None:
    for name, leaf in zip(cell.state_names, state, strict=True):
        watched.append((f"{name} of {what}", leaf, leaf.detach().clone()))


class PathChecks(CellMaking):
    """Whatever runs it, it gives the same."""

    # Other ways to run it ---------------------------------------------------------------------------------------------

    def test_memory_layout(self) -> None:
        """Inputs and states that are not contiguous, or part of a larger tensor, give the same as those that are."""
        for mode, train in MODES.items():
            cell, x = self.make(train=train), self.inputs(5, 4)
            if is_random(cell):  # dropout's mask follows the layout
                continue
            start = self.reached(cell, 2, 4)
            for what, layout in LAYOUTS.items():
                given = layout(x)
                y, end = self.run(cell, given.contiguous(), start)
                got, got_end = self.run(cell, given, start)
                agree(f"{mode}: an input that is {what}", got, y)
                states = rebuild(start, [layout(leaf) if leaf.dim() > 1 else leaf for leaf in start])
                y, end = self.run(cell, x, rebuild(start, [leaf.contiguous() for leaf in states]))
                got, got_end = self.run(cell, x, states)
                agree(f"{mode}: an initial state that is {what}", got, y)
                for name, leaf, kept in zip(cell.state_names, got_end, end, strict=True):
                    agree(f"{mode}: an initial state that is {what}: state {name}", leaf, kept)

    def test_autocast(self) -> None:
        """Under autocast to bfloat16 it runs, forward and backward, and stays near float32."""
        for mode, train in MODES.items():
            cell, x = self.make(dtype=torch.float32, train=train), self.inputs(5, 3, dtype=torch.float32)
            y, state = self.run(cell, x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                low, low_state = self.run(cell, x)
            agree(f"{mode}: the output under autocast to bfloat16", low, y, 0.1)
            for name, leaf, kept in zip(cell.state_names, low_state, state, strict=True):
                demand(leaf.dtype == kept.dtype, f"state {name} is {leaf.dtype} under autocast, not {kept.dtype}")
            if low.requires_grad:
                torch.autograd.backward(low.float().sum())
                for name, parameter in cell.named_parameters():
                    finite = parameter.grad is None or bool(parameter.grad.isfinite().all())
                    demand(finite, f"{mode}: the gradient of {name} is not finite under autocast")

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
        for mode, train in MODES.items():
            cell, x = self.make(train=train), self.inputs(4, 2)
            y, _ = self.run(cell, x)
            copied = copy.deepcopy(cell)
            got, _ = self.run(copied, x)
            agree(f"{mode}: the output of a deep copy", got, y, 0.0)
            if not any(parametrize.is_parametrized(module) for module in cell.modules()):  # torch does not pickle those
                got, _ = self.run(pickled(cell), x)
                agree(f"{mode}: the output after pickling", got, y, 0.0)
            with torch.no_grad():
                for value in [*copied.parameters(), *copied.buffers()]:
                    value.add_(1) if value.dtype != torch.bool else value.logical_not_()
            again, _ = self.run(cell, x)
            agree(f"{mode}: the output after a deep copy was changed", again, y, 0.0)
        one, other = self.make(), self.make(seed=1)
        mine = {value.untyped_storage().data_ptr(): name for name, value in one.state_dict().items() if value.numel()}
        shared = [
            mine[v.untyped_storage().data_ptr()]
            for v in other.state_dict().values()
            if v.untyped_storage().data_ptr() in mine
        ]
        demand(not shared, f"two cells share the memory of {', '.join(shared)}")

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

    # Faster paths -----------------------------------------------------------------------------------------------------

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
            made = {"kernel": staticmethod(lambda: kernel), "cell": staticmethod(mine.cell), "options": options}
            checks: KernelMaking = type("Over", (KernelMaking,), {**made, "input_size": self.input_size})()
            with suppress(RefusedError):
                checks.core(f"kernel {kernel.name}, cell with {told(chosen)}")

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

    # Options ----------------------------------------------------------------------------------------------------------

    def test_every_option(self) -> None:
        """Every value of a ``Literal``, ``bool`` or enum option: all checks; other numbers: a few."""
        tried, mine = 0, type(self)
        settled = set[str]()
        few = set(mine.checks()) - set(_OF_NUMBERS)
        for chosen, left_out in [
            *((chosen, set(_ONCE)) for chosen in combinations(mine.cell, self.options)),
            *(({name: value}, few) for name, values in numeric(mine.cell, self.options).items() for value in values),
        ]:
            skips = dict.fromkeys(left_out, "checked for the default options alone")
            made = {"options": {**self.options, **chosen}, "skips": {**self.skips, **skips}}
            if left_out is few and settled & set(chosen):
                continue  # one other number is enough
            try:
                type("Variant", (mine,), made)().make()
            except RefusedError:  # this value goes with another one only
                continue
            tried += 1
            settled |= set(chosen)
            for outcome in run_suite(type("Variant", (mine,), made)):
                fault = f"{told(chosen)}: {outcome.check.replace('_', ' ')}: {outcome.detail}"
                demand(outcome.result != "failed" or self._fails(outcome.check), fault)
        if not tried:
            raise SkipTest("it has no such option, or none is left open")

    def _fails(self, check: str) -> bool:
        """Whether a check fails with the default options as well, and is told of there."""
        plain = type("Default", (type(self),), {"skips": {**self.skips, "every_option": ""}})
        return any(one.result == "failed" for one in run_suite(plain, check) if one.check == check)


_OF_NUMBERS = (
    "evaluation_is_deterministic",
    "causality_by_perturbation",
    "rows_are_independent",
    "state_carries_over_every_cut",
    "gradients_are_right",
)
_ONCE = ("every_option", "exports", "every_kernel_equals_the_loop", "compiled_equals_the_loop", "autocast")


class _Outputs(nn.Module):
    """A network of which only the outputs are of interest."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.net(x)[0])
