"""Comparison of kernels with the reference loop, and of gradients with finite differences and closed forms."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from seqlab.contracts import Cell, Kernel, Probe, State
from seqlab.recurrence import scan
from seqlab.recurrence.scan import rebuild
from seqlab.testing.layer import Call, Values, all_results, differentiate, loop_results, random_normal
from seqlab.testing.suite import assert_close, first_line, require

# Extreme inputs ------------------------------------------------------------------------------------------------------

_EXTREME: dict[str, Callable[[Tensor], Tensor]] = {
    "inputs 100 times larger": lambda x: 100 * x,
    "inputs 300 times larger": lambda x: 300 * x,
    "inputs 1000 times larger": lambda x: 1000 * x,
    "inputs that are -1000 throughout": lambda x: torch.full_like(x, -1000.0),
}
MODERATE: dict[str, Callable[[Tensor], Tensor]] = {
    "inputs 10 times larger": lambda x: 10 * x,
    "inputs 1e-10 times as large": lambda x: 1e-10 * x,
    "inputs 1e-30 times as large": lambda x: 1e-30 * x,
    "denormal inputs": lambda x: x.sign() * torch.full((), 1e-40, dtype=x.dtype),
    "inputs of zero": torch.zeros_like,
    "inputs of one": torch.ones_like,
    "inputs that are the same at every step": lambda x: x[:1].expand(x.shape).contiguous(),
}
"""Inputs for which nothing may be NaN or infinite, whatever the precision."""
CASES = {**MODERATE, **_EXTREME}


def check_overflow(
    where: str,
    actual: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    excused: Mapping[str, Tensor] | None = None,
) -> None:
    """Require float32 to be finite wherever float64 is finite and within the range of float32.

    Where ``excused``, the loop in float32, is not finite, the cell is the cause, not the kernel.
    """
    for name, value in actual.items():
        if not value.is_floating_point() or value.shape != expected[name].shape:
            continue
        wrong = ~value.isfinite() & expected[name].to(value.dtype).isfinite()
        if excused is not None:
            wrong &= excused[name].isfinite()
        largest = float(expected[name].abs().nan_to_num(posinf=0).max()) if value.numel() else 0.0
        require(
            not bool(wrong.any()),
            f"{where}: overflow: {name} has {int(wrong.sum())} of {value.numel()} entries that are NaN or infinite in "
            f"float32; in float64 they are finite, at most {largest:.3g}",
        )


# Kernels against the loop --------------------------------------------------------------------------------------------

MakeCells: TypeAlias = Callable[[int, torch.dtype], Sequence[Cell]]
"""From a number of directions and a dtype to the cells of a layer."""

TOLERANCES = {torch.float64: 1e-9, torch.float32: 2e-4}
"""By dtype, relative to the largest entry; a kernel in float32 is compared with the loop in float64."""
_LEAST = {torch.float64: 1.0, torch.float32: 0.02}
"""Lower bound on that largest entry."""
_ROUNDING = 10.0
"""Multiple of the loop's own float32 error that a kernel's may have, where that is more than the tolerance."""

_LENGTHS: dict[str, list[int] | None] = {
    "full rows": None,
    "ragged rows": [7, 1, 4, 6],
    "a row of length 0": [0, 7, 3, 0],
}
_TIME = 7


def refusal_everywhere(kernel: Kernel, make: MakeCells) -> str | None:
    """Return a kernel's reason if it refuses both dtypes, with gradients and without."""
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
    """Compare a kernel with the loop on full and ragged rows, in one and both directions, where it does not refuse."""
    for directions in (1, 2):
        for what, rows in _LENGTHS.items():
            where = f"kernel {kernel.name}, {what}, {'both directions' if directions == 2 else 'forward'}"
            lengths = None if rows is None else torch.tensor(rows)
            cells = make(directions, torch.float32)
            x = random_normal((_TIME, 4, cells[0].input_size), 5)
            compare_with_loop(kernel, Call(cells, x, lengths, where), dtypes)
    cells = make(1, torch.float32)
    x = random_normal((1, 1, cells[0].input_size), 5)
    compare_with_loop(kernel, Call(cells, x, None, f"kernel {kernel.name}, one step of one row"), dtypes)


def compare_with_loop(kernel: Kernel, call: Call, dtypes: Iterable[torch.dtype] = tuple(TOLERANCES)) -> bool:
    """Compare a kernel with the loop on one input, in each dtype that it accepts.

    A kernel that refuses what needs gradients is compared by value. Return whether it accepted any dtype.
    """
    expected: Values | None = None
    for dtype in dtypes:
        if (own := accepted(kernel, call.in_dtype(dtype).at(short(dtype)))) is not None:
            expected = loop_results(call) if expected is None else expected
            compare(run_kernel(kernel, own), expected, own)
    return expected is not None


def short(dtype: torch.dtype) -> str:
    """Return the name of a dtype without its module."""
    return str(dtype).removeprefix("torch.")


def accepts(kernel: Kernel, call: Call) -> bool:
    """Return whether a kernel accepts a call; require ``refuses`` to return ``None`` or a reason."""
    with torch.set_grad_enabled(call.differentiable):
        reason = kernel.refuses(call.cells, call.given()[1], call.lengths)
    right = reason is None or (isinstance(reason, str) and reason)
    require(right, f"{call.where}: refuses returns {reason!r}; it must be None or a reason")
    return reason is None


def accepted(kernel: Kernel, call: Call) -> Call | None:
    """Return the call as a kernel accepts it: with gradients, or without them; ``None`` if it refuses both."""
    return next((one for one in (call, replace(call, grad=False)) if accepts(kernel, one)), None)


def run_kernel(kernel: Kernel, call: Call) -> Values:
    """Return all results of a kernel; an error that it raises without having refused is a failure."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning)
        try:
            return all_results(kernel, call)
        except AssertionError:
            raise
        except Exception as error:
            fault = f"{call.where}: it does not refuse, and raises {type(error).__name__}: {first_line(error)}"
            raise AssertionError(fault) from error


def compare(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], call: Call, factor: float = 1.0) -> None:
    """Require the results of a kernel to be those of the loop in float64.

    In float32 a larger error is allowed if the loop itself, in float32, is nearly as far off.
    """
    own: Values | None = None
    dtype = call.x.dtype
    for name in (name for name in expected if call.final_state and not name.startswith("the gradient")):
        require(name in actual, f"{call.where}: {name} is missing")
    for name, value in actual.items():
        require(name in expected, f"{call.where}: it returns {name}, which the loop does not")
        try:
            assert_close(f"{call.where}: {name}", value, expected[name], factor * TOLERANCES[dtype], _LEAST[dtype])
        except AssertionError:
            if dtype == torch.float64 or value.shape != expected[name].shape:
                raise
            own = loop_results(call, dtype) if own is None else own
            if name not in own or not _nearly_as_far(value, own[name], expected[name]):
                raise


def _nearly_as_far(value: Tensor, own: Tensor, expected: Tensor) -> bool:
    if not value.is_floating_point() or bool((~value.isfinite() & own.isfinite()).any()):
        return False
    distance = (value.double() - expected).abs().nan_to_num().max()
    return bool(distance <= _ROUNDING * (own.double() - expected).abs().nan_to_num().max())


# Gradients against finite differences --------------------------------------------------------------------------------

_MOST_ENTRIES = 200
"""Entries of a tensor that are tried; of a larger one, so many are drawn."""
_STEPS = ((1e-5, 1e-6), (1e-7, 1e-4), (1e-9, 1e-3))
"""Of a central difference: its step, and the tolerance. A kink that a difference straddles needs a smaller step."""


def check_gradients(where: str, cell: Cell, x: Tensor, state: State, *, every_entry: bool = False) -> None:
    """Compare the gradients of inputs, parameters and initial state with central differences.

    Along one random direction each, or with ``every_entry`` in every entry. The random numbers are the same at every
    evaluation, so that dropout has a derivative.
    """
    sources, value = _scalar(cell, x, state)
    total = value()
    require(total.requires_grad, "no gradient flows from the outputs to the inputs, the parameters or the state")
    for (name, tensor), found in zip(sources.items(), differentiate(total, sources).values(), strict=True):
        generator = torch.Generator().manual_seed(5)
        directions = [torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)] if tensor.numel() else []
        if every_entry:
            places = torch.randperm(tensor.numel(), generator=generator)[:_MOST_ENTRIES]
            directions = list(F.one_hot(places, tensor.numel()).to(tensor.dtype).view(-1, *tensor.shape))
        scale = 1 + float(found.abs().max() if every_entry else found.norm()) if tensor.numel() else 1.0
        for direction in directions:
            entry = f" at {tuple(direction.nonzero()[0].tolist())}" if every_entry else " along a random direction"
            _check_slope(
                f"{where}: the gradient of {name}{entry}",
                value,
                tensor,
                direction,
                found,
                scale,
                _STEPS[: 2 if every_entry else 3],
            )


def _check_slope(
    what: str,
    value: Callable[[], Tensor],
    tensor: Tensor,
    direction: Tensor,
    gradient: Tensor,
    scale: float,
    steps: Sequence[tuple[float, float]],
) -> None:
    analytic, tried = float((gradient * direction).sum()), []
    for step, tolerance in steps:
        kept, ends = tensor.data.clone(), []
        with torch.no_grad():
            for sign in (1, -1):
                tensor.data.copy_(kept + sign * step * direction)
                ends.append(float(value()))
            tensor.data.copy_(kept)
        tried.append((ends[0] - ends[1]) / (2 * step))
        if abs(analytic - tried[-1]) <= tolerance * scale:
            return
    raise AssertionError(f"{what} is {analytic:.6g}; finite differences give {tried[0]:.6g}")


def _scalar(cell: Cell, x: Tensor, state: State) -> tuple[dict[str, Tensor], Callable[[], Tensor]]:
    """Return the tensors that a run depends on, by name, and a function that reduces the run to a scalar."""
    x = x.detach().clone().requires_grad_()
    start = [h.detach().clone().requires_grad_(h.is_floating_point()) for h in state]
    state = rebuild(state, start)
    sources: dict[str, Tensor] = {"the inputs": x}
    sources |= {f"initial state {n}": h for n, h in zip(cell.state_names, start, strict=True) if h.requires_grad}
    sources |= {n: p for n, p in cell.named_parameters() if p.requires_grad and p.is_floating_point()}
    weights: list[Tensor] = []

    def value() -> Tensor:
        torch.manual_seed(11)
        y, end = scan(cell, x, state)
        parts = [y, *(h for h in end if h.is_floating_point())]
        if not weights:
            generator = torch.Generator().manual_seed(3)
            weights.extend(torch.randn(part.shape, generator=generator, dtype=part.dtype) for part in parts)
        return torch.stack([(part * weight).sum() for part, weight in zip(parts, weights, strict=True)]).sum()

    return sources, value


# Probes against autograd ---------------------------------------------------------------------------------------------


def check_probe(cell: Cell, x: Tensor) -> None:
    """Require the :meth:`Cell.probe` of a cell of double precision, if it has one, to describe its steps."""
    if type(cell).probe is Cell.probe:
        return
    projected = cell.project(x).detach()
    own = cell.initial_state(x[0])
    start = rebuild(own, [h.detach().requires_grad_() if h.is_floating_point() else h for h in own])
    after = [start]
    for step in projected:
        after.append(cell.step(step, after[-1])[1])
    states = rebuild(start, [torch.stack(h).detach() for h in zip(*after, strict=True)])
    probe = cell.probe(projected, states)
    require(isinstance(probe, Probe), f"probe returns a {type(probe).__name__}, not a seqlab.Probe")
    for name, gate in probe.gates.items():
        shape = tuple(gate.values.shape[:2])
        require(shape == tuple(x.shape[:2]), f"gate {name} is {shape}; it must begin with time and batch")
        outside = bool(((gate.values < gate.low) | (gate.values > gate.high)).any())
        require(not outside, f"gate {name} leaves its range of {gate.low:g} to {gate.high:g}")
    unknown = [name for name in (*probe.forget, *probe.terms) if name not in cell.state_names]
    require(not unknown, f"probe names {', '.join(unknown)}, and state_names does not")
    if probe.product is not None:
        _check_product(probe, after)


def _check_product(probe: Probe, after: list[State]) -> None:
    """Compare the vector-Jacobian products of a probe with those of autograd, from the last state to the second."""
    assert probe.product is not None
    last = after[-1]
    weights = [torch.linspace(-1, 1, h.numel(), dtype=h.dtype).view_as(h) for h in last]
    scalar = sum((h * weight).sum() for h, weight in zip(last, weights, strict=True))
    assert isinstance(scalar, Tensor)
    found = iter(torch.autograd.grad(scalar, [h for state in after[1:] for h in state], allow_unused=True))
    expected = [tuple(next(found) for _ in state) for state in after[1:]]
    gradient: State = expected[-1]
    with torch.no_grad():
        for t in range(len(after) - 2, 0, -1):
            norms = [h.flatten(1).norm(dim=1) for h in gradient]
            gradient = probe.product(t, gradient)
            for h, right in zip(gradient, expected[t - 1], strict=True):
                assert_close(f"the gradient that probe's product returns before step {t}", h, right)
            if probe.gain is not None and len(gradient) == 1:
                bound = probe.gain[t] * norms[0] * (1 + 1e-9)
                right_bound = bool((gradient[0].flatten(1).norm(dim=1) <= bound).all())
                require(right_bound, f"the gradient grows by more than probe's gain in step {t}")
