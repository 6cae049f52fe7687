"""Checks of other ways to run a cell, and of faster ones."""

import copy
import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import cast
from unittest import SkipTest

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from seqlab.contracts import Cell, Kernel
from seqlab.discovery.kernels import kernels_for
from seqlab.recurrence import Recurrent
from seqlab.recurrence.compiled import Compiled, fault_of
from seqlab.recurrence.state import rebuild
from seqlab.testing.cells.making import MODES, CellMaking
from seqlab.testing.choices import numeric, told, variants
from seqlab.testing.compare import check_kernel, refusal_everywhere
from seqlab.testing.kernels.making import KernelMaking
from seqlab.testing.layer import LAYOUTS
from seqlab.testing.making import RefusedError, is_random
from seqlab.testing.pickling import pickled
from seqlab.testing.suite import agree, demand, run_suite


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
        for chosen in variants(mine.cell, self.options):
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
            *((chosen, set(_ONCE)) for chosen in variants(mine.cell, self.options)),
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
