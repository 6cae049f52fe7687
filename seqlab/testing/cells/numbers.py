"""Checks of a cell's range of numbers."""

import torch
from torch import Tensor

from seqlab.recurrence.state import rebuild
from seqlab.testing.cells.making import MODES, CellMaking
from seqlab.testing.numbers import CASES, MODERATE, overflowed
from seqlab.testing.suite import agree, demand


class NumberChecks(CellMaking):
    """What float64 can do, float32 can."""

    def test_large_and_small_numbers(self) -> None:
        """Inputs a thousand times larger, tiny, zero and constant ones: finite in float32, forward and backward."""
        for mode, train in MODES.items():
            x = self.inputs(6, 3, dtype=torch.float32)
            plain = [self._results(dtype, train, x) for dtype in (torch.float32, torch.float64)]
            for name, value in plain[0].items():
                demand(bool(plain[1][name].isfinite().all()), f"{mode}: {name} is not finite")
                agree(f"{mode}: {name} in float32 against float64", value, plain[1][name], 1e-3)
            for what, change in CASES.items():
                given = change(x)
                low, high = (self._results(dtype, train, given) for dtype in (torch.float32, torch.float64))
                for name, value in high.items():
                    finite = what not in MODERATE or bool(value.isfinite().all())
                    demand(finite, f"{what}, {mode}: {name} is not finite, in float64 as well")
                overflowed(f"{what}, {mode}", low, high)
            for what, given in (
                ("300 steps", self.inputs(300, 2).float()),
                ("300 steps of ones", torch.ones(300, 2, x.shape[2])),
            ):
                low, high = (self._results(dtype, train, given) for dtype in (torch.float32, torch.float64))
                overflowed(f"{what}, {mode}", low, high)

    def _results(self, dtype: torch.dtype, train: bool, x: Tensor) -> dict[str, Tensor]:
        """Give outputs, final states and gradients, by name."""
        cell = self.make(dtype=dtype, train=train)
        x = x.to(dtype, copy=True).requires_grad_()
        own, sources = cell.initial_state(x[0]), {"the inputs": x}
        start = []
        for name, leaf in zip(cell.state_names, own, strict=True):
            if leaf.is_floating_point() and bool(leaf.isfinite().all()):
                sources[f"the initial state {name}"] = added = torch.zeros_like(leaf).requires_grad_()
                leaf = leaf + added  # as a learned initial state is differentiated
            start.append(leaf)
        y, end = self.run(cell, x, rebuild(own, start))
        found = {"the output": y} | {f"state {name}": leaf for name, leaf in zip(cell.state_names, end, strict=True)}
        found = {name: value for name, value in found.items() if value.is_floating_point()}
        total = torch.stack([value.mean() for value in found.values()]).sum()  # a mean, which does not itself overflow
        sources |= {name: p for name, p in cell.named_parameters() if p.requires_grad}
        results = {name: value.detach() for name, value in found.items()}
        if total.requires_grad:
            gradients = torch.autograd.grad(total, list(sources.values()), allow_unused=True)
            for name, gradient in zip(sources, gradients, strict=True):
                if gradient is not None and gradient.is_floating_point():
                    results[f"the gradient of {name}"] = gradient
        return results
