"""Checks of a cell's gradients."""

import torch
from torch import Tensor

from seqlab.contracts import Cell
from seqlab.testing.cells.making import CellMaking
from seqlab.testing.gradients import check_gradients, check_slopes
from seqlab.testing.probing import check_probe
from seqlab.testing.suite import demand


class GradientChecks(CellMaking):
    """What training follows."""

    def test_gradients_are_right(self) -> None:
        """Gradients of inputs, parameters and initial state are those of finite differences in float64, in both modes."""
        cell, x = self.make(), self.inputs(4, 2)
        check_gradients(cell, x, self.reached(cell, 2, 2))
        for one in self.settings():
            check_slopes(one.where, one.cell, one.x, self.reached(one.cell, 2, one.x.shape[1]))

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
