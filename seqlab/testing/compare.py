"""A kernel against the reference loop: outputs, states and every gradient."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from seqlab.contracts import Cell, Kernel
from seqlab.recurrence.choose import Loop
from seqlab.testing.layer import Call, Values, everything, noise
from seqlab.testing.suite import agree, demand

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
