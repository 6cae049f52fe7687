"""Recurrent is called like ``torch.nn.LSTM``; here around a cell that torch does not have."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.testing import assert_close

from seqlab import Recurrent
from seqlab_cells.gru import GRU

from .odd_cells import Delayed, Leaky, MatrixMemory


def network(**options: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(Leaky, 4, **{"depth": 2, **options}).double()


def batch(time: int = 6, rows: int = 3) -> Tensor:
    return torch.randn(time, rows, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_one_layer_is_the_closed_form() -> None:
    """h_T = sum_t a^(T-t) x_t W, with a the decay."""
    recurrent, x = network(depth=1), batch()
    (cell,) = recurrent.cells
    assert isinstance(cell, Leaky)
    powers = cell.decay ** torch.arange(5, -1, -1).unsqueeze(1)
    expected = torch.einsum("th,tbi,ih->bh", powers, x, cell.weight)
    output, (h,) = recurrent(x)
    assert_close(output[-1], expected, rtol=0, atol=1e-14)
    assert_close(h[0], expected, rtol=0, atol=1e-14)


def test_batch_first_only_transposes() -> None:
    x, lengths = batch(), torch.tensor([6, 2, 4])
    output, (h,) = network()(x, lengths=lengths)
    turned, (h_turned,) = network(batch_first=True)(x.transpose(0, 1), lengths=lengths)
    assert torch.equal(turned.transpose(0, 1), output)
    assert torch.equal(h_turned, h)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [[6, 4, 1], [2, 6, 3]])
def test_packed_input_comes_back_packed_as_it_was(lengths: list[int], batch_first: bool) -> None:
    recurrent = network(batch_first=batch_first, bidirectional=True)
    x = batch().transpose(0, 1) if batch_first else batch()
    state = (torch.randn(4, 3, 3, dtype=torch.float64),)
    for enforce_sorted in {False, lengths == sorted(lengths, reverse=True)}:
        packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted=enforce_sorted)
        output, (h,) = recurrent(packed, state)
        expected, (h_expected,) = recurrent(x, state, lengths=torch.tensor(lengths))
        assert isinstance(output, PackedSequence)
        assert torch.equal(output.batch_sizes, packed.batch_sizes)
        unpacked, lengths_back = pad_packed_sequence(output, batch_first)
        assert lengths_back.tolist() == lengths
        assert torch.equal(unpacked, expected)
        assert torch.equal(h, h_expected)


def test_state_layout_is_that_of_torch() -> None:
    """Layer by layer, forward before backward, as ``h_n`` of ``torch.nn.LSTM``."""
    recurrent = network(bidirectional=True)
    output, (h,) = recurrent(batch())
    assert h.shape == (4, 3, 3)
    assert torch.equal(output[-1, :, :3], h[2])
    assert torch.equal(output[0, :, 3:], h[3])


def test_dropout_falls_between_layers_and_only_in_training() -> None:
    recurrent, x = network(dropout=0.5), batch(rows=64)
    whole, (h,) = network()(x)
    recurrent.eval()
    assert torch.equal(recurrent(x)[0], whole)
    recurrent.train()
    dropped, (h_dropped,) = recurrent(x)
    assert torch.equal(h_dropped[0], h[0])  # below the dropout
    assert not torch.equal(dropped, whole)
    below = network(depth=1)(x)[0]
    torch.manual_seed(2)
    kept = torch.nn.functional.dropout(below, 0.5)
    torch.manual_seed(2)
    assert_close(recurrent(x)[0], _second_layer(recurrent, kept), rtol=0, atol=1e-14)


def _second_layer(recurrent: Recurrent, x: Tensor) -> Tensor:
    cell = recurrent.cells[1]
    state, outputs = cell.initial_state(x[0]), []
    for step in x:
        y, state = cell.step(step, state)
        outputs.append(y)
    return torch.stack(outputs)


def test_a_single_layer_drops_nothing() -> None:
    assert torch.equal(network(depth=1, dropout=0.5)(batch())[0], network(depth=1)(batch())[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth must be >= 1, got 0"),
        ({"dropout": 1.0}, "dropout must be >= 0 and < 1, got 1.0"),
        ({"dropout": -0.1}, "dropout must be >= 0 and < 1, got -0.1"),
        ({"truncate": -2}, "truncate must be >= 0, got -2"),
        ({"hidden_size": 0}, "hidden_size must be >= 1, got 0"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network(**options)


@pytest.mark.parametrize(
    ("shape", "state", "lengths", "message"),
    [
        ((6, 3, 5), None, None, r"the input is \(6, 3, 5\); it must have three axes, the last of size 4"),
        ((6, 4), None, None, r"the input is \(6, 4\); it must have three axes"),
        ((6, 3, 4), None, [6, 2], "lengths must have one number for each of the 3 rows of the batch, got 2"),
        ((6, 3, 4), None, [6, 2, 7], "lengths must be from 0 to 6, the steps of the input, got 7 in row 2"),
        ((6, 3, 4), None, [-1, 2, 6], "lengths must be from 0 to 6, the steps of the input, got -1 in row 0"),
        ((6, 3, 4), [(2, 3, 3)] * 2, None, r"the state must be a tuple of 1 \(h\)"),
        ((6, 3, 4), [(2, 2, 3)], None, r"state h of layer 0 is \(2, 3\), not \(3, 3\)"),
        ((6, 3, 4), [(1, 3, 3)], None, "state h is for 1 layers and directions; there are 2"),
        ((6, 3, 4), [(3, 3, 3)], None, "state h is for 3 layers and directions; there are 2"),
    ],
)
def test_bad_input_is_named_with_both_numbers(
    shape: tuple[int, ...], state: list[tuple[int, ...]] | None, lengths: list[int] | None, message: str
) -> None:
    given = None if state is None else tuple(torch.zeros(size, dtype=torch.float64) for size in state)
    with pytest.raises(ValueError, match=message):
        network()(torch.zeros(shape).double(), given, None if lengths is None else torch.tensor(lengths))


@pytest.mark.parametrize("cell", [Leaky, MatrixMemory, Delayed])
@pytest.mark.parametrize("truncate", [0, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("time", "rows"), [(0, 3), (5, 0), (0, 0)])
def test_nothing_in_nothing_out(cell: Any, truncate: int, bidirectional: bool, time: int, rows: int) -> None:
    """No steps, or no rows: outputs of the right shape, and the state that was given."""
    recurrent = Recurrent(cell, 4, depth=2, truncate=truncate, bidirectional=bidirectional)
    start = recurrent(torch.randn(2, rows, 4))[1]
    for lengths in (None, torch.zeros(rows, dtype=torch.int64)):
        output, state = recurrent(torch.zeros(time, rows, 4), start, lengths)
        assert output.shape == (time, rows, recurrent.output_size)
        assert torch.equal(state[-1][0], start[-1][0])


def test_autocast_leaves_the_state_its_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        output, (h,) = Recurrent(Lowered, 4, depth=2)(torch.randn(5, 2, 4))
    assert output.dtype == torch.bfloat16
    assert h.dtype == torch.float32


class Lowered(Leaky):
    """A cell whose state is the result of a matrix product, which autocast computes in bfloat16."""

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = x @ self.weight + state[0] @ torch.eye(self.hidden_size)
        return h, (h,)


@pytest.mark.parametrize("kernel", ["loop", "fused", "vendor"])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"bidirectional": True}, {"connection": "residual"}, {"layer_norm": True}, {"block": "prenorm"},
        {"conv": 3}, {"conv": 2, "bidirectional": True}, {"truncate": 2}, {"checkpoint_steps": 2},
        {"learned_start": True}, {"batch_first": True}, {"dropout": 0.5, "zoneout": 0.3},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("lengths", [None, [6, 0, 3, 1], [0, 0, 0, 0]])
def test_the_last_outputs_are_picked_from_all(kernel: str, options: dict[str, Any], lengths: list[int] | None) -> None:
    """Row by row by plain indexing, with every gradient."""
    kernel = "loop" if "zoneout" in options else kernel
    torch.manual_seed(0)
    recurrent = Recurrent(GRU, 4, depth=2, kernel=kernel, **options).double()
    x, n = batch(rows=4), None if lengths is None else torch.tensor(lengths)
    x = x.transpose(0, 1) if recurrent.batch_first else x
    results = []
    for last in (True, False):
        torch.manual_seed(1)
        given = x.clone().requires_grad_()
        y, state = recurrent(given, lengths=n, last=last)
        if not last:
            y = _picked(y.transpose(0, 1) if recurrent.batch_first else y, lengths, recurrent.bidirectional)
        weights = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
        loss = (weights * y).sum() + state[0].square().sum()
        results.append(
            [y, *state, *torch.autograd.grad(loss, [given, *recurrent.parameters()], materialize_grads=True)]
        )
    assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


def _picked(y: Tensor, lengths: list[int] | None, bidirectional: bool) -> Tensor:
    forward = y.shape[2] // 2 if bidirectional else y.shape[2]
    rows = []
    for row in range(y.shape[1]):
        length = len(y) if lengths is None else lengths[row]
        own = torch.cat([y[length - 1, row, :forward], y[0, row, forward:]])
        rows.append(own if length else torch.zeros_like(own))
    return torch.stack(rows)


def test_packed_input_has_its_own_lengths() -> None:
    packed = pack_padded_sequence(batch(), torch.tensor([6, 5, 2]))
    with pytest.raises(ValueError, match="packed"):
        network()(packed, None, torch.tensor([1, 1, 1]))
