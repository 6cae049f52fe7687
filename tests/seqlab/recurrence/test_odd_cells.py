"""Every cell that the contract allows gets time, depth, direction, ragged lengths and carried state."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from seqlab import Cell, Recurrent

from .odd_cells import ODD, Counting, Delayed, MatrixMemory, Memory, Projected, Shifting
from .rowwise import rowwise

odd = pytest.mark.parametrize("cell", ODD)


def network(cell: type[Cell], **options: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(cell, 4, depth=2, **options).double()


def flat(state: tuple[Any, ...]) -> list[Tensor]:
    """All tensors of a stacked state, whose leaves may be tuples of unequal tensors."""
    return [tensor for leaf in state for tensor in (leaf if isinstance(leaf, tuple) else leaf.unbind())]


@odd
@settings(max_examples=8)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), bidirectional=st.booleans())
def test_a_ragged_batch_is_its_rows(cell: type[Cell], lengths: list[int], bidirectional: bool) -> None:
    """Outputs, states and gradients of a batch are those of its rows, whatever stands in the padding."""
    recurrent = network(cell, bidirectional=bidirectional)
    x = torch.randn(max(lengths) + 1, len(lengths), 4, dtype=torch.float64)
    for row, length in enumerate(lengths):
        x[length:, row] = float("nan")
    x.requires_grad_()
    expected, ends = rowwise(recurrent, x, lengths)
    output, state = recurrent(x, lengths=torch.tensor(lengths))
    assert_close(output, expected, rtol=0, atol=1e-12)
    assert_close(flat(state), [leaf for leaves in zip(*ends, strict=True) for leaf in leaves], rtol=0, atol=1e-12)
    leaves = [x, *recurrent.parameters()]
    ours = torch.autograd.grad(output.square().sum(), leaves, allow_unused=True, materialize_grads=True)
    if not any(lengths):
        assert not any(gradient.any() for gradient in ours)
        return
    theirs = torch.autograd.grad(expected.square().sum(), leaves, allow_unused=True, materialize_grads=True)
    assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@odd
@pytest.mark.parametrize("cut", [1, 3, 6])
def test_a_run_that_is_cut_equals_the_uncut_run(cell: type[Cell], cut: int) -> None:
    recurrent = network(cell)
    x = torch.randn(7, 3, 4, dtype=torch.float64)
    whole, end = recurrent(x)
    first, state = recurrent(x[:cut])
    second, state = recurrent(x[cut:], state)
    assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-14)
    assert_close(flat(state), flat(end), rtol=0, atol=1e-14)


@odd
def test_truncation_reaches_back_to_its_cut_and_changes_no_value(cell: type[Cell]) -> None:
    recurrent = network(cell)
    x = torch.randn(7, 2, 4, dtype=torch.float64, requires_grad=True)
    whole, _ = recurrent(x)
    recurrent.truncate = 3  # cuts before steps 3 and 6
    output, _ = recurrent(x)
    assert_close(output, whole, rtol=0, atol=1e-14)
    for last, first in ((5, 3), (6, 6), (2, 0)):
        (gradient,) = torch.autograd.grad(output[last].sum(), x, retain_graph=True)
        reached = gradient.flatten(1).abs().sum(1) > 0
        assert reached.tolist() == [first <= t <= last for t in range(7)]


def test_a_projection_makes_the_output_narrower_than_the_state() -> None:
    recurrent = network(Projected, bidirectional=True)
    output, (h,) = recurrent(torch.randn(5, 3, 4, dtype=torch.float64))
    assert output.shape == (5, 3, 2 * 2)
    assert h.shape == (2 * 2, 3, 5)
    assert recurrent.layers[1][0].input_size == 4


def test_a_named_state_comes_back_named() -> None:
    _, state = network(MatrixMemory)(torch.randn(5, 2, 4, dtype=torch.float64))
    assert isinstance(state, Memory)
    assert state.matrix.shape == (2, 2, 3, 3)
    assert state.norm.shape == (2, 2, 3)


def test_a_counter_stays_an_integer_and_counts_valid_steps_only() -> None:
    _, (_, steps) = network(Counting)(torch.randn(5, 3, 4, dtype=torch.float64), lengths=torch.tensor([5, 0, 2]))
    assert steps.dtype == torch.int64
    assert steps.tolist() == [[5, 0, 2], [5, 0, 2]]


def test_a_leaf_that_differs_between_layers_is_a_tuple_over_layers() -> None:
    x = torch.randn(5, 2, 4, dtype=torch.float64)
    _, (h, previous) = network(Delayed)(x)
    assert h.shape == (2, 2, 3)
    assert [leaf.shape for leaf in previous] == [(2, 4), (2, 3)]
    assert torch.equal(previous[0], x[-1])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("dtype", "tensor 0 of the state is torch.float16 after the step and torch.float64 before it"),
        ("shape", r"tensor 0 of the state is \(2, 1\) after the step and \(2, 3\) before it"),
        ("leaves", "the state has 2 tensors after the step and 1 before it"),
        ("type", "the state is a list; it must be a tuple of tensors"),
    ],
)
def test_a_step_that_changes_its_state_is_named(fault: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"Shifting.step: {message}"):
        network(Shifting, fault=fault)(torch.randn(5, 2, 4, dtype=torch.float64))
