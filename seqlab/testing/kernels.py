"""Checks that every kernel must pass."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor, nn

from seqlab.contracts import Cell, Kernel
from seqlab.recurrence.choose import Loop
from seqlab.testing.compare import check_once, draw, refusal_everywhere, starts
from seqlab.testing.making import make_cell
from seqlab.testing.suite import Suite, agree, demand


class KernelSuite(Suite):
    """Checks of a kernel against the reference loop; a subclass names it.

    Attributes:
        kernel: its type, or a factory without arguments.
        cell: makes the cell it scans; the type in ``Kernel.cell`` unless stated.
        options: what the cell's constructor is to be given besides the sizes.
        input_size: features of one input step.
    """

    kernel: ClassVar[Callable[[], Kernel]]
    cell: ClassVar[Callable[..., Cell] | None] = None
    options: ClassVar[Mapping[str, Any]] = {}
    input_size: ClassVar[int] = 3

    def make(self) -> Kernel:
        """Make the kernel."""
        kernel = type(self).kernel()
        demand(isinstance(kernel, Kernel), f"it is a {type(kernel).__name__}, and no seqlab.Kernel")
        return kernel

    def cells(self, count: int, dtype: torch.dtype) -> Sequence[Cell]:
        """Make one cell for each direction."""
        factory = type(self).cell or self.make().cell
        arguments = {"input_size": self.input_size, **self.options}
        return [make_cell(factory, arguments, seed=seed, dtype=dtype, train=True) for seed in range(count)]

    def setup_method(self, method: Callable[..., Any]) -> None:
        """Seed the random numbers; skip where the kernel refuses all that could be asked of it here."""
        super().setup_method(method)
        if reason := refusal_everywhere(self.make(), self.cells):
            raise SkipTest(f"it refuses here: {reason}")

    def _hold(self, what: str, lengths: Tensor | None, *, directions: int = 1, batch: int = 4, **more: Any) -> None:
        kernel = self.make()
        for dtype in (torch.float64, torch.float32):
            x = draw(self.cells, dtype, batch)
            check_once(kernel, self.cells(directions, dtype), x, lengths, f"{what}, {dtype}", **more)

    def test_names_its_cell(self) -> None:
        """It says what it is called, and which type of cell it scans."""
        kernel = self.make()
        demand(isinstance(getattr(kernel, "name", None), str), "it has no name")
        cell = getattr(kernel, "cell", None)
        demand(isinstance(cell, type) and issubclass(cell, Cell), f"its cell is {cell!r}, which is no type of Cell")

    def test_full_rows(self) -> None:
        """Rows that fill all steps: the loop's outputs, states and gradients."""
        self._hold("full rows", None)

    def test_ragged_rows(self) -> None:
        """Rows of unequal length: the same, with zeros as the outputs of padding."""
        self._hold("ragged rows", torch.tensor([7, 1, 4, 6]), poison=False)

    def test_empty_rows(self) -> None:
        """A row of length 0 keeps its initial state."""
        self._hold("rows of length 0", torch.tensor([0, 7, 3, 0]), poison=False)

    def test_nan_in_the_padding(self) -> None:
        """What stands in the padding reaches no output, state or gradient."""
        self._hold("NaN in the padding", torch.tensor([7, 1, 4, 6]))

    def test_both_directions(self) -> None:
        """A second cell reads each row backward within its length."""
        self._hold("both directions", None, directions=2)
        self._hold("both directions, ragged rows", torch.tensor([3, 7, 1, 5]), directions=2)

    def test_one_step_and_one_row(self) -> None:
        """One step and one row are no special case."""
        kernel = self.make()
        for time, batch in ((1, 1), (1, 4), (7, 1)):
            x = draw(self.cells, torch.float64, batch, time)
            check_once(kernel, self.cells(1, x.dtype), x, None, f"{time} steps, {batch} rows")
            x = x.float()
            check_once(kernel, self.cells(1, x.dtype), x, None, f"{time} steps, {batch} rows, float32")

    def test_state_carries_over_every_cut(self) -> None:
        """Two runs joined by the state are the run in one."""
        kernel, cells, x = self._accepted()
        states = starts(cells, x)
        whole, (end,) = kernel.scan(cells, x, states, None)
        for cut in range(1, len(x)):
            first, middle = kernel.scan(cells, x[:cut], states, None)
            second, (last,) = kernel.scan(cells, x[cut:], middle, None)
            agree(f"the outputs of a run cut at step {cut}", torch.cat([first, second]), whole, 1e-5)
            for name, actual, leaf in zip(cells[0].state_names, last, end, strict=False):
                agree(f"state {name} of a run cut at step {cut}", actual, leaf, 1e-5)

    def test_outputs_without_the_state(self) -> None:
        """Where nobody asks for the final state: the same outputs, and the same gradients from them."""
        kernel, cells, x = self._accepted()
        cells = self.cells(2, x.dtype)
        lengths = torch.tensor([3, len(x), 1, 5])
        if reason := kernel.refuses(cells, x, lengths):
            raise SkipTest(f"it refuses ragged rows in both directions: {reason}")
        parameters = [parameter for cell in cells for parameter in cell.parameters()]
        found = []
        for way in (lambda *given: kernel.scan(*given)[0], kernel.outputs):
            given = x.clone().requires_grad_()
            y = way(cells, given, starts(cells, x), lengths)
            weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64).to(y.dtype)
            gradients = torch.autograd.grad((y * weight).sum(), [given, *parameters], allow_unused=True)
            sources = [given, *parameters]
            filled = [torch.zeros_like(s) if g is None else g for g, s in zip(gradients, sources, strict=True)]
            found.append([y.detach(), *filled])
        names = ["the outputs", "the gradient of the inputs", *(f"the gradient of parameter {i}" for i in range(99))]
        for name, alone, both in zip(names, found[1], found[0], strict=False):
            agree(f"{name} without the final state", alone, both, 1e-4)

    def test_frozen_parameters(self) -> None:
        """It runs without gradients, and with some parameters that need none."""
        kernel, cells, x = self._accepted()
        states = starts(cells, x)
        expected, _ = Loop().scan(cells, x, states, None)
        with torch.no_grad():
            y, _ = kernel.scan(cells, x, states, None)
        agree("the outputs without gradients", y, expected, 1e-4)
        parameters = list(cells[0].parameters())
        for parameter in parameters[::2]:
            parameter.requires_grad_(False)
        y, _ = kernel.scan(cells, x, states, None)
        agree("the outputs with frozen parameters", y, expected, 1e-4)
        if y.requires_grad:
            torch.autograd.backward(y.sum())
        thawed = [p for p in parameters[1::2] if p.requires_grad]
        demand(all(p.grad is None for p in parameters[::2]), "a frozen parameter got a gradient")
        if thawed:
            got = any(p.grad is not None for p in thawed)
            demand(got, "with some parameters frozen, the others get no gradient")

    def test_memory_layout(self) -> None:
        """An input that is not contiguous gives the same as one that is."""
        kernel, cells, x = self._accepted()
        states = starts(cells, x)
        y, _ = kernel.scan(cells, x, states, None)
        layouts = {
            "transposed": x.transpose(0, 1).contiguous().transpose(0, 1),
            "strided": torch.stack([x, x], dim=-1)[..., 0],
        }
        for name, view in layouts.items():
            if kernel.refuses(cells, view, None) is None:
                got, _ = kernel.scan(cells, view, states, None)
                agree(f"an input {name}", got, y, 1e-6)

    def test_input_is_left_alone(self) -> None:
        """Neither the input nor the state that comes in, nor a parameter, is changed in place."""
        kernel, cells, x = self._accepted()
        states = starts(cells, x)
        kept, leaves = x.clone(), [leaf.detach().clone() for leaf in states[0]]
        weights = copy.deepcopy(dict(cells[0].state_dict()))
        with torch.no_grad():
            kernel.scan(cells, x, states, torch.tensor([len(x), 1, 4, 6]))
        agree("the input after a call against before it", x, kept, 0.0)
        for name, leaf, before in zip(cells[0].state_names, states[0], leaves, strict=True):
            agree(f"state {name} after a call against before it", leaf, before, 0.0)
        for name, value in cells[0].state_dict().items():
            agree(f"{name} after a call against before it", value, weights[name], 0.0)

    def test_no_memory_between_calls(self) -> None:
        """A call does not change what the next one gives, and sees parameters that were changed since."""
        kernel, cells, x = self._accepted()
        states = starts(cells, x)
        y, _ = kernel.scan(cells, x, states, None)
        kernel.scan(cells, 2 * x[:3], states, None)
        again, _ = kernel.scan(cells, x, states, None)
        agree("the same call after another", again, y, 1e-6)
        with torch.no_grad():
            for parameter in cells[0].parameters():
                parameter.mul_(0.5)
        new, _ = kernel.scan(cells, x, states, None)
        expected, _ = Loop().scan(cells, x, states, None)
        agree("after the parameters were changed in place: the outputs", new, expected, 1e-4)

    def test_parameters_are_the_cells(self) -> None:
        """It holds no parameters of its own, so that checkpoints fit every path."""
        kernel = self.make()
        owned = [name for name, value in vars(kernel).items() if isinstance(value, Tensor | nn.Module)]
        demand(not owned, f"it holds {', '.join(owned)}")

    def test_refuses_what_it_cannot_do(self) -> None:
        """``refuses`` gives None or a reason, whatever the input; what it does not refuse, it does."""
        kernel, cells, x = self._accepted()
        odd: dict[str, tuple[Tensor, Tensor | None]] = {
            "float16": (x.half(), None),
            "bfloat16": (x.bfloat16(), None),
            "no steps": (x[:0], None),
            "no rows": (x[:, :0], None),
            "lengths that all are full": (x, torch.full((x.shape[1],), len(x))),
        }
        for what, (given, lengths) in odd.items():
            own = [copy.deepcopy(cell).to(given.dtype) for cell in cells]
            reason = kernel.refuses(own, given, lengths)
            demand(reason is None or isinstance(reason, str), f"{what}: refuses gives {reason!r}")
            demand(reason != "", f"{what}: refuses gives an empty reason")
            if reason is None:
                states = [cell.initial_state(given.new_zeros(given.shape[1], 1)) for cell in own]
                y, ends = kernel.scan(own, given, states, lengths)
                shape = (*given.shape[:2], own[0].output_size)
                demand(tuple(y.shape) == shape, f"{what}: the outputs are {tuple(y.shape)}, not {shape}")
                demand(len(ends) == len(own), f"{what}: {len(ends)} final states for {len(own)} cells")

    def _accepted(self) -> tuple[Kernel, Sequence[Cell], Tensor]:
        kernel = self.make()
        for dtype in (torch.float64, torch.float32):
            cells, x = self.cells(1, dtype), draw(self.cells, dtype, 4)
            if kernel.refuses(cells, x, None) is None:
                return kernel, cells, x
        raise SkipTest("it refuses both float64 and float32")
