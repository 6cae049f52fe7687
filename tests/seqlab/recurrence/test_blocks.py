"""Convolution, pre-norm and MLP around a layer: against torch's modules row by row, cut and in every kernel."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from seqlab import Recurrent
from seqlab.recurrence import scan
from seqlab.recurrence.blocks import Convolved
from seqlab.recurrence.recording import Recording
from seqlab.recurrence.wrappers import StateDropout
from seqlab_cells.gru import GRU
from seqlab_cells.lstm import LSTM
from seqlab_cells.mingru import MinGRU

from .odd_cells import MatrixMemory

INPUT, HIDDEN, K = 3, 5, 4
LENGTHS = [9, 2, 0, 5]
EXACT = {"rtol": 0, "atol": 1e-10}
BLOCKS = ["plain", "prenorm", "prenorm_mlp"]


def built(cell=LSTM, input_size=INPUT, **options):
    torch.manual_seed(0)
    net = Recurrent(cell, input_size, hidden_size=HIDDEN, **options).double()
    with torch.no_grad():
        for parameter in net.parameters():  # gains of 1 and biases of 0 would hide a mistake
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def ragged(size=INPUT):
    torch.manual_seed(1)
    x = torch.randn(max(LENGTHS), len(LENGTHS), size, dtype=torch.float64)
    for row, length in enumerate(LENGTHS):
        x[length:, row] = torch.nan
    return x.requires_grad_()


# -------------------------------------------------------------------- one row, one direction by torch's own modules


def lstm_row(cell, x, h, c):
    """``torch.nn.LSTM`` with the cell's weights over one row."""
    weights = {
        "weight_ih_l0": cell.from_input.weight,
        "weight_hh_l0": cell.from_state.weight,
        "bias_ih_l0": cell.from_input.bias,
        "bias_hh_l0": cell.from_state.bias,
    }
    module = nn.LSTM(cell.input_size, cell.hidden_size).double()
    y, (h, c) = functional_call(module, weights, (x, (h[None], c[None])))
    return y, h[0], c[0]


def conv_row(conv, x, past):
    """``torch.nn.Conv1d`` over one row with the inputs before it on the left."""
    padded = torch.cat([past, x])
    module = nn.Conv1d(x.shape[1], x.shape[1], K, groups=x.shape[1]).double()
    weights = {"weight": conv.weight, "bias": conv.bias}
    y = functional_call(module, weights, (padded.t()[None],))[0].t() if len(x) else x
    return y, padded[len(padded) - (K - 1) :]


def layer_row(net, index, x, states):
    """One layer over one row in all directions, with the states of that row."""
    outputs, ends = [], []
    for direction, (cell, state) in enumerate(zip(net.layers[index], states, strict=True)):
        read, past = x.flip(0) if direction else x, ()
        if net.conv:
            read, *past = conv_row(cell.conv, read, state[2])
            cell = cell.inner
        y, h, c = lstm_row(cell, read, *state[:2]) if len(x) else (read.new_zeros(0, HIDDEN), *state[:2])
        outputs.append(y.flip(0) if direction else y)
        ends.append((h, c, *past))
    return torch.cat(outputs, -1), ends


def mlp_row(mlp, x):
    n = F.rms_norm(x, x.shape[-1:], mlp.norm.weight, 1e-6)
    return F.linear(F.silu(F.linear(n, mlp.gate.weight)) * F.linear(n, mlp.up.weight), mlp.down.weight)


def network_row(net, x, states):
    ends = []
    for index, around in enumerate(net.around):
        own = states[index * net.directions : (index + 1) * net.directions]
        if net.block == "plain":
            x, end = layer_row(net, index, x, own)
        else:
            read = F.rms_norm(x, x.shape[-1:], around.before.weight, 1e-6)
            y, end = layer_row(net, index, read, own)
            skip = x if x.shape[-1] == y.shape[-1] else F.linear(x, around.shortcut.weight)
            x = skip + y
            if net.block == "prenorm_mlp":
                x = x + mlp_row(around.mlp, x)
        ends += end
    if net.block != "plain":
        x = F.rms_norm(x, x.shape[-1:], net.final_norm.weight, 1e-6)
    return x, ends


def weighed(tensors):
    return sum((each * torch.arange(1.0, 1 + each.numel()).double().cos().view_as(each)).sum() for each in tensors)


def by_rows(net, x, state):
    """Outputs and states of every row by itself, padded and stacked as the network stacks them."""
    rows = []
    for row, length in enumerate(LENGTHS):
        own = [tuple(tensor[index][row] for tensor in state) for index in range(len(net.cells))]
        rows.append(network_row(net, x[:length, row], own))
    y = torch.stack([F.pad(y, (0, 0, 0, max(LENGTHS) - len(y))) for y, _ in rows], 1)
    ends = [
        [torch.stack([end[index][part] for _, end in rows]) for index in range(len(net.cells))]
        for part in range(len(state))
    ]
    return y, ends


def flat(state):
    return [tensor for part in state for tensor in part]


def start_of(net):
    """A random state: a tuple of tensors for each name, as layers of different input sizes have it."""
    torch.manual_seed(2)
    like = torch.zeros(len(LENGTHS), INPUT, dtype=torch.float64)
    starts = zip(*(cell.initial_state(like) for cell in net.cells), strict=True)
    return tuple(tuple(torch.randn_like(tensor).requires_grad_() for tensor in part) for part in starts)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("conv", [0, K])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("kernel", ["loop", "vendor"])
def test_outputs_states_and_gradients_are_those_of_torchs_modules_row_by_row(kernel, block, conv, bidirectional):
    net = built(depth=2, kernel=kernel, block=block, conv=conv, bidirectional=bidirectional)
    x, state = ragged(), start_of(net)
    wanted = [x, *flat(state), *net.parameters()]
    found, end = net(x, state, LENGTHS)
    expected, expected_end = by_rows(net, x, state)
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(flat(end), flat(expected_end), **EXACT)
    gradients = torch.autograd.grad(weighed([found, *flat(end)]), wanted)
    again = torch.autograd.grad(weighed([expected, *flat(expected_end)]), wanted)
    torch.testing.assert_close(gradients, again, **EXACT)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("cell", [LSTM, GRU, MinGRU, MatrixMemory])
def test_a_run_in_pieces_is_the_whole(cell, block):
    """States of named tuples and of several shapes, pieces shorter than the convolution, rows that end within one."""
    net = built(cell, depth=2, block=block, conv=K)
    x = ragged().detach()
    whole, end = net(x, lengths=LENGTHS)
    pieces, state, begin = [], None, 0
    for size in (1, 2, 0, 5, 1):
        left = (torch.tensor(LENGTHS) - begin).clamp(0, size)
        y, state = net(x[begin : begin + size], state, left)
        pieces.append(y)
        begin += size
    assert begin == len(x)
    torch.testing.assert_close(torch.cat(pieces), whole, **EXACT)
    torch.testing.assert_close(flat(state), flat(end), **EXACT)


@pytest.mark.parametrize("checkpoint_steps", [1, 4])
def test_chunks_draw_the_same_numbers_and_have_the_same_gradient(checkpoint_steps):
    found = []
    rates = {"dropout": 0.3, "locked_dropout": 0.2, "state_dropout": 0.2, "zoneout": 0.2, "weight_drop": 0.3}
    for steps in (0, checkpoint_steps):
        net = built(depth=2, block="prenorm_mlp", conv=K, checkpoint_steps=steps, **rates)
        x = ragged()
        torch.manual_seed(3)
        y, end = net(x, lengths=LENGTHS)
        wanted = [x, *net.parameters()]
        found.append((y, *flat(end), torch.rand(2), *torch.autograd.grad(weighed([y, *flat(end)[:2]]), wanted)))
    torch.testing.assert_close(*found, **EXACT)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_truncation_cuts_the_gradient_of_past_inputs_too(bidirectional):
    net = built(GRU, conv=K, truncate=2, bidirectional=bidirectional)
    free = built(GRU, conv=K, bidirectional=bidirectional)
    x = torch.randn(8, 1, INPUT, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(net(x)[0], free(x)[0], **EXACT)
    y, _ = net(x)
    (gradient,) = torch.autograd.grad(y[5, :, :HIDDEN].sum(), x)  # of the forward direction, in the piece 4..5
    assert gradient[4:6].all()
    assert not gradient[:4].any()


@pytest.mark.parametrize(("cell", "kernel"), [(GRU, "fused"), (MinGRU, "parallel"), (GRU, "vendor"), (GRU, "auto")])
def test_kernels_scan_the_cell_within(cell, kernel):
    nets = [built(cell, depth=2, block="prenorm_mlp", conv=K, kernel=name) for name in (kernel, "loop")]
    x = torch.randn(9, 4, INPUT, dtype=torch.float64)
    found, expected = (net(x, lengths=LENGTHS) for net in nets)
    assert nets[0].choice.kernel.name != "loop"
    torch.testing.assert_close(found[0], expected[0], **EXACT)
    torch.testing.assert_close(flat(found[1]), flat(expected[1]), **EXACT)


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_step_is_the_reference_of_the_convolution(wrapped):
    net = built(MatrixMemory, conv=3)
    cell = net.cells[0]
    if wrapped:
        cell.inner = StateDropout(cell.inner, 0.0)
    x, state = torch.randn(6, 4, INPUT, dtype=torch.float64), cell.initial_state(torch.zeros(4, 1).double())
    expected, end = scan(cell, x, state, [6, 2, 0, 1])
    found, stacked = net(x, None, [6, 2, 0, 1])
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close([each[0] for each in stacked], list(end), **EXACT)


@pytest.mark.parametrize("conv", [0, K])
def test_recorded_steps_are_of_the_cells_within(conv):
    net = built(depth=2, bidirectional=True, block="prenorm", conv=conv)
    recording = Recording(net)
    x = torch.randn(7, 2, INPUT, dtype=torch.float64)
    y, _ = recording.network(x, lengths=[7, 3])
    torch.testing.assert_close(y, net.eval()(x, lengths=[7, 3])[0], **EXACT)
    found = [(track.layer, track.direction, type(track.cell)) for track in recording.tracks]
    assert found == [(layer, direction, LSTM) for layer in (0, 1) for direction in ("forward", "backward")]


def test_autocast_and_no_steps():
    net = Recurrent(GRU, 4, hidden_size=4, depth=2, block="prenorm_mlp", conv=K, kernel="loop")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = net(torch.randn(5, 2, 4))
        net(torch.randn(5, 2, 4), state)
    y.float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())
    y, end = net(torch.zeros(0, 2, 4), state)
    assert y.shape == (0, 2, 4)
    torch.testing.assert_close(end, state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": "postnorm"}, "block must be one of plain, prenorm, prenorm_mlp, got postnorm"),
        ({"conv": 1}, "conv must be 0 or >= 2, got 1"),
        ({"conv": -4}, "conv must be 0 or >= 2, got -4"),
        ({"block": "prenorm", "connection": "residual"}, "connection must be none with block=prenorm"),
    ],
)
def test_values_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Recurrent(LSTM, INPUT, hidden_size=HIDDEN, **options)


def test_only_the_convolution_adds_a_state():
    for conv, names in ((0, ("h", "c")), (K, ("h", "c", "past"))):
        net = Recurrent(LSTM, INPUT, hidden_size=HIDDEN, block="prenorm", conv=conv)
        assert net.cells[0].state_names == names
        assert isinstance(net.cells[0], Convolved) == bool(conv)
