"""RNN, LSTM and GRU compute what ``torch.nn`` computes: outputs, final states and every gradient."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

from seqlab import Recurrent
from seqlab_cells.lstm import LSTM

from .networks import HIDDEN, INPUT, both_kernels, every_network, network, pair, run, run_torch, starts


@every_network
@both_kernels
@pytest.mark.parametrize("lengths", [None, [7, 3, 1, 7, 5], [2, 6, 1, 1, 4]], ids=["full", "ragged", "all_shorter"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both_ways"])
def test_equals_torch_in_float64(kind: str, kernel: str, lengths: list[int] | None, bidirectional: bool) -> None:
    """Two layers, a state to begin with, packed rows on torch's side and padded ones on ours."""
    module, recurrent = pair(kind, kernel, num_layers=2, bidirectional=bidirectional)
    x, start = torch.randn(7, 5, INPUT, dtype=torch.float64), starts(recurrent, 5)
    ours, theirs = run(recurrent, x, start, lengths), run_torch(module, x, start, lengths)
    assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@every_network
def test_vendor_in_float32_is_near_the_loop_in_float64(kind: str) -> None:
    """As near as 40 float32 steps can be; where c is frozen on padding by oneDNN's gates as well."""
    single = network(kind, "vendor", torch.float32, num_layers=2, bidirectional=True)
    double = network(kind, "loop", num_layers=2, bidirectional=True)
    double.load_state_dict(single.state_dict())
    x, start = torch.randn(40, 6, INPUT), starts(single, 6)
    lengths = [40, 1, 7, 23, 39, 16]
    precise = tuple(leaf.detach().double().requires_grad_() for leaf in start)
    expected = run(double, x.double(), precise, lengths)
    assert_close(run(single, x, start, lengths), expected, rtol=1e-4, atol=1e-5, check_dtype=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_padding_freezes_c_exactly(dtype: torch.dtype) -> None:
    """Not nearly: after 200 padded steps c, and every gradient through it, is bit by bit what it was after one."""
    recurrent = network("lstm", "vendor", dtype)
    with torch.no_grad():
        recurrent.cells[0].from_state.weight.mul_(20)  # gates that padding has to override
    x, start = torch.randn(205, 3, INPUT, dtype=dtype), starts(recurrent, 3)
    lengths = [5, 5, 0]
    far, near = run(recurrent, x, start, lengths), run(recurrent, x[:6], start, lengths)
    assert torch.equal(far.state[1], near.state[1])
    assert torch.equal(far.state[1][:, 2], start[1][:, 2])
    assert torch.equal(far.to_start[1], near.to_start[1])
    assert torch.equal(far.to_input[:6], near.to_input)
    assert_close(far.state[1], run(recurrent, x[:5], start, lengths).state[1])


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
@pytest.mark.parametrize("lengths", [None, [6, 2, 4]], ids=["full", "ragged"])
def test_lstm_in_float32_reaches_onednn(lengths: list[int] | None) -> None:
    recurrent = Recurrent(LSTM, INPUT, hidden_size=HIDDEN, bidirectional=True, kernel="vendor")
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        recurrent(torch.randn(6, 3, INPUT), lengths=None if lengths is None else torch.tensor(lengths))
    assert [event.key for event in seen.events()].count("aten::mkldnn_rnn_layer") == 2  # one a direction


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_relu_that_explodes_stays_off_the_padding(dtype: torch.dtype) -> None:
    """A relu RNN that doubles each step overflows in 2,000; rows that end before it are no worse for the padding."""
    recurrent = network("rnn_relu", "vendor", dtype)
    cell = recurrent.cells[0]
    with torch.no_grad():
        cell.from_state.weight.copy_(2 * torch.eye(HIDDEN))
        cell.from_state.bias.fill_(1.0)
    x, start = torch.randn(2000, 2, INPUT, dtype=dtype), starts(recurrent, 2)
    padded, bare = run(recurrent, x, start, [6, 4]), run(recurrent, x[:6], start, [6, 4])
    assert_close(padded._replace(output=padded.output[:6], to_input=padded.to_input[:6]), bare)
    assert not padded.to_input[6:].any()
