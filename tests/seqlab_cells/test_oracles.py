"""Cells against those of other distributions: values and every gradient."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seqlab import Recurrent
from seqlab.plugins.registry import find

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TIME, ROWS, INPUT, HIDDEN = 11, 3, 4, 6


@pytest.fixture(scope="module", autouse=True)
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install xlstm into a folder of its own, on the path."""
    pytest.importorskip("torchrecurrent")
    site = str(tmp_path_factory.mktemp("site"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    done = subprocess.run([*pip, "--target", site, "xlstm==2.0.6"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no package index: {done.stderr.strip().splitlines()[-1]}")
    sys.path.insert(0, site)
    yield
    sys.path.remove(site)


def network(name: str, **options: Any) -> tuple[Recurrent, Tensor]:
    torch.manual_seed(0)
    net = Recurrent(find("cell", name).load(), INPUT, hidden_size=HIDDEN, kernel="loop", **options).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return net, torch.randn(TIME, ROWS, INPUT, dtype=torch.float64, requires_grad=True)


def check(net: Recurrent, x: Tensor, outputs: list[Tensor], state: tuple[Tensor, ...]) -> None:
    """Compare outputs, final state, and the gradients of both for inputs and parameters."""
    y, end = net(x)
    assert_close(y, torch.stack(outputs), rtol=1e-10, atol=1e-10)
    ours, theirs = (y, *(h[0] for h in end)), (torch.stack(outputs), *state)
    assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    weights = [torch.randn_like(each) for each in ours]
    sources = [x, *net.parameters()]
    gradients = [
        torch.autograd.grad(sum((a * b).sum() for a, b in zip(weights, values, strict=True)), sources)  # type: ignore[arg-type]  # a tensor
        for values in (ours, theirs)
    ]
    assert_close(*gradients, rtol=1e-10, atol=1e-10)


def shared(other: torch.nn.Module, **weights: Tensor) -> Any:
    """Return a cell of torchrecurrent with our weights, as tensors of our graph, and no others."""
    for name, parameter in list(other.named_parameters()):
        del other._parameters[name]
        setattr(other, name, weights.get(name, torch.zeros_like(parameter, dtype=torch.float64)))
    return other


@pytest.mark.parametrize("options", [{}, {"beta": 0.5, "chrono_steps": 50}], ids=str)
def test_janet(options: dict[str, Any]) -> None:
    from torchrecurrent import JANETCell

    net, x = network("janet", **options)
    cell: Any = net.cells[0]
    weights = {
        "weight_ih": cell.from_input.weight,
        "bias_ih": cell.from_input.bias,
        "weight_hh": cell.from_state.weight,
    }
    other = shared(JANETCell(INPUT, HIDDEN), **weights)
    other.beta = torch.tensor(cell.beta, dtype=torch.float64)
    state, outputs = (x.new_zeros(ROWS, HIDDEN),) * 2, []
    for step in x:
        state = other(step, state)
        outputs.append(state[0])
    check(net, x, outputs, state[:1])


def test_mgu() -> None:
    from torchrecurrent import MGUCell

    net, x = network("mgu")
    cell: Any = net.cells[0]
    recurrent = torch.cat([cell.to_gate.weight, cell.to_candidate.weight])
    weights = {"weight_ih": cell.from_input.weight, "bias_ih": cell.from_input.bias, "weight_hh": recurrent}
    other, h, outputs = shared(MGUCell(INPUT, HIDDEN), **weights), x.new_zeros(ROWS, HIDDEN), []
    for step in x:
        h = other(step, h)
        outputs.append(h)
    check(net, x, outputs, (h,))


def test_cornn() -> None:
    from torchrecurrent import coRNNCell

    net, x = network("cornn", dt=0.3)
    cell: Any = net.cells[0]
    by_y, by_z = cell.from_state.weight.chunk(2, dim=1)
    weights = {
        "weight_ih": cell.from_input.weight,
        "bias_ih": cell.from_input.bias,
        "weight_hh": by_y,
        "weight_ch": by_z,
    }
    other = shared(coRNNCell(INPUT, HIDDEN, dt=0.3, gamma=cell.gamma, epsilon=cell.epsilon), **weights)
    state, outputs = (x.new_zeros(ROWS, HIDDEN),) * 2, []
    for step in x:
        state = other(step, state)
        outputs.append(state[0])
    check(net, x, outputs, state)


@pytest.mark.parametrize("gated", [False, True])
def test_antisymmetric(gated: bool) -> None:
    import torchrecurrent

    net, x = network("antisymmetric", gated=gated, step_size=0.3, diffusion=0.2)
    cell: Any = net.cells[0]
    kind = torchrecurrent.GatedAntisymmetricRNNCell if gated else torchrecurrent.AntisymmetricRNNCell
    weights = {"weight_ih": cell.from_input.weight, "bias_ih": cell.from_input.bias, "weight_hh": cell.from_state}
    if gated:  # whose gate is first
        weights |= {name: torch.cat(weights[name].chunk(2)[::-1]) for name in ("weight_ih", "bias_ih")}
    other = shared(kind(INPUT, HIDDEN, epsilon=0.3, gamma=0.2), **weights)
    h, outputs = x.new_zeros(ROWS, HIDDEN), []
    for step in x:
        h = other(step, h)
        outputs.append(h)
    check(net, x, outputs, (h,))


def test_slstm() -> None:
    from xlstm.blocks.slstm.src.vanilla.slstm import slstm_forward_pointwise

    net, x = network("slstm", heads=2)
    cell: Any = net.cells[0]
    states, outputs = x.new_zeros(4, ROWS, HIDDEN), []
    for step in x:
        given = step @ cell.from_input.weight.T
        blocks = [h @ block for h, block in zip(states[0].chunk(2, dim=-1), cell.from_state, strict=True)]
        recurrent = torch.stack(blocks, dim=1).unflatten(-1, (4, -1)).transpose(1, 2).flatten(1)
        states, _ = slstm_forward_pointwise(given, recurrent, cell.from_input.bias, states, {})
        outputs.append(states[0])
    check(net, x, outputs, tuple(states))


def test_mlstm() -> None:
    """By values: the state of theirs is divided by another number."""
    from xlstm.blocks.mlstm.backends import parallel_stabilized_simple, recurrent_step_stabilized_simple

    net, x = network("mlstm", heads=2)
    cell: Any = net.cells[0]
    q, k, v, o = (part.unflatten(-1, (2, -1)).permute(1, 2, 0, 3) for part in cell.from_input(x).chunk(4, dim=-1))
    i, f = (gate.permute(1, 2, 0).unsqueeze(-1) for gate in cell.to_gates(x).chunk(2, dim=-1))
    expected = torch.sigmoid(o) * parallel_stabilized_simple(q, k, v, i, f, eps=0.0)
    check_outputs = list(expected.permute(2, 0, 1, 3).flatten(2))
    y, (c, n, m) = net(x)
    assert_close(y, torch.stack(check_outputs), rtol=1e-10, atol=1e-10)
    weight, sources = torch.randn_like(y), [x, *net.parameters()]
    gradients = [torch.autograd.grad((each * weight).sum(), sources) for each in (y, torch.stack(check_outputs))]
    assert_close(*gradients, rtol=1e-10, atol=1e-10)
    state = [x.new_zeros(ROWS, 2, *shape) for shape in ((3, 3), (3, 1), (1, 1))]
    for t in range(TIME):
        qkv = (part[:, :, t : t + 1].clone() for part in (q, k, v))
        state = list(recurrent_step_stabilized_simple(*state, *qkv, i[:, :, t : t + 1], f[:, :, t : t + 1], eps=0.0)[1])
    scale = torch.exp(state[2])
    assert_close(c[0] * torch.exp(m[0])[..., None, None], (state[0] * scale).mT, rtol=1e-10, atol=1e-10)
    assert_close(n[0] * torch.exp(m[0])[..., None], (state[1] * scale).squeeze(-1), rtol=1e-10, atol=1e-10)
