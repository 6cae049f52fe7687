"""The loop and vendor kernels against ``torch.nn``, what ``kernel=auto`` takes, and what kernels refuse."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrizations, prune
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

from seqlab import Cell, Kernel, Recurrent
from seqlab.plugins.kernels import kernels_for
from seqlab.recurrence import Loop
from seqlab_cells.gru import GRU
from seqlab_cells.lstm import LSTM, LSTMVendor
from seqlab_cells.mingru import MinGRU
from seqlab_cells.minlstm import MinLSTM
from seqlab_cells.rnn import RNN

from .common import HIDDEN, INPUT, both_kernels, every_network, network, pair, run, run_torch, starts

classic = pytest.mark.parametrize("cell", [RNN, LSTM, GRU])


fast = pytest.mark.parametrize(
    ("cell", "name"),
    [(RNN, "vendor"), (LSTM, "vendor"), (GRU, "vendor"), (MinGRU, "parallel"), (MinLSTM, "parallel")],
)


def layer(cell: type[Cell], kernel: str | Kernel = "auto", **options: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(cell, 4, hidden_size=5, kernel=kernel, **options)


def batch() -> Tensor:
    return torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(1))


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
    precise = tuple(each.detach().double().requires_grad_() for each in start)
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


def test_a_subclass_does_not_get_its_parents_kernel() -> None:
    recurrent, x = layer(Doubled), batch()
    output, _ = recurrent(x)
    assert recurrent.choice is not None
    assert isinstance(recurrent.choice.kernel, Loop)
    assert_close(output, 2 * layer(LSTM)(x)[0])
    for kernel in ("vendor", LSTMVendor()):
        with pytest.raises(ValueError, match="kernel=vendor: Doubled has no such kernel; it has auto, loop"):
            layer(Doubled, kernel)(x)


class Doubled(LSTM):  # type: ignore[misc]  # final to type checkers; nothing stops a person
    """An LSTM whose outputs are twice as large."""

    def step(self, x: Any, state: Any) -> Any:
        h, state = super().step(x, state)
        return 2 * h, state


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


@classic
@pytest.mark.parametrize("how", MODIFIED)
def test_a_modified_cell_is_refused_and_loops(cell: type[Cell], how: str) -> None:
    modify, reason = MODIFIED[how]
    recurrent, looped = layer(cell), layer(cell, "loop")
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


@classic
def test_parametrised_weights_are_used_and_trained(cell: type[Cell]) -> None:
    """Weight norm: the gradients reach its magnitudes and directions."""
    gradients = []
    for kernel in ("vendor", "loop"):
        recurrent = layer(cell, kernel).double()
        parametrizations.weight_norm(recurrent.cells[0].from_state)
        recurrent(batch().double(), lengths=torch.tensor([6, 2, 4]))[0].square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in recurrent.named_parameters()})
    assert any("original0" in name for name in gradients[0])
    assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-12)


@classic
@pytest.mark.parametrize("bidirectional", [False, True])
def test_mixed_dtypes_and_devices_are_refused(cell: type[Cell], bidirectional: bool) -> None:
    recurrent = layer(cell, "vendor", bidirectional=bidirectional)
    with pytest.raises(ValueError, match=r"the input is torch\.float64 and the parameters are torch\.float32"):
        recurrent(batch().double())
    with pytest.raises(ValueError, match="the input is on meta and the parameters are on cpu"):
        recurrent(batch().to("meta"))
    recurrent.cells[-1].double()
    with pytest.raises(ValueError, match="refuses"):
        recurrent(batch())


@classic
def test_autocast_on_the_cpu_is_refused(cell: type[Cell]) -> None:
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="under autocast on the CPU"):
        layer(cell, "vendor")(batch())


@classic
@pytest.mark.parametrize("kernel", ["loop", "vendor"])
def test_second_derivatives_agree_with_finite_differences(cell: type[Cell], kernel: str) -> None:
    recurrent = Recurrent(cell, 2, hidden_size=2, kernel=kernel).double()
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: recurrent(x, lengths=torch.tensor([3, 2]))[0], x)


@fast
def test_auto_takes_the_fastest(cell: type[Cell], name: str) -> None:
    recurrent = layer(cell)
    recurrent(batch())
    assert recurrent.choice is not None
    assert recurrent.choice.kernel.name == name


@fast
def test_sparse_and_nested_input_is_refused(cell: type[Cell], name: str) -> None:
    (kernel,) = [kernel for kernel in kernels_for(cell) if kernel.name == name]
    for x in (batch().to_sparse(), torch.nested.nested_tensor([torch.zeros(2, 3, 4)], layout=torch.jagged)):
        assert kernel.refuses(layer(cell).cells, x, None) == "the input is not a dense tensor"


@pytest.mark.parametrize("cell", [MinGRU, MinLSTM])
@pytest.mark.parametrize("name", ["affine", "project", "step"])
def test_a_cell_with_a_replaced_method_loops(cell: type[Cell], name: str) -> None:
    recurrent = layer(cell)
    (made,) = recurrent.cells
    original = getattr(made, name)
    setattr(made, name, lambda *given: original(*given))
    recurrent(batch())
    assert recurrent.choice is not None
    assert isinstance(recurrent.choice.kernel, Loop)
    assert f"parallel refuses: {name}" in recurrent.choice.reason


@fast
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own use of it
def test_torchs_transforms_agree_with_the_loop(cell: type[Cell], name: str) -> None:
    """Per-sample gradients by vmap, and forward-mode differentiation, by the kernel or by the loop in its place."""
    x, found = batch().double(), []
    for kernel in ("auto", "loop"):
        recurrent = layer(cell, kernel).double()
        names = dict(recurrent.named_parameters())

        def loss(parameters: dict[str, Tensor], row: Tensor, recurrent: Recurrent = recurrent) -> Tensor:
            return torch.func.functional_call(recurrent, parameters, (row.unsqueeze(1),))[0].square().sum()

        each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(names, x)
        alone = [torch.func.grad(loss)(names, x[:, row]) for row in range(3)]
        assert_close(each, {key: torch.stack([row[key] for row in alone]) for key in each}, rtol=1e-12, atol=1e-12)
        with forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(recurrent(forward_ad.make_dual(x, x))[0]).tangent
        found.append((each, tangent))
    assert_close(*found, rtol=1e-12, atol=1e-12)
