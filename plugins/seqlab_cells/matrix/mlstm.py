"""LSTM with a matrix memory: the mLSTM of xLSTM."""

import math
from typing import Literal, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from seqlab import Cell, Gate, Probe, State
from seqlab.errors import check_choice
from seqlab_cells.initialisation import check_heads


@final
class MLSTM(Cell):
    r"""LSTM with a matrix memory (Beck et al. 2024, "xLSTM", arXiv 2405.04517), without xLSTM's block.

    .. math::
        C' = f C + i\, v k^\top, \quad n' = f n + i k, \quad y = o ⊙ C' q / \max(|n'^\top q|, 1)
        i = e^{\bar i}, \quad f = σ(\bar f) \text{ or } e^{\bar f}, \quad o = σ(W_o x + b_o)

    for each head; :math:`q, v, \bar i, \bar f` and :math:`k \sqrt d` are :math:`W x + b`, :math:`d` the size of a head.
    :math:`C` and :math:`n` are kept divided by :math:`e^m`, :math:`m' = \max(\log f + m, \bar i, 0)`, which is in range
    and changes no output. The paper's :math:`m` has no 0; with it, :math:`e^{-m}` does not overflow. As in the authors'
    code, :math:`b_f` starts evenly spread from 3 to 6 over the heads, and the gates do not see :math:`x`.

    Args:
        input_size: features of one input step.
        hidden_size: features of the output, heads times the size of a value; positive.
        heads: number of matrices; a divisor of ``hidden_size``.
        forget: forget gate, ``sigmoid`` or ``exp``.

    Raises:
        ValueError: a size is not positive, or an option is out of its range.
    """

    state_names = ("c", "n", "m")

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 128,
        heads: int = 1,
        forget: Literal["sigmoid", "exp"] = "sigmoid",
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_choice("forget", forget, Literal["sigmoid", "exp"])
        check_heads(hidden_size, heads)
        self.heads, self.forget = heads, forget
        self.from_input = nn.Linear(input_size, 4 * hidden_size)
        self.to_gates = nn.Linear(input_size, 2 * heads)
        nn.init.zeros_(self.to_gates.weight)
        with torch.no_grad():
            self.to_gates.bias[:heads].normal_(std=0.1)
            self.to_gates.bias[heads:] = torch.linspace(3, 6, heads)

    def initial_state(self, like: Shaped[Tensor, "batch *features"]) -> State:
        """Return zeros ``[batch, heads, value, key]``, ``[batch, heads, key]`` and ``[batch, heads]``."""
        size = self.hidden_size // self.heads
        shapes = ((size, size), (size,), ())
        return tuple(like.new_zeros(len(like), self.heads, *shape) for shape in shapes)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch heads parts"]:
        r"""Return :math:`q, k, v, o` and :math:`\bar i, \log f` of all steps, side by side for each head."""
        q, k, v, o = self.from_input(x).unflatten(-1, (4, self.heads, -1)).unbind(-3)
        i, f = self.to_gates(x).chunk(2, dim=-1)
        log_f = logsigmoid(f) if self.forget == "sigmoid" else f
        gates = torch.stack([i, log_f], dim=-1)
        return torch.cat([q, k / math.sqrt(k.shape[-1]), v, torch.sigmoid(o), gates], dim=-1)

    def step(self, x: Float[Tensor, "batch heads parts"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(c, n, m)``."""
        c, n, m = state
        q, k, v, o, _, _ = self._parts(x)
        keep, write, m = self._shares(x, m)
        keep, write = keep.unsqueeze(-1), write.unsqueeze(-1)
        c = keep.unsqueeze(-1) * c + (write * v).unsqueeze(-1) * k.unsqueeze(-2)
        n = keep * n + write * k
        scale = torch.maximum((n * q).sum(-1).abs(), torch.exp(-m)).unsqueeze(-1)
        return (o * (c * q.unsqueeze(-2)).sum(-1) / scale).flatten(1), (c, n, m)

    def probe(self, x: Float[Tensor, "time batch heads parts"], states: State) -> Probe:
        """Return the gates, and the share of :math:`c` and :math:`n` that is kept."""
        keep, write, _ = self._shares(x, states[2][:-1])
        gates = {"forget": Gate(keep), "input": Gate(write), "output": Gate(self._parts(x)[3].flatten(2))}
        forget = {"c": keep[..., None, None].expand_as(states[0][1:]), "n": keep[..., None].expand_as(states[1][1:])}
        return Probe(gates, forget=forget)

    def _shares(self, x: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return which shares of the state and of the input enter the next state, and its scale."""
        *_, i, log_f = self._parts(x)
        i, kept = i.squeeze(-1), log_f.squeeze(-1) + m
        m = torch.maximum(kept, i).clamp_min(0)
        return torch.exp(kept - m), torch.exp(i - m), m

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        size = self.hidden_size // self.heads
        return torch.split(x, [size, size, size, size, 1, 1], dim=-1)
