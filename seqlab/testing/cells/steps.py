"""Checks of a cell as one step, and of what a step may look at."""

import torch
from torch import Tensor

from seqlab.contracts import Cell, State
from seqlab.recurrence.state import same_structure
from seqlab.testing.cells.making import CellMaking
from seqlab.testing.suite import agree, demand


class StepChecks(CellMaking):
    """Shapes, and no look at the future, at padding or at other rows."""

    # What it is -------------------------------------------------------------------------------------------------------

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

    # What it may look at ----------------------------------------------------------------------------------------------

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
        pairs = zip(gradients, [x, *parameters.values()], strict=True)
        filled = [torch.zeros_like(of) if gradient is None else gradient for gradient, of in pairs]
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
