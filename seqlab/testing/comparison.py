"""Comparison of tensors, states and gradients within tolerances."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from seqlab.contracts import Cell, Kernel, State
from seqlab.recurrence import scan
from seqlab.recurrence.scan import rebuild
from seqlab.recurrence.selection import Loop
from seqlab.testing.layer import Call, Values, everything, noise
from seqlab.testing.suite import agree, demand

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


MakeCells: TypeAlias = Callable[[int, torch.dtype], Sequence[Cell]]
"""From a number of directions and a dtype to the cells of a layer."""

TOLERANCES = {torch.float64: 1e-9, torch.float32: 2e-4}
"""By dtype, relative to the largest entry; a kernel in float32 is held against the loop in float64."""

LEAST = {torch.float64: 1.0, torch.float32: 0.02}
"""What the largest entry is taken to be at least."""

ROUGH = 10.0
"""How many times the float32 error of the loop itself a kernel's may be, where that is more than the tolerance."""

LENGTHS: dict[str, list[int] | None] = {
    "full rows": None,
    "ragged rows": [7, 1, 4, 6],
    "a row of length 0": [0, 7, 3, 0],
}
_TIME = 7


def refusal_everywhere(kernel: Kernel, make: MakeCells) -> str | None:
    """Give a kernel's reason if it refuses all that :func:`check_kernel` would ask of it, with gradients or without."""
    reason = None
    for dtype in TOLERANCES:
        cells = make(1, dtype)
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                x = torch.zeros(_TIME, 4, cells[0].input_size, dtype=dtype, requires_grad=grad)
                reason = kernel.refuses(cells, x, None)
            if reason is None:
                return None
    return reason


def check_kernel(kernel: Kernel, make: MakeCells, dtypes: Sequence[torch.dtype] = tuple(TOLERANCES)) -> None:
    """Hold a kernel against the loop in all that it does not refuse."""
    for directions in (1, 2):
        for what, rows in LENGTHS.items():
            where = f"kernel {kernel.name}, {what}, {'both directions' if directions == 2 else 'forward'}"
            lengths = None if rows is None else torch.tensor(rows)
            cells = make(directions, torch.float32)
            hold(kernel, Call(cells, noise((_TIME, 4, cells[0].input_size), 5), lengths, where), dtypes)
    cells = make(1, torch.float32)
    one = Call(cells, noise((1, 1, cells[0].input_size), 5), None, f"kernel {kernel.name}, one step of one row")
    hold(kernel, one, dtypes)


def hold(kernel: Kernel, call: Call, dtypes: Iterable[torch.dtype] = tuple(TOLERANCES)) -> bool:
    """Hold a kernel against the loop on one input, in each dtype; where it refuses, there is nothing to hold.

    A kernel that refuses what needs gradients is held by value.

    Returns:
        Whether it took the input in any dtype.

    Raises:
        AssertionError: it differs; the message names the case, the dtype and what differs.
    """
    expected: Values | None = None
    held = False
    for dtype in dtypes:
        own = taken(kernel, call.in_dtype(dtype).at(short(dtype)))
        if own is None:
            continue
        if expected is None:
            expected = everything(Loop(), call.in_dtype(torch.float64))
        compared(computed(kernel, own), expected, own)
        held = True
    return held


def short(dtype: torch.dtype) -> str:
    """Name a dtype without its module."""
    return str(dtype).removeprefix("torch.")


def accepts(kernel: Kernel, call: Call) -> bool:
    """Whether a kernel takes a call; what ``refuses`` gives is held against the contract."""
    with torch.set_grad_enabled(call.differentiable):
        reason = kernel.refuses(call.cells, call.given()[1], call.lengths)
    demand(reason is None or isinstance(reason, str), f"{call.where}: refuses gives {reason!r}")
    demand(reason != "", f"{call.where}: refuses gives an empty reason")
    return reason is None


def taken(kernel: Kernel, call: Call) -> Call | None:
    """Give the call as a kernel takes it: with gradients, or without them; ``None`` where it refuses both."""
    for one in (call, replace(call, grad=False)):
        if accepts(kernel, one):
            return one
    return None


def computed(kernel: Kernel, call: Call) -> Values:
    """Run a kernel; name what it raises although it did not refuse."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning)
        try:
            return everything(kernel, call)
        except AssertionError:
            raise
        except Exception as error:
            first = (str(error).strip() or "no reason given").splitlines()[0]
            fault = f"{call.where}: it does not refuse, and raises {type(error).__name__}: {first}"
            raise AssertionError(fault) from error


def compared(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], call: Call, factor: float = 1.0) -> None:
    """Demand that what a kernel gave is what the loop in float64 gives, as far as it gave it.

    In float32 an error beyond the tolerance is right if the loop itself, in float32, is nearly as far off.

    Args:
        actual: what the kernel gave, by name.
        expected: what the loop gives.
        call: in the dtype of what the kernel gave.
        factor: how many times the usual tolerance is right.
    """
    own: Values | None = None
    dtype = call.x.dtype
    for name in (name for name in expected if call.final_state and not name.startswith("the gradient")):
        demand(name in actual, f"{call.where}: {name} is missing")
    for name, value in actual.items():
        demand(name in expected, f"{call.where}: it gives {name}, which the loop does not")
        try:
            agree(f"{call.where}: {name}", value, expected[name], factor * TOLERANCES[dtype], LEAST[dtype])
        except AssertionError:
            if dtype == torch.float64 or value.shape != expected[name].shape:
                raise
            if own is None:
                own = everything(Loop(), call.in_dtype(dtype))
            if name not in own or not _nearly_as_far(value, own[name], expected[name]):
                raise


def _nearly_as_far(value: Tensor, own: Tensor, expected: Tensor) -> bool:
    if not value.is_floating_point() or bool((~value.isfinite() & own.isfinite()).any()):
        return False
    distance = (value.double() - expected).abs().nan_to_num().max()
    return bool(distance <= ROUGH * (own.double() - expected).abs().nan_to_num().max())


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
