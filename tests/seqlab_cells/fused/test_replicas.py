"""The fused scan under vmap: layers of one shape, each with its own weights, in one call."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.testing import assert_close

from seqlab import Cell, Recurrent
from seqlab_cells.fused.kernel import Fused
from seqlab_cells.gru import GRU
from seqlab_cells.lstm import LSTM
from seqlab_cells.rnn import RNN

REPLICAS, TIME, BATCH, INPUT, HIDDEN = 3, 9, 5, 4, 7
CELLS = [(RNN, {}), (RNN, {"nonlinearity": "relu"}), (LSTM, {}), (GRU, {})]


def replicas(cell: type[Cell], **options: Any) -> tuple[list[Recurrent], dict[str, Tensor]]:
    """Networks with weights of their own, and their parameters stacked."""
    made = []
    for seed in range(REPLICAS):
        torch.manual_seed(seed)
        made.append(Recurrent(cell, INPUT, hidden_size=HIDDEN, **options).double())
    names = dict(made[0].named_parameters())
    each = [dict(one.named_parameters()) for one in made]
    return made, {name: torch.stack([own[name].detach() for own in each]).requires_grad_() for name in names}


@pytest.mark.parametrize(("cell", "options"), CELLS, ids=["rnn", "relu", "lstm", "gru"])
@pytest.mark.parametrize("both", [False, True], ids=["forward", "both_ways"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("threads", [2, 4])
def test_outputs_states_and_gradients_are_those_of_the_loop_one_by_one(
    cell: type[Cell], options: dict[str, str], both: bool, ragged: bool, threads: int
) -> None:
    """Also where threads outnumber the replicas."""
    options = {**options, "bidirectional": both, "depth": 2}
    networks, parameters = replicas(cell, kernel="fused", **options)
    x = torch.randn(REPLICAS, TIME, BATCH, INPUT, dtype=torch.float64, requires_grad=True)
    lengths = torch.randint(0, TIME + 1, (REPLICAS, BATCH)) if ragged else None

    def outputs(own: dict[str, Tensor], rows: Tensor, valid: Tensor | None) -> Any:
        return functional_call(networks[0], own, (rows, None, valid))

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y, states = vmap(outputs, in_dims=(0, 0, 0 if ragged else None))(parameters, x, lengths)
        assert networks[0].choice is not None
        assert networks[0].choice.kernel.name == "fused"
        upstream = [torch.randn_like(each) for each in (y, *states)]
        found = torch.autograd.grad((y, *states), (x, *parameters.values()), upstream)
    finally:
        torch.set_num_threads(before)
    for index, network in enumerate(networks):
        network.kernel = "loop"
        own = network(x[index], None, None if lengths is None else lengths[index])
        assert_close((y[index], tuple(each[index] for each in states)), own, rtol=1e-12, atol=1e-12)
        weights = list(network.parameters())
        expected = torch.autograd.grad((own[0], *own[1]), (x, *weights), [each[index] for each in upstream])
        assert_close(found[0][index], expected[0][index], rtol=1e-11, atol=1e-12)
        assert_close([each[index] for each in found[1:]], list(expected[1:]), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("cell", [LSTM, GRU])
def test_recomputed_gates_and_a_shared_input(cell: type[Cell]) -> None:
    """An input without the axis of replicas is read by all; its gradient is the sum over them."""
    kernel = replicas(cell, kernel="fused")[0][0]
    kernel(torch.zeros(TIME, BATCH, INPUT, dtype=torch.float64))
    assert kernel.choice is not None
    assert isinstance(kernel.choice.kernel, Fused)
    networks, parameters = replicas(cell, kernel=type(kernel.choice.kernel)(save="recompute"))
    x = torch.randn(TIME, BATCH, INPUT, dtype=torch.float64, requires_grad=True)
    y = vmap(lambda own: functional_call(networks[0], own, (x,))[0])(parameters)
    found = torch.autograd.grad(y.square().sum(), (x, *parameters.values()))
    for network in networks:
        network.kernel = "loop"
    own = torch.stack([network(x)[0] for network in networks])
    weights = [weight for network in networks for weight in network.parameters()]
    expected = torch.autograd.grad(own.square().sum(), (x, *weights))
    assert_close(y, own, rtol=1e-12, atol=1e-12)
    assert_close(found[0], expected[0], rtol=1e-11, atol=1e-12)
    stacked = [torch.stack(expected[1 + place :: len(parameters)]) for place in range(len(parameters))]
    assert_close(list(found[1:]), stacked, rtol=1e-11, atol=1e-12)


def test_another_transform_is_left_to_the_loop() -> None:
    networks, parameters = replicas(GRU, kernel="auto")
    x = torch.randn(TIME, BATCH, INPUT, dtype=torch.float64)

    def loss(own: dict[str, Tensor]) -> Tensor:
        return functional_call(networks[0], own, (x,))[0].square().sum()

    found = vmap(torch.func.grad(loss))(parameters)
    assert networks[0].choice is not None
    assert networks[0].choice.kernel.name == "loop"
    own = networks[1](x)[0].square().sum()
    expected = torch.autograd.grad(own, list(networks[1].parameters()))
    assert_close([each[1] for each in found.values()], list(expected), rtol=1e-11, atol=1e-12)
