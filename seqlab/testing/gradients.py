"""Gradients against finite differences, in float64, with the name and the place of what is wrong."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from seqlab.contracts import Cell, State
from seqlab.recurrence import scan
from seqlab.recurrence.state import rebuild
from seqlab.testing.suite import demand

_ENTRIES = 200
"""Entries of a tensor that are tried; of a larger one, so many are drawn."""


_STEPS = ((1e-5, 1e-6), (1e-7, 1e-4), (1e-9, 1e-3))
"""Of a difference along a direction: its size, and the tolerance."""


def check_gradients(cell: Cell, x: Tensor, state: State) -> None:
    """Compare every entry of the gradients of inputs, parameters and initial state with central differences.

    A kink that a difference happens to straddle is forgiven if a smaller one agrees.

    Raises:
        AssertionError: one differs; the message names the tensor and the entry.
    """
    wanted, value = _scalar(cell, x, state)
    for name, tensor, found in _found(wanted, value()):
        scale = 1 + float(found.abs().max()) if found.numel() else 1.0
        for place in _places(tensor.numel()):
            _check_entry(name, value, tensor, place, float(found.flatten()[place]), scale)


def check_slopes(where: str, cell: Cell, x: Tensor, state: State) -> None:
    """Compare the gradient of each tensor along one random direction with a central difference, for larger inputs.

    Random numbers are the same at every evaluation, so that dropout has a derivative.

    Raises:
        AssertionError: one differs; the message names the tensor.
    """
    wanted, value = _scalar(cell, x, state)
    for name, tensor, found in _found(wanted, value()):
        if not tensor.numel():
            continue
        direction = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(5), dtype=tensor.dtype)
        analytic = float((found * direction).sum())
        scale = 1 + float(found.norm())
        tried = []
        for step, tolerance in _STEPS:
            tried.append(_slope(value, tensor, direction, step))
            if abs(analytic - tried[-1]) <= tolerance * scale:
                break
        else:
            raise AssertionError(
                f"{where}: the gradient of {name} along a random direction is {analytic:.6g}; "
                f"finite differences give {tried[0]:.6g}"
            )


def _slope(value: Callable[[], Tensor], tensor: Tensor, direction: Tensor, step: float) -> float:
    kept = tensor.data.clone()
    with torch.no_grad():
        tensor.data.copy_(kept + step * direction)
        above = float(value())
        tensor.data.copy_(kept - step * direction)
        below = float(value())
        tensor.data.copy_(kept)
    return (above - below) / (2 * step)


def _found(wanted: Mapping[str, Tensor], total: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Differentiate; give each tensor's name, itself and its gradient."""
    demand(total.requires_grad, "no gradient flows from the outputs to the inputs, the parameters or the state")
    gradients = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
    for (name, tensor), gradient in zip(wanted.items(), gradients, strict=True):
        yield name, tensor, torch.zeros_like(tensor) if gradient is None else gradient


def _scalar(cell: Cell, x: Tensor, state: State) -> tuple[dict[str, Tensor], Callable[[], Tensor]]:
    """Make a scalar of a run, and name what it depends on."""
    x = x.detach().clone().requires_grad_()
    leaves = [leaf.detach().clone().requires_grad_(leaf.is_floating_point()) for leaf in state]
    state = rebuild(state, leaves)
    wanted: dict[str, Tensor] = {"the inputs": x}
    wanted |= {
        f"initial state {n}": leaf for n, leaf in zip(cell.state_names, leaves, strict=True) if leaf.requires_grad
    }
    wanted |= {name: parameter for name, parameter in cell.named_parameters() if _real(parameter)}
    weights: list[Tensor] = []

    def value() -> Tensor:
        torch.manual_seed(11)
        y, end = scan(cell, x, state)
        parts = [y, *(leaf for leaf in end if leaf.is_floating_point())]
        if not weights:
            generator = torch.Generator().manual_seed(3)
            weights.extend(torch.randn(part.shape, generator=generator, dtype=part.dtype) for part in parts)
        return torch.stack([(part * weight).sum() for part, weight in zip(parts, weights, strict=True)]).sum()

    return wanted, value


def _check_entry(
    name: str, value: Callable[[], Tensor], tensor: Tensor, place: int, analytic: float, scale: float
) -> None:
    """Compare one entry of a gradient with a difference, and if they are apart with a smaller one."""
    numeric = 0.0
    for step, tolerance in ((1e-5, 1e-6), (1e-7, 1e-4)):
        numeric = _difference(value, tensor, place, step)
        if abs(analytic - numeric) <= tolerance * scale:
            return
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(place), tensor.shape))
    raise AssertionError(f"the gradient of {name} at {index} is {analytic:.6g}; finite differences give {numeric:.6g}")


def _real(parameter: Tensor) -> bool:
    return parameter.requires_grad and parameter.is_floating_point()


def _places(count: int) -> list[int]:
    if count <= _ENTRIES:
        return list(range(count))
    return torch.randperm(count, generator=torch.Generator().manual_seed(4))[:_ENTRIES].tolist()


def _difference(value: Callable[[], Tensor], tensor: Tensor, place: int, step: float) -> float:
    flat = tensor.data.view(-1)
    with torch.no_grad():
        kept = flat[place].item()
        flat[place] = kept + step
        above = float(value())
        flat[place] = kept - step
        below = float(value())
        flat[place] = kept
    return (above - below) / (2 * step)
