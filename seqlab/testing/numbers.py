"""Inputs that are large, small or constant, and how to tell an overflow."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from seqlab.testing.suite import demand

CASES: dict[str, Callable[[Tensor], Tensor]] = {
    "inputs 10 times larger": lambda x: 10 * x,
    "inputs 100 times larger": lambda x: 100 * x,
    "inputs 300 times larger": lambda x: 300 * x,
    "inputs 1000 times larger": lambda x: 1000 * x,
    "inputs 1e-10 times as large": lambda x: 1e-10 * x,
    "inputs 1e-30 times as large": lambda x: 1e-30 * x,
    "denormal inputs": lambda x: x.sign() * torch.full((), 1e-40, dtype=x.dtype),
    "inputs of zero": torch.zeros_like,
    "inputs of one": torch.ones_like,
    "inputs that are the same at every step": lambda x: x[:1].expand(x.shape).contiguous(),
    "inputs that are -1000 throughout": lambda x: torch.full_like(x, -1000.0),
}
"""From an ordinary input to an extreme one."""

MODERATE = frozenset(CASES) - {
    "inputs 100 times larger",
    "inputs 300 times larger",
    "inputs 1000 times larger",
    "inputs that are -1000 throughout",
}
"""Those for which nothing may be NaN or infinite, whatever the precision."""


def overflowed(
    where: str,
    actual: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    excused: Mapping[str, Tensor] | None = None,
) -> None:
    """Demand that float32 is finite wherever float64 is finite and within the range of float32.

    Args:
        where: what a failure's message begins with.
        actual: results in float32, by name.
        expected: the same of the loop in float64.
        excused: the same of the loop in float32; where that is not finite, the cell is to blame.
    """
    for name, value in actual.items():
        if not value.is_floating_point() or value.shape != expected[name].shape:
            continue
        wrong = ~value.isfinite() & expected[name].to(value.dtype).isfinite()
        if excused is not None:
            wrong &= excused[name].isfinite()
        largest = float(expected[name].abs().nan_to_num(posinf=0).max()) if value.numel() else 0.0
        demand(
            not bool(wrong.any()),
            f"{where}: overflow: {name} has {int(wrong.sum())} of {value.numel()} entries that are NaN or infinite in "
            f"float32; in float64 they are finite, at most {largest:.3g}",
        )
