"""Recurrent -> torch.nn -> Recurrent."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.testing import assert_close

from seqlab import Recurrent
from seqlab_cells.convert import from_torch, to_torch
from seqlab_cells.gru import GRU
from seqlab_cells.lstm import LSTM
from seqlab_cells.rnn import RNN

from .common import HIDDEN, INPUT, every_network, pair

cells: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn_tanh": (RNN, {}),
    "rnn_relu": (RNN, {"nonlinearity": "relu"}),
    "lstm": (LSTM, {"forget_bias": 1.0}),
    "gru": (GRU, {}),
}


@every_network
@pytest.mark.parametrize("bidirectional", [False, True])
def test_to_torch_computes_the_same(kind: str, bidirectional: bool) -> None:
    cell, options = cells[kind]
    recurrent = Recurrent(cell, INPUT, depth=2, bidirectional=bidirectional, hidden_size=HIDDEN, **options).double()
    x = torch.randn(6, 3, INPUT, dtype=torch.float64)
    output, state = recurrent(x)
    theirs, end = to_torch(recurrent)(x)
    assert_close(theirs, output, rtol=0, atol=1e-14)
    assert_close(end if isinstance(end, tuple) else (end,), tuple(state), rtol=0, atol=1e-14)


@every_network
def test_there_and_back_keeps_everything(kind: str) -> None:
    """Every weight bit by bit, and every option that a module shows."""
    module, _ = pair(kind, "auto", num_layers=2, bidirectional=True, dropout=0.25, batch_first=True)
    module.eval()
    recurrent = from_torch(module)
    assert (recurrent.depth, recurrent.bidirectional, recurrent.dropout) == (2, True, 0.25)
    assert recurrent.batch_first
    assert not recurrent.training
    back = to_torch(recurrent)
    assert repr(back) == repr(module)
    assert back.mode == module.mode
    assert back.training == module.training
    assert back.state_dict().keys() == module.state_dict().keys()
    assert all(torch.equal(back.state_dict()[name], value) for name, value in module.state_dict().items())


def test_an_irnn_converts_there_and_back() -> None:
    """What it began with is in its weights; nothing of it is an option of torch's."""
    recurrent = Recurrent(RNN, INPUT, hidden_size=HIDDEN, nonlinearity="relu", initialisation="identity")
    module = to_torch(recurrent)
    assert torch.equal(module.weight_hh_l0, torch.eye(HIDDEN))
    for name, value in from_torch(module).state_dict().items():
        assert torch.equal(value, recurrent.state_dict()[name])


def test_weights_are_copies() -> None:
    module, _ = pair("gru", "auto")
    recurrent = from_torch(module)
    with torch.no_grad():
        module.weight_hh_l0.zero_()
    assert recurrent.cells[0].from_state.weight.any()
    back = to_torch(recurrent)
    with torch.no_grad():
        recurrent.cells[0].from_state.weight.zero_()
    assert back.weight_hh_l0.any()


def test_lacking_biases_become_zeros() -> None:
    module = nn.LSTM(INPUT, HIDDEN, num_layers=2, bias=False)
    recurrent, x = from_torch(module), torch.randn(4, 2, INPUT)
    assert_close(recurrent(x)[0], module(x)[0])
    assert not any(cell.from_state.bias.any() or cell.from_input.bias.any() for cell in recurrent.cells)


def test_a_parametrised_weight_becomes_its_value() -> None:
    recurrent = Recurrent(GRU, INPUT, hidden_size=HIDDEN)
    weight_norm(recurrent.cells[0].from_state)
    x = torch.randn(4, 2, INPUT)
    assert_close(to_torch(recurrent)(x)[0], recurrent(x)[0])


class Other(nn.LSTM):
    """A subclass may compute anything."""


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: nn.LSTM(INPUT, HIDDEN, proj_size=2), "proj_size .* 2"),
        (lambda: Other(INPUT, HIDDEN), "Other cannot be converted; nn.RNN, nn.LSTM and nn.GRU can"),
    ],
)
def test_from_torch_names_what_it_cannot_convert(module: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_torch(module())


@pytest.mark.parametrize(
    "option",
    [
        {"truncate": 5},
        {"locked_dropout": 0.1},
        {"weight_drop": 0.1},
        {"learned_start": True},
        {"layer_norm": True},
        {"connection": "residual"},
        {"block": "prenorm"},
        {"conv": 4},
    ],
    ids=lambda option: next(iter(option)),
)
def test_to_torch_names_the_option_that_torch_lacks(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"torch\.nn has no .*{next(iter(option))}"):
        to_torch(Recurrent(GRU, INPUT, hidden_size=INPUT, **option))


def test_to_torch_names_the_cell_that_torch_lacks() -> None:
    for recurrent, name in ((Recurrent(Wider, INPUT), "Wider"), (Recurrent(GRU, INPUT, zoneout=0.1), "Zoneout")):
        with pytest.raises(ValueError, match=rf"torch\.nn has no {name}; it has RNN, LSTM, GRU"):
            to_torch(recurrent)
    recurrent = Recurrent(GRU, INPUT, depth=2)
    recurrent.cells[1].from_state.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="cell 1: from_state has a forward hook"):
        to_torch(recurrent)


class Wider(GRU):  # type: ignore[misc]  # final to type checkers; nothing stops a person
    """A subclass, which torch does not have."""
