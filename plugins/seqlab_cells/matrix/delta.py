"""The gated delta rule: base of DeltaNet and Gated DeltaNet, and its scan in chunks."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.functional import silu

from seqlab import Cell, Gate, Kernel, Probe, State
from seqlab.recurrence import valid_mask
from seqlab_cells.initialisation import check_heads
from seqlab_cells.weights import not_dense, replaced

CHUNK = 32
"""Steps that are solved at once."""


class DeltaRule(Cell):
    r"""A cell whose state is one matrix for each head, written by the gated delta rule.

    .. math::
        S' = α S (I - β k k^\top) + β v k^\top, \quad y = S' q

    Args:
        input_size: features of one input step.
        hidden_size: features of the output, heads times the size of a value; positive.
        heads: number of matrices; a divisor of ``hidden_size``. Keys are as large as values.
        negative_eigenvalues: whether β lies in (0, 2), or in (0, 1).
    """

    state_names = ("s",)

    def __init__(self, input_size: int, hidden_size: int, heads: int, negative_eigenvalues: bool) -> None:
        super().__init__(input_size, hidden_size)
        check_heads(hidden_size, heads)
        self.heads, self.negative_eigenvalues = heads, negative_eigenvalues
        self.from_input = nn.Linear(input_size, 3 * hidden_size + heads)

    def log_decay(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch heads"]:
        r"""Return :math:`\log α` of all steps; 0 unless overridden."""
        return x.new_zeros(*x.shape[:-1], self.heads)

    def initial_state(self, like: Shaped[Tensor, "batch *features"]) -> State:
        """Return zeros ``[batch, heads, value, key]``."""
        size = self.hidden_size // self.heads
        return (like.new_zeros(len(like), self.heads, size, size),)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch heads parts"]:
        r"""Return :math:`q, k, v, β, \log α` of all steps, side by side for each head."""
        qk, v, b = self.from_input(x).split([2 * self.hidden_size, self.hidden_size, self.heads], dim=-1)
        qk, v = silu(qk.unflatten(-1, (2, self.heads, -1))), v.unflatten(-1, (self.heads, -1))
        q, k = (qk * torch.rsqrt(qk.square().sum(-1, keepdim=True) + 1e-6)).unbind(-3)
        beta = torch.sigmoid(b).unsqueeze(-1) * (2 if self.negative_eigenvalues else 1)
        return torch.cat([q, k, v, beta, self.log_decay(x).unsqueeze(-1)], dim=-1)

    def step(self, x: Float[Tensor, "batch heads parts"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(s,)``, ``[batch, heads, value, key]``."""
        (s,) = state
        q, k, v, beta, log_decay = self.parts(x)
        s = s * torch.exp(log_decay).unsqueeze(-1)
        read = (s * k.unsqueeze(-2)).sum(-1)  # products and sums keep the state's dtype under autocast
        s = s + (beta * (v - read)).unsqueeze(-1) * k.unsqueeze(-2)
        return (s * q.unsqueeze(-2)).sum(-1).flatten(1), (s,)

    def probe(self, x: Float[Tensor, "time batch heads parts"], states: State) -> Probe:
        r"""Return α and β, and the Jacobian of each step: :math:`G ↦ α G (I - β k k^\top)`, bounded by α.

        The bound is :math:`α \max(1, |1 - β|)`, as :math:`\lVert k \rVert \le 1`.
        """
        _, k, _, beta, log_decay = self.parts(x)
        alpha = log_decay.exp()

        def product(t: int, gradients: State) -> State:
            (g,) = gradients
            along = (g * k[t].unsqueeze(-2)).sum(-1, keepdim=True) * k[t].unsqueeze(-2)
            return (alpha[t].unsqueeze(-1) * (g - beta[t].unsqueeze(-1) * along),)

        gates = {"write": Gate(beta.squeeze(-1), 0.0, 2.0 if self.negative_eigenvalues else 1.0)}
        return Probe({**gates, "keep": Gate(alpha.squeeze(-1))}, product, alpha.flatten(2).amax(-1))

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return :math:`q, k, v` and, with a last axis of 1, β and log α."""
        size = self.hidden_size // self.heads
        return torch.split(x, [size, size, size, 1, 1], dim=-1)


class DeltaChunked(Kernel):
    r"""Scans the gated delta rule in chunks (Yang et al. 2024, arXiv 2412.06464).

    Within a chunk that starts with :math:`S`, let :math:`Γ_{ij}` be the product of α from step :math:`j + 1` to
    :math:`i`, and :math:`γ_i = Γ_{i0}` that from the start. What the steps write, row by row of :math:`W`, solves a
    triangular system, and the rest is a few products of matrices:

    .. math::
        w_i = β_i (v_i - γ_i S k_i - \sum_{j < i} Γ_{ij} (k_j^\top k_i) w_j), \quad
        S_i = γ_i S + \sum_{j \le i} Γ_{ij} w_j k_j^\top

    On padding β and log α are 0: the state stays as it is.
    """

    name = "chunked"

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Refuse cells with replaced methods, and input that is not dense or of low precision."""
        if reason := not_dense(x):
            return reason
        if torch.is_autocast_enabled(x.device.type) or x.dtype not in (torch.float32, torch.float64):
            return "it solves triangular systems, in float32 and float64 alone"
        names = ("project", "step", "log_decay", "parts")
        return next((reason for cell in cells if (reason := replaced(cell, *names))), None)

    def scan_one(
        self, cell: Cell, x: Float[Tensor, "time batch input"], state: State, lengths: Int[Tensor, " batch"] | None
    ) -> tuple[Tensor, State]:
        """Run one cell forward, chunk by chunk."""
        (s,), outputs = state, []
        delta = cast(DeltaRule, cell)
        parts = delta.project(x).permute(1, 2, 0, 3)  # [batch, heads, time, parts]
        if lengths is not None:
            valid = valid_mask(lengths, len(x)).T[:, None, :, None]
            parts = parts * valid  # keys, β and log α of 0
        for chunk in torch.split(parts, CHUNK, dim=2):
            y, s = _chunk(s, *delta.parts(chunk))
            outputs.append(y)
        return torch.cat(outputs, dim=2).permute(2, 0, 1, 3).flatten(2), (s,)


def _chunk(s: Tensor, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs of a chunk, and the state after it."""
    steps = k.shape[-2]
    lower = torch.ones(steps, steps, dtype=torch.bool, device=k.device).tril()
    # Sums over pieces, not differences of sums, which cancel where a decay is large.
    pieces = log_decay.expand(*k.shape[:-1], steps).masked_fill(~lower.tril(-1), 0).cumsum(-2)
    decay = pieces.masked_fill(~lower, -torch.inf).exp()
    start = log_decay.cumsum(-2).exp()
    system = (beta * (k @ k.mT) * decay).tril(-1)
    w = torch.linalg.solve_triangular(system, beta * (v - start * (k @ s.mT)), upper=False, unitriangular=True)
    y = start * (q @ s.mT) + ((q @ k.mT) * decay) @ w
    return y, start[..., -1:, :] * s + (w * decay[..., -1, :].unsqueeze(-1)).mT @ k
