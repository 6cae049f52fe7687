"""Wrappers around any cell: what they do in training, that they are off in evaluation, and which kernels they keep."""

import pytest
import torch
from torch import nn

from seqlab import Recurrent
from seqlab.recurrence.wrappers import StateDropout, Zoneout, recurrent_matrices
from seqlab_cells.gru import GRU
from seqlab_cells.lstm import LSTM
from seqlab_cells.rnn import RNN

from .odd_cells import Leaky, MatrixMemory

SETTINGS = {
    "dropout": 0.4,
    "locked_dropout": 0.4,
    "state_dropout": 0.4,
    "zoneout": 0.4,
    "weight_drop": 0.4,
}


def inputs(time=6, batch=4, size=3):
    return torch.randn(time, batch, size, dtype=torch.float64)


def built(cell, **settings):
    torch.manual_seed(0)
    return Recurrent(cell, 3, hidden_size=5, depth=2, **settings).double()


@pytest.mark.parametrize("cell", [RNN, LSTM, GRU])
@pytest.mark.parametrize("name", SETTINGS)
def test_each_is_random_in_training_and_off_in_evaluation(cell, name):
    net, plain, x = built(cell, **{name: SETTINGS[name]}), built(cell), inputs()
    assert not torch.equal(net(x)[0], net(x)[0])
    net.eval()
    assert torch.equal(net(x)[0], net(x)[0])
    if name != "zoneout":  # whose evaluation is the mean of training, not the plain cell
        torch.testing.assert_close(net(x)[0], plain.eval()(x)[0], atol=1e-14, rtol=0)


@pytest.mark.parametrize("cell", [RNN, LSTM, GRU])
@pytest.mark.parametrize(
    ("settings", "kernel"),
    [
        ({"dropout": 0.4}, "vendor"),
        ({"locked_dropout": 0.4}, "vendor"),
        ({"weight_drop": 0.4}, "vendor"),
        ({"layer_norm": True}, "vendor"),
        ({"connection": "residual"}, "vendor"),
        ({"connection": "highway"}, "vendor"),
        ({"block": "prenorm_mlp"}, "vendor"),
        ({"conv": 4}, "vendor"),
        ({"learned_start": True}, "vendor"),
        ({"truncate": 2}, "vendor"),
        ({"zoneout": 0.4}, "loop"),
        ({"state_dropout": 0.4}, "loop"),
    ],
)
def test_which_keep_the_fast_path(cell, settings, kernel):
    """The table of docs/do/cell.md."""
    net = built(cell, **settings)
    net(inputs())
    assert net.choice.kernel.name == kernel


@pytest.mark.parametrize("settings", [{}, *({name: rate} for name, rate in SETTINGS.items()), SETTINGS])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_ragged_rows_stay_zero_and_every_parameter_learns(settings, bidirectional):
    net = built(
        LSTM, bidirectional=bidirectional, layer_norm=True, connection="highway", learned_start=True, **settings
    )
    x, lengths = inputs(), torch.tensor([6, 1, 3, 0])
    x[3:, 2] = float("nan")
    y, _ = net(x, lengths=lengths)
    for row, length in enumerate(lengths):
        assert not y[length:, row].any()
    (y * torch.randn_like(y)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


class TestZoneout:
    def test_units_are_old_or_new_in_the_stated_share(self):
        cell = Zoneout(LSTM(3, 2000), 0.25)
        x, state = cell.project(torch.randn(1, 2, 3))[0], (torch.rand(2, 2000), torch.rand(2, 2000))
        with torch.no_grad():
            y, new = cell.step(x, state)
            _, stepped = cell.inner.step(x, state)
        for n, old, plain in zip(new, state, stepped, strict=True):
            kept = n == old
            assert torch.equal(torch.where(kept, old, plain), n)
            assert abs(kept.float().mean() - 0.25) < 0.03
        assert y is new[0]

    def test_evaluation_is_the_mean_of_training(self):
        cell = Zoneout(GRU(3, 4), 0.3)
        x, state = cell.project(torch.randn(1, 2, 3))[0], (torch.rand(2, 4),)
        with torch.no_grad():
            mean = torch.stack([cell.step(x, state)[0] for _ in range(4000)]).mean(0)
            torch.testing.assert_close(mean, cell.eval().step(x, state)[0], atol=0.02, rtol=0)

    def test_a_named_tuple_stays_one(self):
        cell = Zoneout(MatrixMemory(3, 4), 0.5)
        x = torch.randn(1, 2, 3)
        state = cell.initial_state(x[0])
        _, new = cell.step(cell.project(x)[0], state)
        assert type(new) is type(state)


class TestStateDropout:
    def test_the_mask_is_one_for_a_sequence_and_another_for_the_next(self):
        net = Recurrent(LSTM, 3, hidden_size=50, state_dropout=0.5)
        x = torch.randn(6, 4, 3)
        _, first = net(x)
        _, second = net(x)
        assert len(first) == 3
        assert set(first[2].unique().tolist()) == {0.0, 2.0}
        assert not torch.equal(first[2], second[2])
        _, further = net(x, first)
        assert torch.equal(first[2], further[2])

    def test_it_is_the_cell_on_a_masked_state(self):
        cell = StateDropout(RNN(3, 4), 0.5)
        x = torch.randn(2, 3)
        h, mask = torch.randn(2, 4), torch.tensor([[0.0, 2.0, 2.0, 0.0]] * 2)
        projected = cell.project(x.unsqueeze(0))[0]
        expected, _ = cell.inner.step(projected, (h * mask,))
        assert torch.equal(cell.step(projected, (h, mask))[0], expected)


class TestWeightDrop:
    @pytest.mark.parametrize("cell", [RNN, LSTM, GRU])
    def test_the_recurrent_matrix_is_found(self, cell):
        assert [(type(owner), name) for owner, name in recurrent_matrices(cell(3, 4))] == [(nn.Linear, "weight")]
        owner, _ = recurrent_matrices(net := cell(3, 4))[0]
        assert owner is net.from_state

    @pytest.mark.parametrize("kernel", ["loop", "vendor"])
    def test_one_mask_holds_for_all_steps_of_a_pass(self, kernel):
        """With the dropped weight read out, the pass equals that of a plain cell with that weight."""
        net = Recurrent(LSTM, 3, hidden_size=5, weight_drop=0.5, kernel=kernel).double()
        plain = Recurrent(LSTM, 3, hidden_size=5, kernel="loop").double()
        seen = []
        net.cells[0].from_state.parametrizations.weight[0].register_forward_hook(lambda *a: seen.append(a[2].detach()))
        x = inputs()
        y, _ = net(x)
        assert len(seen) == 1
        state = {name.replace("parametrizations.weight.original", "weight"): v for name, v in net.state_dict().items()}
        plain.load_state_dict(state)
        with torch.no_grad():
            plain.cells[0].from_state.weight.copy_(seen[0])
        torch.testing.assert_close(y, plain(x)[0], atol=1e-12, rtol=0)
        assert 0.3 < (seen[0] == 0).double().mean() < 0.7

    def test_a_cell_without_such_a_matrix_says_so(self):
        with pytest.raises(ValueError, match="weight_drop: Leaky has no matrix that a step applies to its state"):
            Recurrent(Leaky, 3, weight_drop=0.5)


def test_locked_dropout_drops_a_feature_for_the_whole_sequence():
    from seqlab.recurrence.wrappers import locked_dropout

    x = torch.ones(7, 3, 200)
    dropped = locked_dropout(x, 0.5, training=True)
    assert all(torch.equal(dropped[0], step) for step in dropped)
    assert not torch.equal(dropped[0, 0], dropped[0, 1])
    assert 0.4 < (dropped == 0).float().mean() < 0.6
    assert locked_dropout(x, 0.5, training=False) is x


def test_residual_adds_and_highway_mixes():
    x = inputs(size=5)
    for connection in ("residual", "highway"):
        torch.manual_seed(0)
        net = Recurrent(GRU, 5, hidden_size=5, connection=connection).double()
        torch.manual_seed(0)
        plain = Recurrent(GRU, 5, hidden_size=5).double()
        y, _ = plain(x)
        if connection == "residual":
            expected = x + y
        else:
            gate = torch.sigmoid(net.around[0].gate(x))
            expected = gate * y + (1 - gate) * x
        torch.testing.assert_close(net(x)[0], expected)


def test_a_learned_start_begins_as_the_cells_own_and_learns():
    net, plain, x = built(LSTM, learned_start=True), built(LSTM), inputs()
    plain.load_state_dict({name: v for name, v in net.state_dict().items() if not name.startswith("starts")})
    torch.testing.assert_close(net(x)[0], plain(x)[0])
    net(x)[0].sum().backward()
    for leaf in net.starts.parameters():
        assert leaf.grad.abs().sum() > 0
    given = tuple(torch.randn(2, 4, 5, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(net(x, given)[0], plain(x, given)[0])


@pytest.mark.parametrize("name", [*SETTINGS])
def test_a_rate_out_of_range_names_itself(name):
    with pytest.raises(ValueError, match=rf"{name} must be >= 0 and < 1, got 1\.0"):
        Recurrent(LSTM, 3, hidden_size=5, **{name: 1.0})


def test_an_unknown_connection_lists_those_there_are():
    with pytest.raises(ValueError, match="connection must be one of none, residual, highway, got bridge"):
        Recurrent(LSTM, 3, hidden_size=5, connection="bridge")


@pytest.mark.parametrize(
    "settings", [{"zoneout": 0.2}, {"connection": "highway", "depth": 2}, {"state_dropout": 0.2}, {"layer_norm": True}]
)
@pytest.mark.parametrize("training", [False, True])
def test_autocast_mixes_no_dtypes(settings, training):
    net = Recurrent(GRU, 4, hidden_size=4, kernel="loop", **settings).train(training)
    x = torch.randn(5, 2, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = net(x)
    y.float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())
