"""When the vendor kernels run, when they refuse, and what they then say."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrizations, prune
from torch.testing import assert_close

from seqlab import Cell, Kernel, Recurrent
from seqlab.discovery.kernels import kernels_for
from seqlab.recurrence import Loop
from seqlab_cells.gru import GRU, GRUVendor
from seqlab_cells.lstm import LSTM, LSTMVendor
from seqlab_cells.rnn import RNN

every_cell = pytest.mark.parametrize("cell", [RNN, LSTM, GRU])


def network(cell: type[Cell], kernel: str | Kernel = "auto", **options: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(cell, 4, hidden_size=5, kernel=kernel, **options)


def batch() -> Tensor:
    return torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(1))


@every_cell
def test_auto_takes_it(cell: type[Cell]) -> None:
    recurrent = network(cell)
    recurrent(batch())
    assert recurrent.choice is not None
    assert recurrent.choice.kernel.name == "vendor"


def test_a_subclass_does_not_get_its_parents_kernel() -> None:
    recurrent, x = network(Doubled), batch()
    output, _ = recurrent(x)
    assert recurrent.choice is not None
    assert isinstance(recurrent.choice.kernel, Loop)
    assert_close(output, 2 * network(LSTM)(x)[0])
    for kernel in ("vendor", LSTMVendor()):
        with pytest.raises(ValueError, match="kernel=vendor: Doubled has no such kernel; it has auto, loop"):
            network(Doubled, kernel)(x)


class Doubled(LSTM):  # type: ignore[misc]  # final to type checkers; nothing stops a person
    """An LSTM whose outputs are twice as large."""

    def step(self, x: Any, state: Any) -> Any:
        h, state = super().step(x, state)
        return 2 * h, state


def test_an_unknown_kernel_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"kernel=vender: LSTM has no such kernel; it has auto, loop,.* vendor"):
        network(LSTM, "vender")(batch())


def test_a_kernel_of_another_cell_is_not_taken() -> None:
    with pytest.raises(ValueError, match="kernel=vendor: LSTM has no such kernel"):
        network(LSTM, GRUVendor())(batch())


def _replace(cell: Cell) -> None:
    cell.from_state = nn.Sequential(cell.from_state)


def _drop_bias(cell: Cell) -> None:
    cell.from_state = nn.Linear(5, cell.from_state.out_features, bias=False)


def _replace_step(cell: Cell) -> None:
    cell.step = lambda x, state: (2 * state[0], state)


def _replace_forward(cell: Cell) -> None:
    cell.from_input.forward = lambda x: torch.zeros(*x.shape[:-1], cell.from_input.out_features)


MODIFIED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "replaced": (_replace, "from_state is a Sequential, not a Linear"),
    "no bias": (_drop_bias, "from_state has no bias"),
    "pruned": (lambda cell: prune.random_unstructured(cell.from_state, "weight", 0.5), "a forward pre-hook"),
    "forward hook": (lambda c: c.from_input.register_forward_hook(lambda m, i, y: 2 * y), "from_input has a forward"),
    "backward hook": (lambda c: c.from_state.register_full_backward_hook(lambda *_: None), "a backward hook"),
    "own step": (_replace_step, "step was replaced on this cell"),
    "own forward": (_replace_forward, "forward was replaced on from_input"),
}


@every_cell
@pytest.mark.parametrize("how", MODIFIED)
def test_a_modified_cell_is_refused_and_loops(cell: type[Cell], how: str) -> None:
    modify, reason = MODIFIED[how]
    recurrent, looped = network(cell), network(cell, "loop")
    for each in (recurrent, looped):
        torch.manual_seed(2)
        modify(each.cells[0])
    output, _ = recurrent(batch())
    assert recurrent.choice is not None
    assert isinstance(recurrent.choice.kernel, Loop)
    assert "vendor refuses: " in recurrent.choice.reason
    assert reason in recurrent.choice.reason
    assert torch.equal(output, looped(batch())[0])
    recurrent.kernel = "vendor"
    with pytest.raises(ValueError, match=f"kernel=vendor refuses {cell.__name__}: .*{reason}"):
        recurrent(batch())


@every_cell
def test_parametrised_weights_are_used_and_trained(cell: type[Cell]) -> None:
    """Weight norm: the gradients reach its magnitudes and directions."""
    gradients = []
    for kernel in ("vendor", "loop"):
        recurrent = network(cell, kernel).double()
        parametrizations.weight_norm(recurrent.cells[0].from_state)
        recurrent(batch().double(), lengths=torch.tensor([6, 2, 4]))[0].square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in recurrent.named_parameters()})
    assert any("original0" in name for name in gradients[0])
    assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-12)


@every_cell
@pytest.mark.parametrize("bidirectional", [False, True])
def test_mixed_dtypes_and_devices_are_refused(cell: type[Cell], bidirectional: bool) -> None:
    recurrent = network(cell, "vendor", bidirectional=bidirectional)
    with pytest.raises(ValueError, match=r"the input is torch\.float64 and the parameters are torch\.float32"):
        recurrent(batch().double())
    with pytest.raises(ValueError, match="the input is on meta and the parameters are on cpu"):
        recurrent(batch().to("meta"))
    recurrent.cells[-1].double()
    with pytest.raises(ValueError, match="refuses"):
        recurrent(batch())


@every_cell
def test_autocast_on_the_cpu_is_refused(cell: type[Cell]) -> None:
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="under autocast on the CPU"):
        network(cell, "vendor")(batch())


@every_cell
def test_sparse_and_nested_input_is_refused(cell: type[Cell]) -> None:
    recurrent = network(cell)
    (kernel,) = [kernel for kernel in kernels_for(cell) if kernel.name == "vendor"]
    for x in (batch().to_sparse(), torch.nested.nested_tensor([torch.zeros(2, 3, 4)], layout=torch.jagged)):
        assert kernel.refuses(recurrent.cells, x, None) == "the input is not a dense tensor"


@every_cell
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own use of it
def test_transforms_that_torch_has_no_rule_for_fall_back_to_the_loop(cell: type[Cell]) -> None:
    """Per-sample gradients by vmap, and forward-mode differentiation, against the loop."""
    recurrent, x = network(cell), batch()
    names = dict(recurrent.named_parameters())

    def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return torch.func.functional_call(recurrent, parameters, (row.unsqueeze(1),))[0].square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(names, x)
    recurrent.kernel = "loop"
    for row in range(3):
        alone = torch.func.grad(loss)(names, x[:, row])
        assert_close({name: gradient[row] for name, gradient in each.items()}, alone)

    tangents = []
    for kernel in ("auto", "loop"):
        recurrent.kernel = kernel
        with forward_ad.dual_level():
            tangents.append(forward_ad.unpack_dual(recurrent(forward_ad.make_dual(x, x))[0]).tangent)
    assert_close(tangents[0], tangents[1])


@every_cell
@pytest.mark.parametrize("kernel", ["loop", "vendor"])
def test_second_derivatives_agree_with_finite_differences(cell: type[Cell], kernel: str) -> None:
    recurrent = Recurrent(cell, 2, hidden_size=2, kernel=kernel).double()
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: recurrent(x, lengths=torch.tensor([3, 2]))[0], x)


@every_cell
@pytest.mark.parametrize("mode", [True, False])
def test_gradients_do_not_need_training_mode(cell: type[Cell], mode: bool) -> None:
    recurrent, x = network(cell, "vendor").train(mode), batch().requires_grad_()
    recurrent(x)[0].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
