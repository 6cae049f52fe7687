"""Checks of other ways to run a cell, and of faster ones."""

import copy
import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import cast
from unittest import SkipTest

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from seqlab.contracts import Cell
from seqlab.discovery.kernels import kernels_for
from seqlab.recurrence import Recurrent, scan
from seqlab.recurrence.compiled import Compiled, fault_of
from seqlab.testing.cells.making import CellMaking
from seqlab.testing.compare import check_kernel, refusal_everywhere
from seqlab.testing.pickling import pickled
from seqlab.testing.suite import agree, demand


class PathChecks(CellMaking):
    """Whatever runs it, it gives the same."""

    # Other ways to run it ---------------------------------------------------------------------------------------------

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

    # Faster paths -----------------------------------------------------------------------------------------------------

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
