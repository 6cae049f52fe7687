"""Comparison of GPU kernels with the loop in float64, for ``gpu_campaign.py``."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from gpu_measure import drawn, precision
from gpu_points import Point
from torch import Tensor

from seqlab import Recurrent

BOUNDS = {"bfloat16": 2e-2, "float16": 3e-3, "tf32": 3e-3, "float32": 2e-5}
"""Tolerance of ‖found − expected‖ / ‖expected‖ of outputs, states and gradients."""


def check(point: Point, device: str) -> dict[str, Any]:
    """Compare outputs, states and all gradients with the loop in float64; return the largest relative error."""
    with precision(point.dtype):
        layer, x, lengths = drawn(point, device)
        reference = copy.deepcopy(layer).double()
        reference.kernel = "loop"
        if lengths is not None:
            x = torch.where(torch.arange(len(x), device=device)[:, None, None] < lengths[:, None], x, torch.nan)
        if device == "cuda":  # unwritten memory must not hold right values
            _poison()
        shape = (point.directions, point.batch, point.hidden)
        start = [torch.randn(shape, device=device).to(x.dtype) for _ in layer.cells[0].state_names]
        found = _all(layer, x.detach(), start, lengths)
        expected = _all(reference, x.detach().double(), [tensor.double() for tensor in start], lengths)
    apart = {key: float((found[key].double() - each).norm() / each.norm()) for key, each in expected.items()}
    worst = max(apart, key=lambda key: apart[key] if apart[key] == apart[key] else float("inf"))
    fits = apart[worst] <= BOUNDS[point.dtype]
    return {"point": point._asdict(), "apart": apart[worst], "where": worst, "right": fits,
            "said": f"{apart[worst]:.1e} at most, {worst}{'' if fits else ': WRONG'}"}  # fmt: skip


def _poison() -> None:
    """Fill the memory that is allocated next with NaN."""
    torch.full((2**26,), torch.nan, device="cuda")


def _all(layer: Recurrent, x: Tensor, start: Sequence[Tensor], lengths: Tensor | None) -> dict[str, Tensor]:
    x, states = x.clone().requires_grad_(), tuple(tensor.clone().requires_grad_() for tensor in start)
    output, state = layer(x, states, lengths)
    assert state is not None
    parts = {"output": output, **{f"state {k}": tensor for k, tensor in enumerate(state)}}
    total = sum((part.double() * _weight(part)).sum() for part in parts.values())
    leaves = {"x": x, **{f"start {k}": tensor for k, tensor in enumerate(states)}, **dict(layer.named_parameters())}
    gradients = torch.autograd.grad(total, list(leaves.values()))
    found = {**parts, **{f"gradient of {key}": each for key, each in zip(leaves, gradients, strict=True)}}
    return {key: torch.nan_to_num(each.detach(), nan=1e30) for key, each in found.items()}


def _weight(part: Tensor) -> Tensor:
    return torch.arange(part.numel(), device=part.device, dtype=torch.float64).cos().view_as(part)
