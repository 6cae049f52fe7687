"""A run may be cut anywhere; a cut gradient reaches exactly as far as it should."""

import pytest
import torch
from torch.testing import assert_close

from .networks import INPUT, both_kernels, every_network, network


@every_network
@both_kernels
def test_a_run_cut_at_any_point_equals_the_uncut_run(kind: str, kernel: str) -> None:
    """Gradients through the cut included."""
    recurrent = network(kind, kernel, num_layers=2)
    x = torch.randn(8, 3, INPUT, dtype=torch.float64, requires_grad=True)
    whole, end = recurrent(x)
    (expected,) = torch.autograd.grad(whole.square().sum(), x)
    for cut in range(1, 8):
        first, state = recurrent(x[:cut])
        second, state = recurrent(x[cut:], state)
        joined = torch.cat([first, second])
        (gradient,) = torch.autograd.grad(joined.square().sum(), x)
        assert_close((joined, *state, gradient), (whole, *end, expected), rtol=0, atol=1e-13)


@every_network
@both_kernels
@pytest.mark.parametrize("k", [1, 3, 4])
def test_truncation_at_k_reaches_exactly_k_steps(kind: str, kernel: str, k: int) -> None:
    """The gradient of the last output of a segment: k inputs, exactly zero further back; the values are the same."""
    recurrent = network(kind, kernel)
    x = torch.randn(2 * k, 2, INPUT, dtype=torch.float64, requires_grad=True)
    whole, end = recurrent(x)
    recurrent.truncate = k
    output, state = recurrent(x)
    assert_close((output, *state), (whole, *end), rtol=0, atol=1e-13)
    (gradient,) = torch.autograd.grad(output[-1].sum(), x)
    reached = gradient.flatten(1).abs().sum(1) > 0
    assert reached.tolist() == [False] * k + [True] * k


@every_network
@both_kernels
def test_truncation_goes_with_ragged_rows_in_both_directions(kind: str, kernel: str) -> None:
    """Each direction is cut at every k-th of its own steps; the values are those without a cut."""
    recurrent = network(kind, kernel, bidirectional=True)
    x = torch.randn(7, 4, INPUT, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([7, 0, 3, 5])
    whole, end = recurrent(x, lengths=lengths)
    recurrent.truncate = 2
    output, state = recurrent(x, lengths=lengths)
    assert_close((output, *state), (whole, *end), rtol=0, atol=1e-13)
    hidden = output.shape[-1] // 2
    for row, t, direction, reached in (
        (0, 6, slice(None, hidden), [6]),  # segments 0-1, 2-3, 4-5, 6
        (0, 0, slice(hidden, None), [0]),  # segments 6-5, 4-3, 2-1, 0
        (3, 3, slice(None, hidden), [2, 3]),
        (3, 1, slice(hidden, None), [1, 2]),  # from its own end: 4-3, 2-1, 0
    ):
        (gradient,) = torch.autograd.grad(output[t, row, direction].sum(), x, retain_graph=True)
        assert gradient.abs().sum(-1).nonzero().tolist() == [[step, row] for step in reached]
