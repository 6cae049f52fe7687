"""Checks of a cell's gradients."""

import torch
from torch import Tensor

from seqlab.contracts import Cell, State
from seqlab.recurrence.scan import rebuild
from seqlab.testing.cells.values import MODES, CellMaking
from seqlab.testing.comparison import check_gradients, check_slopes
from seqlab.testing.probing import check_probe
from seqlab.testing.suite import agree, demand


class GradientChecks(CellMaking):
    """What training follows."""

    def test_gradients_are_right(self) -> None:
        """Gradients of inputs, parameters and initial state are those of finite differences, in both modes."""
        cell, x = self.make(), self.inputs(4, 2)
        check_gradients(cell, x, self.reached(cell, 2, 2))
        for one in self.settings():
            check_slopes(one.where, one.cell, one.x, self.reached(one.cell, 2, one.x.shape[1]))

    def test_frozen_parameters(self) -> None:
        """What else needs a gradient, and whether any is wanted, changes neither a result nor a gradient."""
        for mode, train in MODES.items():
            cell, x = self.make(train=train), self.inputs(6, 3)
            start = self.reached(cell, 2, 3)
            plain, right = self._passed(cell, x, start, frozenset())
            for context, name in ((torch.no_grad, "no_grad"), (torch.inference_mode, "inference_mode")):
                with context():
                    given = rebuild(start, [leaf.clone() for leaf in start])
                    y, end = self.run(cell, x.clone(), given)
                for what, value in self._named(cell, y, end).items():
                    agree(f"{mode}: {what} under {name}", value, plain[what], 1e-12)
            for frozen in [frozenset({name}) for name in right] + [frozenset(right) - {name} for name in right]:
                what = f"{mode}, {', '.join(sorted(frozen))} without a gradient"
                results, gradients = self._passed(cell, x, start, frozen)
                for name, value in (results | gradients).items():
                    agree(f"{what}: {name}", value, (plain | right)[name], 1e-12)

    def _passed(
        self, cell: Cell, x: Tensor, start: State, frozen: frozenset[str]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run forward and twice backward; give results, and the gradients of all but what is frozen."""
        x = x.clone().requires_grad_("the gradient of the inputs" not in frozen)
        leaves = [leaf.clone() for leaf in start]
        sources = {"the gradient of the inputs": x}
        for name, leaf in zip(cell.state_names, leaves, strict=True):
            if leaf.is_floating_point():
                sources[f"the gradient of initial state {name}"] = leaf
        own = {f"the gradient of {n}": p for n, p in cell.named_parameters() if p.requires_grad}
        sources |= own
        for name, source in sources.items():
            source.requires_grad_(name not in frozen)
        y, end = self.run(cell, x, rebuild(start, leaves))
        results = self._named(cell, y, end)
        wanted = {name: source for name, source in sources.items() if name not in frozen}
        total = torch.stack(
            [(part * part.detach().cos()).sum() for part in results.values() if part.is_floating_point()]
        ).sum()
        gradients: dict[str, Tensor] = {}
        if total.requires_grad:
            for turn in range(2):
                found = torch.autograd.grad(total, list(wanted.values()), retain_graph=True, allow_unused=True)
                pairs = zip(wanted.items(), found, strict=True)
                now = {
                    name: torch.zeros_like(s) if gradient is None else gradient.clone() for (name, s), gradient in pairs
                }
                for name, value in now.items() if turn else ():
                    agree(f"a second pass backward through one graph: {name}", value, gradients[name], 1e-12)
                gradients = now
        for parameter in own.values():
            parameter.requires_grad_(True)
        return {name: value.detach() for name, value in results.items()}, gradients

    def _named(self, cell: Cell, y: Tensor, end: State) -> dict[str, Tensor]:
        return {"the output": y} | {f"state {name}": leaf for name, leaf in zip(cell.state_names, end, strict=True)}

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
        x = self.inputs(8, 4)
        y = torch.cat([self.run(cell, x)[0], self.run(cell, x, self.reached(cell, 3, 4))[0]])
        if not y.requires_grad:
            return dict.fromkeys(parameters)
        weight = torch.randn_like(y)
        found = torch.autograd.grad((y * weight).sum(), list(parameters.values()), allow_unused=True)
        return dict(zip(parameters, found, strict=True))
