"""Spectra of cells whose Jacobian is known in closed form, and the theorems that hold for them."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from seqlab import Cell
from seqlab.study.card.spectrum import conclude, measure_spectrum, step_jacobian


class Decay(Cell):
    """h' = sigmoid(x) h: diagonal and positive."""

    def step(self, x, state):
        h = torch.sigmoid(x[:, :1]) * state[0]
        return h, (h,)


class Signed(Cell):
    """h' = tanh(x) h: diagonal, of both signs."""

    def step(self, x, state):
        h = torch.tanh(x[:, :1]) * state[0]
        return h, (h,)


class Rotation(Cell):
    """h' = R(x) h in the plane: eigenvalues exp(±ix); rotations of the plane commute."""

    def step(self, x, state):
        h = _turned(state[0], x[:, 0])
        return h, (h,)


def _turned(h: Tensor, angle: Tensor) -> Tensor:
    c, s = torch.cos(angle).unsqueeze(1), torch.sin(angle).unsqueeze(1)
    return torch.cat([c * h[:, :1] - s * h[:, 1:], s * h[:, :1] + c * h[:, 1:]], 1)


class Householder(Cell):
    """h' = (I - β k kᵀ) h with a unit vector k of the input: eigenvalues 1 - β and 1; products do not commute."""

    strength = 2.0

    def step(self, x, state):
        k = torch.nn.functional.normalize(x[:, : self.hidden_size], dim=1)
        h = state[0] - self.strength * k * (k * state[0]).sum(1, keepdim=True)
        return h, (h,)


class Gentle(Householder):
    """The same with β = 1/2: eigenvalues 1/2 and 1."""

    strength = 0.5


class Elman(Cell):
    """h' = tanh(x + 2 h): diagonal, but not linear."""

    def step(self, x, state):
        h = torch.tanh(x[:, :1] + 2 * state[0])
        return h, (h,)


class _Pair(NamedTuple):
    h: Tensor
    count: Tensor


class Counting(Cell):
    """A decay with an integer beside it, in a named tuple."""

    state_names = ("h", "count")

    def initial_state(self, like):
        return _Pair(like.new_zeros(len(like), self.hidden_size), torch.zeros(len(like), 1, dtype=torch.int64))

    def step(self, x, state):
        h = state.h / 2
        return h, _Pair(h, state.count + 1)


KNOWN = {
    Decay: ("real, not negative", True, True, True, [True, True]),
    Signed: ("real, of both signs", True, True, True, [False, True]),
    Rotation: ("complex", True, False, True, [False, True]),
    Householder: ("real, of both signs", True, False, False, [False, False]),
    Gentle: ("real, not negative", True, False, False, [True, False]),
    Elman: ("real, not negative", False, True, True, [False, False]),
    Counting: ("real, not negative", True, True, True, [True, True]),
}
"""Eigenvalues, linear, diagonal, commuting, and whether parity and non-solvable groups are ruled out."""


@pytest.mark.parametrize("cell", KNOWN, ids=lambda cell: cell.__name__)
def test_known_jacobians_are_classified(cell):
    size = 2 if cell is Rotation else 3
    found = measure_spectrum(lambda: cell(3, size))
    assert (found.kind, found.linear, found.diagonal, found.commuting) == KNOWN[cell][:4]
    assert [each.applies for each in conclude(found)] == KNOWN[cell][4]
    assert found.positive + found.negative + found.complex + found.zero == pytest.approx(1)


def test_the_eigenvalues_of_a_householder_matrix():
    """One of -1 and the others 1."""
    found = measure_spectrum(lambda: Householder(4, 4))
    assert (found.negative, found.positive) == pytest.approx((1 / 4, 3 / 4))
    assert (found.smallest, found.largest, found.radius) == pytest.approx((-1, 1, 1))


def test_the_jacobian_of_a_rotation():
    cell, angle = Rotation(1, 2), 0.3
    found = step_jacobian(cell, torch.tensor([[angle]]), (torch.tensor([[0.2, -0.7]]),))
    c, s = math.cos(angle), math.sin(angle)
    assert found.flatten().tolist() == pytest.approx([c, -s, s, c])


def test_a_state_that_is_too_large_is_not_measured():
    assert measure_spectrum(lambda: Decay(2, 1000)) is None


def test_random_generators_are_left_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    measure_spectrum(lambda: Gentle(3, 3))
    assert torch.equal(before, torch.random.get_rng_state())


class Signs(Cell):
    """h' = (W x + b) h + x with b = 0.9 at the start: positive there, of both signs once W and b have moved."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.gate = torch.nn.Linear(input_size, hidden_size)
        torch.nn.init.zeros_(self.gate.weight)
        torch.nn.init.constant_(self.gate.bias, 0.9)

    def step(self, x, state):
        h = self.gate(x) * state[0] + x[:, :1]
        return h, (h,)


def test_weights_that_training_may_reach_are_sampled_too():
    found = measure_spectrum(lambda: Signs(3, 3))
    assert found.kind == "real, of both signs"
    assert not conclude(found)[0].applies


class Singular(Cell):
    """The square root has no derivative where the state starts."""

    def step(self, x, state):
        h = state[0] + state[0].square().sum(1, keepdim=True).sqrt() + x[:, :1]
        return h, (h,)


def test_a_jacobian_that_is_not_finite_is_not_measured():
    assert measure_spectrum(lambda: Singular(3, 3)) is None
