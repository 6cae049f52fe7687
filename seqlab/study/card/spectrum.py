"""Spectrum of a cell's state Jacobian on random inputs, and what theory says follows from it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from typing import Any, final

import torch
from torch import Tensor

from seqlab.contracts import Cell, State

_TOLERANCE = 1e-6
"""Relative size below which an imaginary part, an eigenvalue, an entry or a commutator counts as zero."""
MOST_NUMBERS = 400
"""Largest state whose Jacobian is computed."""


@final
@dataclass(frozen=True)
class Spectrum:
    r"""Eigenvalues of :math:`J_t = ∂s_t/∂s_{t-1}` over sampled weights, inputs and states.

    Attributes:
        state_size: numbers in the state, of the small cell that is measured.
        samples: number of Jacobians.
        positive, negative, complex, zero: shares of the eigenvalues: real above 0, real below 0, with an imaginary
            part, and 0.
        smallest, largest: range of the real parts.
        radius: largest modulus.
        linear: whether no Jacobian depends on the state, so that the recurrence is linear in it.
        diagonal: whether every Jacobian is diagonal.
        commuting: whether the Jacobians of successive steps commute; diagonal ones do.
    """

    state_size: int
    samples: int
    positive: float
    negative: float
    complex: float
    zero: float
    smallest: float
    largest: float
    radius: float
    linear: bool
    diagonal: bool
    commuting: bool

    @property
    def kind(self) -> str:
        """The eigenvalues in words."""
        if self.complex:
            return "complex"
        if self.negative:
            return "real, of both signs" if self.positive else "real, not positive"
        return "real, not negative"

    def record(self) -> dict[str, Any]:
        """Return the spectrum as it stands in a card."""
        return {**asdict(self), "kind": self.kind}


def step_jacobian(cell: Cell, x: Tensor, state: State) -> Tensor:
    r"""Return :math:`∂s_t/∂s_{t-1}` of one sequence, ``[size, size]``; integer state tensors are constants.

    Args:
        cell: in evaluation mode.
        x: one step of :meth:`Cell.project`, ``[1, ...]``.
        state: before the step, each tensor ``[1, ...]``.
    """
    varied = [index for index, each in enumerate(state) if each.is_floating_point()]
    shapes = [state[index].shape for index in varied]
    sizes = [shape.numel() for shape in shapes]

    def advance(flat: Tensor) -> Tensor:
        given = list(state)
        for index, part, shape in zip(varied, torch.split(flat, sizes), shapes, strict=True):
            given[index] = part.reshape(shape)
        after = cell.step(x, _like(state, given))[1]
        return torch.cat([after[index].flatten() for index in varied])

    flat = torch.cat([state[index].flatten() for index in varied]).detach()
    found: Tensor = torch.autograd.functional.jacobian(advance, flat)  # type: ignore[no-untyped-call]  # torch's own
    return found.detach()


def _like(state: State, tensors: Sequence[Tensor]) -> State:
    """Return tensors in the structure of a state, which may be a named tuple."""
    make: Any = getattr(state, "_make", tuple)
    made: State = make(tensors)
    return made


def measure_spectrum(
    make: Callable[[], Cell], seeds: Sequence[int] = (0, 1, 2), scales: Sequence[float] = (1.0, 4.0), steps: int = 5
) -> Spectrum | None:
    r"""Sample Jacobians along random sequences.

    Weights are those of the cell's initialisation, alone and with :math:`\mathcal N(0, 1)` added, as training may move
    them; inputs are :math:`\mathcal N(0, σ^2)`, states those that the cell reaches. Computed in float64; the random
    generators are left as they were. Return ``None`` if the state has no number or too many, or if a Jacobian is not
    finite.

    Args:
        make: makes a small cell with new weights.
        seeds: of weights and inputs.
        scales: standard deviations :math:`σ`; large ones bring gates to their limits.
        steps: length of each sequence.
    """
    found: list[Tensor] = []
    linear = commuting = True
    with torch.random.fork_rng([]):
        for seed, scale, moved in product(seeds, scales, (False, True)):
            torch.manual_seed(seed)
            cell = make().double().eval()
            if moved:
                with torch.no_grad():
                    for parameter in cell.parameters():
                        parameter.add_(torch.randn_like(parameter))
            x = scale * torch.randn(steps, 1, cell.input_size, dtype=torch.float64)
            size = sum(each[0].numel() for each in cell.initial_state(x[0]) if each.is_floating_point())
            if not 1 <= size <= MOST_NUMBERS:
                return None
            pairs = list(_jacobians(cell, x))
            if not all(bool(each.isfinite().all()) for pair in pairs for each in pair):
                return None
            linear &= all(_is_zero(first - second, first) for first, second in pairs)
            series = [first for first, _ in pairs]
            commuting &= all(_is_zero(a @ b - b @ a, a @ b) for a, b in pairwise(series))
            found += series
    return _summary(torch.stack(found), linear=linear, commuting=commuting)


def _jacobians(cell: Cell, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the Jacobian of each step at the state that was reached, and at another state."""
    with torch.no_grad():
        projected, state = cell.project(x), cell.initial_state(x[0])
    for step in projected:
        moved = [each + torch.randn_like(each) if each.is_floating_point() else each for each in state]
        yield step_jacobian(cell, step, state), step_jacobian(cell, step, _like(state, moved))
        with torch.no_grad():
            state = cell.step(step, state)[1]


def _is_zero(difference: Tensor, reference: Tensor) -> bool:
    return bool(difference.abs().max() <= _TOLERANCE * max(1.0, float(reference.abs().max())))


def _summary(jacobians: Tensor, *, linear: bool, commuting: bool) -> Spectrum:
    values = torch.linalg.eigvals(jacobians).flatten()
    modulus = values.abs()
    is_zero = modulus <= _TOLERANCE
    is_complex = ~is_zero & (values.imag.abs() > _TOLERANCE * modulus.clamp(min=1))
    is_real = ~is_zero & ~is_complex
    off_diagonal = jacobians - torch.diag_embed(jacobians.diagonal(dim1=1, dim2=2))
    diagonal = _is_zero(off_diagonal, jacobians)
    masks = [is_real & (values.real > 0), is_real & (values.real < 0), is_complex, is_zero]
    positive, negative, turning, zero = (float(mask.double().mean()) for mask in masks)
    ends = float(values.real.min()), float(values.real.max())
    return Spectrum(
        jacobians.shape[1], len(jacobians), positive, negative, turning, zero, *ends, float(modulus.max()), linear,
        diagonal, commuting or diagonal,
    )  # fmt: skip


@final
@dataclass(frozen=True)
class Conclusion:
    """A theorem, and whether its conditions hold for the sampled Jacobians.

    Attributes:
        theorem: what it says.
        source: paper.
        applies: whether the conditions hold.
        reason: why, or why not.
    """

    theorem: str
    source: str
    applies: bool
    reason: str


_PARITY = (
    "A linear recurrence of finite precision whose transition matrices have only positive eigenvalues cannot compute "
    "parity at every length."
)
_GROUPS = (
    "A state-space model whose transition matrices commute, such as diagonal ones or one for all steps, is in TC0 at "
    "logarithmic precision: unless TC0 = NC1 it cannot solve the word problem of a non-solvable group, such as A5, at "
    "every length."
)


def conclude(spectrum: Spectrum) -> list[Conclusion]:
    """Return the theorems on linear recurrences; the sampled Jacobians are evidence for the conditions, no proof."""
    nonlinear = "the step is not linear in all of its state"
    signs = f"linear, eigenvalues {spectrum.kind}"
    order = "diagonal" if spectrum.diagonal else "commuting" if spectrum.commuting else "not commuting"
    positive = spectrum.linear and not spectrum.negative and not spectrum.complex
    return [
        Conclusion(_PARITY, "Grazzi et al. 2024, arXiv 2411.12537", positive, signs if spectrum.linear else nonlinear),
        Conclusion(
            _GROUPS,
            "Merrill, Petty & Sabharwal 2024, arXiv 2404.08819",
            spectrum.linear and spectrum.commuting,
            f"linear, transition matrices {order}" if spectrum.linear else nonlinear,
        ),
    ]
