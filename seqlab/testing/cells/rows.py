"""Checks of what a step may look at: no future, no padding, no other row, no data in its initial state."""

import torch
from torch import Tensor

from seqlab.contracts import Cell, State
from seqlab.testing.cells.making import MODES, CellMaking, Setting
from seqlab.testing.making import is_random
from seqlab.testing.suite import agree, demand


class RowChecks(CellMaking):
    """No look at the future, at padding, at other rows or at how much of anything there is."""

    def test_initial_state_is_fixed(self) -> None:
        """The initial state is the same for every row and every input, NaN included, of any width."""
        for mode, train in MODES.items():
            cell, like = self.make(train=train), self.inputs(1, 4)[0]
            wanted = _initial(cell, like)
            for what, other in {
                "another input": 3 * self.inputs(1, 4, seed=2)[0],
                "zeros": torch.zeros_like(like),
                "NaN, as padding may hold": torch.full_like(like, torch.nan),
                "one feature": like[:, :1],
            }.items():
                for name, leaf, kept in zip(cell.state_names, _initial(cell, other), wanted, strict=True):
                    agree(f"{mode}: initial state {name} for {what}", leaf, kept, 0.0)
            if is_random(cell):
                continue
            for batch in (1, 3, 130):
                many = _initial(cell, like.new_zeros(batch, like.shape[1]))
                for name, leaf, kept in zip(cell.state_names, many, wanted, strict=True):
                    agree(f"{mode}: initial state {name} for {batch} rows", leaf, kept[:1].expand(leaf.shape), 0.0)

    def test_causality_by_gradient(self) -> None:
        """The gradient of the output at t with respect to every later input is zero."""
        for one in self.settings(large=True):
            x = one.x.clone().requires_grad_()
            y, _ = self.run(one.cell, x)
            for t in _places(len(x)) if y.requires_grad else ():
                (gradient,) = torch.autograd.grad(y[t].sum(), x, retain_graph=True, allow_unused=True)
                later = 0.0 if gradient is None else float(gradient[t + 1 :].abs().max())
                fault = f"{one.where}: the output at step {t} has a gradient of {later:.3g} in an input after it"
                demand(later == 0, fault)

    def test_causality_by_perturbation(self) -> None:
        """Another future leaves the past as it was."""
        for one in self.settings(large=True):
            other = 3 * self.inputs(*one.x.shape[:2], seed=2, size=one.cell.input_size)
            y, _ = self.run(one.cell, one.x)
            for t in _places(len(one.x)):
                changed, _ = self.run(one.cell, torch.cat([one.x[: t + 1], other[t + 1 :]]))
                agree(
                    f"{one.where}: the outputs up to step {t}, with other inputs after it", changed[: t + 1], y[: t + 1]
                )

    def test_rows_are_independent(self) -> None:
        """A row gives the same alone, in a batch, in another order and beside others; no gradient crosses over."""
        for one in self.settings(large=True):
            x = one.x.clone().requires_grad_()
            y, state = self.run(one.cell, x)
            if y.requires_grad:
                (gradient,) = torch.autograd.grad(y[:, 0].sum(), x, allow_unused=True)
                crossed = 0.0 if gradient is None else float(gradient[:, 1:].abs().max())
                fault = f"{one.where}: the output of row 0 has a gradient of {crossed:.3g} in the input of another row"
                demand(crossed == 0, fault)
            self._other_neighbours(one, y, state)
            if not one.random:
                self._reordered(one, y, state)

    def _other_neighbours(self, one: Setting, y: Tensor, state: State) -> None:
        other = 3 * self.inputs(*one.x.shape[:2], seed=2, size=one.cell.input_size)
        for row in {0, one.x.shape[1] - 1}:
            beside = other.clone()
            beside[:, row] = one.x[:, row]
            got, end = self.run(one.cell, beside)
            agree(f"{one.where}: row {row}, beside other rows", got[:, row], y[:, row])
            for name, leaf, kept in zip(one.cell.state_names, end, state, strict=True):
                agree(f"{one.where}: state {name} of row {row}, beside other rows", leaf[row], kept[row])

    def _reordered(self, one: Setting, y: Tensor, state: State) -> None:
        batch = one.x.shape[1]
        order = torch.randperm(batch, generator=torch.Generator().manual_seed(3))
        permuted, permuted_state = self.run(one.cell, one.x[:, order])
        agree(f"{one.where}: the outputs of the rows in another order", permuted, y[:, order])
        for name, actual, expected in zip(one.cell.state_names, permuted_state, state, strict=True):
            agree(f"{one.where}: state {name} of the rows in another order", actual, expected[order])
        for row in {0, 1, batch // 2, batch - 1}:
            alone, end = self.run(one.cell, one.x[:, row : row + 1])
            agree(f"{one.where}: row {row} alone against the same row in a batch", alone, y[:, row : row + 1])
            for name, actual, expected in zip(one.cell.state_names, end, state, strict=True):
                agree(f"{one.where}: state {name} of row {row} alone", actual, expected[row : row + 1])

    def test_padding_is_invisible(self) -> None:
        """NaN in the padding and more of it change no output, state or gradient."""
        for mode, train in MODES.items():
            cell, x = self.make(train=train), self.inputs(6, 5)
            lengths = torch.tensor([6, 1, 3, 4, 0])
            dead = torch.arange(6).unsqueeze(1) >= lengths
            poisoned = x.masked_fill(dead.unsqueeze(-1), torch.nan)
            plain = self._pass(cell, x, lengths)
            for name, gradient in [("the inputs", plain[2]), *plain[3].items()]:
                finite = bool(gradient.isfinite().all())
                demand(
                    finite,
                    f"{mode}: zeros in the padding, as every cell gets them: the gradient of {name} is not finite",
                )
            padded = {"NaN in the padding": poisoned}
            if not is_random(cell):
                padded["three more steps of padding"] = torch.cat([poisoned, torch.full_like(x[:3], torch.nan)])
                short, _ = self.run(cell, x[:3, 2:3])
                agree(f"{mode}: a padded row against the same row alone", plain[0][:3, 2:3], short)
            for what, given in padded.items():
                self._same_pass(f"{mode}: {what}", cell, plain, self._pass(cell, given, lengths))

    def _same_pass(self, where: str, cell: Cell, plain: "_Pass", got: "_Pass") -> None:
        agree(f"{where}: outputs", got[0][:6], plain[0])
        demand(not bool(got[0][6:].any()), f"{where}: the outputs of padding are not zero")
        for name, actual, expected in zip(cell.state_names, got[1], plain[1], strict=True):
            agree(f"{where}: final state {name}", actual, expected)
        agree(f"{where}: gradient of the inputs", got[2][:6], plain[2])
        for name, actual, expected in zip(plain[3], got[3].values(), plain[3].values(), strict=True):
            agree(f"{where}: gradient of {name}", actual, expected)

    def _pass(self, cell: Cell, x: Tensor, lengths: Tensor) -> "_Pass":
        x = x.clone().requires_grad_()
        y, state = self.run(cell, x, None, lengths)
        parameters = {name: p for name, p in cell.named_parameters() if p.requires_grad}
        sources = [x, *parameters.values()]
        total = y.sum() + sum(leaf.sum() for leaf in state if leaf.is_floating_point())
        found = torch.autograd.grad(total, sources, allow_unused=True) if total.requires_grad else [None] * len(sources)
        filled = [torch.zeros_like(of) if one is None else one for one, of in zip(found, sources, strict=True)]
        return y.detach(), state, filled[0], dict(zip(parameters, filled[1:], strict=True))


_Pass = tuple[Tensor, State, Tensor, dict[str, Tensor]]
"""Outputs, final state, gradient of the inputs, and those of the parameters by name."""


def _initial(cell: Cell, like: Tensor) -> State:
    torch.manual_seed(11)
    return cell.initial_state(like)


def _places(time: int) -> list[int]:
    """Choose steps after which something is changed: all of a short run."""
    return list(range(time - 1)) if time <= 10 else [0, 1, 17, 64, 100, time - 2]
