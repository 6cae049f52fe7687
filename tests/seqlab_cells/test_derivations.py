"""Modern cells against second derivations: sums over the past, matrices and unscaled exponentials; all gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear, logsigmoid, silu, softplus
from torch.testing import assert_close

from seqlab import Cell, Recurrent
from seqlab.plugins.kernels import kernels_for
from seqlab.plugins.registry import find

TIME, ROWS, INPUT, HIDDEN = 37, 2, 3, 6
Derivation = Callable[[Any, Tensor], Tensor]


def summed(a: Tensor, b: Tensor) -> Tensor:
    """Return all h_t = sum over s <= t of a_{s+1} ... a_t b_s."""
    return torch.stack([sum((a[s + 1 : t + 1].prod(0) * b[s] for s in range(t + 1)), b[0] * 0) for t in range(len(a))])


def signed_mingru(cell: Any, x: Tensor) -> Tensor:
    z, v = cell.from_input(x).chunk(2, dim=-1)
    return summed(2 * torch.sigmoid(-z) - 1, torch.sigmoid(z) * v)


def rg_lru(cell: Any, x: Tensor) -> Tensor:
    r, i, v = cell.from_input(x).chunk(3, dim=-1)
    a = torch.sigmoid(cell.decay) ** (8 * torch.sigmoid(r))
    return summed(a, torch.sqrt(1 - a**2) * torch.sigmoid(i) * v)


def lru(cell: Any, x: Tensor) -> Tensor:
    """Powers of the eigenvalues, as a convolution over time in complex matrices."""
    eigenvalues = torch.exp(torch.complex(-cell.log_nu.exp(), cell.log_theta.exp()))
    b_re, b_im, D = cell.from_input.weight.chunk(3)
    c_re, minus_c_im = cell.to_output.weight.chunk(2, dim=1)
    B, C = torch.complex(b_re, b_im) * cell.log_gamma.exp().unsqueeze(1), torch.complex(c_re, -minus_c_im)
    outputs = []
    for t in range(len(x)):
        kernel = [(C @ torch.diag(eigenvalues**k) @ B).real for k in range(t + 1)]
        outputs.append(sum((x[t - k] @ kernel[k].T for k in range(t + 1)), x[t] @ D.T))
    return torch.stack(outputs)


def selective_ssm(cell: Any, x: Tensor) -> Tensor:
    """One matrix of time by time for each channel."""
    u = cell.from_input(x)
    r, B, C = cell.to_selection(u).split([1, cell.state_size, cell.state_size], dim=-1)
    dt = softplus(cell.to_dt(r))
    factor = torch.exp(torch.einsum("tbd,dn->tbdn", dt, -torch.exp(cell.log_a)))
    factor = 2 * factor - 1 if cell.negative_eigenvalues else factor
    outputs = []
    for t in range(len(x)):
        weights = [torch.einsum("bn,bdn,bn->bd", C[t], factor[s + 1 : t + 1].prod(0), B[s]) for s in range(t + 1)]
        outputs.append(sum((weight * dt[s] * u[s] for s, weight in enumerate(weights)), cell.direct * u[t]))
    return torch.stack(outputs)


def delta(cell: Any, x: Tensor) -> Tensor:
    """Full transition matrices, head by head."""
    size, heads = HIDDEN // cell.heads, []
    q, k, v = (
        part.unflatten(-1, (cell.heads, size)) for part in cell.from_input(x)[..., : -cell.heads].chunk(3, dim=-1)
    )
    beta = torch.sigmoid(cell.from_input(x)[..., -cell.heads :]) * (1 + cell.negative_eigenvalues)
    alpha = torch.ones_like(beta)
    if hasattr(cell, "to_decay"):
        alpha = torch.exp(-torch.exp(cell.log_a) * softplus(cell.to_decay(x)))
    for head in range(cell.heads):
        S, outputs = x.new_zeros(ROWS, size, size), []
        for t in range(len(x)):
            unit_q, unit_k = (
                silu(p[t, :, head]) / (silu(p[t, :, head]).pow(2).sum(-1, True) + 1e-6).sqrt() for p in (q, k)
            )
            b, a = beta[t, :, head, None, None], alpha[t, :, head, None, None]
            outer = torch.einsum("bi,bj->bij", unit_k, unit_k)
            S = a * S @ (torch.eye(size, dtype=x.dtype) - b * outer) + b * torch.einsum(
                "bi,bj->bij", v[t, :, head], unit_k
            )
            outputs.append(torch.einsum("bij,bj->bi", S, unit_q))
        heads.append(torch.stack(outputs))
    return torch.cat(heads, dim=-1)


def slstm(cell: Any, x: Tensor) -> Tensor:
    """Exponentials as they are, and a dense block-diagonal matrix."""
    size = HIDDEN // cell.from_state.shape[0]
    per_gate = [
        torch.block_diag(*(block[:, g * size : (g + 1) * size].T for block in cell.from_state)) for g in range(4)
    ]
    h = c = n = x.new_zeros(ROWS, HIDDEN)
    outputs = []
    for given in cell.from_input(x):
        i, f, z, o = (part + h @ R.T for part, R in zip(given.chunk(4, dim=-1), per_gate, strict=True))
        keep = torch.exp(f) if cell.forget == "exp" else torch.sigmoid(f)
        c, n = keep * c + torch.exp(i) * torch.tanh(z), keep * n + torch.exp(i)
        h = torch.sigmoid(o) * c / n
        outputs.append(h)
    return torch.stack(outputs)


def mlstm(cell: Any, x: Tensor) -> Tensor:
    """Attention whose weights are products of gates."""
    q, k, v, o = (part.unflatten(-1, (cell.heads, -1)) for part in cell.from_input(x).chunk(4, dim=-1))
    i, f = cell.to_gates(x).chunk(2, dim=-1)
    log_f = f if cell.forget == "exp" else logsigmoid(f)
    outputs = []
    for t in range(len(x)):
        gate = torch.stack([torch.exp(log_f[s + 1 : t + 1].sum(0) + i[s]) for s in range(t + 1)])
        score = gate * torch.einsum("sbhd,bhd->sbh", k[: t + 1], q[t]) / k.shape[-1] ** 0.5
        scale = score.sum(0).abs().clamp_min(1).unsqueeze(-1)
        outputs.append(torch.sigmoid(o[t]) * torch.einsum("sbh,sbhd->bhd", score, v[: t + 1]) / scale)
    return torch.stack(outputs).flatten(2)


def fast_weights(cell: Any, x: Tensor) -> Tensor:
    """Attention to the past states instead of their matrix (section 3.2 of the paper)."""
    activate, past, outputs = getattr(torch, cell.nonlinearity), [x.new_zeros(ROWS, HIDDEN)], []
    for given in cell.from_input(x):
        u = given + linear(past[-1], cell.from_state.weight)
        g = activate(u)
        for _ in range(cell.inner_steps):
            drawn = [cell.decay**age * (h * g).sum(-1, True) * h for age, h in enumerate(reversed(past))]
            total = u + cell.rate * torch.stack(drawn).sum(0)
            g = activate(layer_norm(total, (HIDDEN,), cell.norm.weight, cell.norm.bias))
        past.append(g)
        outputs.append(g)
    return torch.stack(outputs)


def clockwork(cell: Any, x: Tensor, modules: int = 3) -> Tensor:
    """Module by module, two units each, over the blocks that are connected."""
    h, outputs = [x.new_zeros(ROWS, 2)] * modules, []
    for t, given in enumerate(cell.from_input(x).unbind()):
        old = list(h)
        for i in range(modules):
            if t % 2**i == 0:
                U = cell.from_state[2 * i : 2 * i + 2, 2 * i :]
                h[i] = torch.tanh(given[:, 2 * i : 2 * i + 2] + torch.cat(old[i:], dim=-1) @ U.T)
        outputs.append(torch.cat(h, dim=-1))
    return torch.stack(outputs)


def lem(cell: Any, x: Tensor) -> Tensor:
    """The two equations as convex combinations."""
    W_1, W_2, W_z = cell.from_y.weight.chunk(3)
    y = z = x.new_zeros(ROWS, HIDDEN)
    outputs = []
    for given in cell.from_input(x):
        one, two, for_z, for_y = given.chunk(4, dim=-1)
        new_z = torch.tanh(for_z + linear(y, W_z))
        z, rate = torch.lerp(z, new_z, cell.dt / (1 + torch.exp(-one - linear(y, W_1)))), two + linear(y, W_2)
        y = torch.lerp(y, torch.tanh(for_y + linear(z, cell.from_z.weight)), cell.dt / (1 + torch.exp(-rate)))
        outputs.append(y)
    return torch.stack(outputs)


CASES: list[tuple[str, Derivation, dict[str, Any]]] = [
    ("signed_mingru", signed_mingru, {}),
    ("rg_lru", rg_lru, {}),
    ("lru", lru, {}),
    ("selective_ssm", selective_ssm, {"state_size": 3}),
    ("selective_ssm", selective_ssm, {"state_size": 3, "negative_eigenvalues": True}),
    ("deltanet", delta, {"heads": 2}),
    ("deltanet", delta, {"negative_eigenvalues": True}),
    ("gated_deltanet", delta, {"heads": 3}),
    ("gated_deltanet", delta, {"heads": 2, "negative_eigenvalues": True}),
    ("slstm", slstm, {"heads": 2}),
    ("slstm", slstm, {"forget": "exp", "forget_bias": "zero"}),
    ("mlstm", mlstm, {"heads": 2}),
    ("mlstm", mlstm, {"forget": "exp", "heads": 3}),
    ("fast_weights", fast_weights, {}),
    ("fast_weights", fast_weights, {"inner_steps": 2, "nonlinearity": "tanh"}),
    ("clockwork", clockwork, {"modules": 3}),
    ("lem", lem, {"dt": 0.7}),
]


@pytest.mark.parametrize(("name", "derived", "options"), CASES, ids=[f"{n}-{o}" for n, _, o in CASES])
def test_every_kernel_equals_the_second_derivation(name: str, derived: Derivation, options: dict[str, Any]) -> None:
    cell: type[Cell] = find("cell", name).load()
    torch.manual_seed(0)
    net = Recurrent(cell, INPUT, hidden_size=HIDDEN, **options).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.2 * torch.randn_like(parameter)  # zeros and ones would hide a mistake
        if name == "mlstm" and options["heads"] == 3:
            net.cells[0].to_gates.bias[3:] = -0.1  # else e to the sum of 37 gates
    x = torch.randn(TIME, ROWS, INPUT, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(TIME, ROWS, HIDDEN, dtype=torch.float64)
    expected = derived(net.cells[0], x)
    sources = [x, *net.parameters()]
    gradients = torch.autograd.grad((expected * weight).sum(), sources)
    for kernel in ("loop", *(kernel.name for kernel in kernels_for(cell))):
        net.kernel = kernel
        y = net(x)[0]
        assert_close(y, expected, rtol=1e-10, atol=1e-10)
        assert_close(torch.autograd.grad((y * weight).sum(), sources), gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["signed_mingru", "deltanet"])
def test_a_negative_eigenvalue_computes_parity(name: str) -> None:
    """One unit, weights by hand, 1,000 bits: a step of bit 1 maps 0 to c and c to 0, one of bit 0 keeps the state."""
    options = {"negative_eigenvalues": True} if name == "deltanet" else {}
    net = Recurrent(find("cell", name).load(), 1, hidden_size=1, **options).double()
    gate = {"signed_mingru": 0, "deltanet": 3}[name]
    biases = {"signed_mingru": [-40.0, 1.0], "deltanet": [1e4, 1e4, 0.5, -40.0]}[name]  # z, v; q, k, v, β
    weights: Any = net.cells[0].from_input
    with torch.no_grad():
        weights.weight.zero_()[gate] = 80
        weights.bias.copy_(torch.tensor(biases))
        bits = torch.randint(2, (1000, 3, 1), dtype=torch.float64)
        assert_close(net(bits)[0], bits.cumsum(0) % 2, rtol=0, atol=1e-8)
