"""Selective state space model, and its kernel."""

import math
from typing import final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import softplus

from seqlab import Gate, Probe, State
from seqlab.errors import check_range
from seqlab_cells.parallel import Affine, Parallel


@final
class SelectiveSSM(Affine):
    r"""Selective state space model S6 (Gu & Dao 2023, "Mamba", arXiv 2312.00752), without Mamba's block.

    .. math::
        u = W_u x + b_u, \quad Δ = \mathrm{softplus}(W_Δ W_r u + b_Δ), \quad B = W_B u, \quad C = W_C u
        h'_{dn} = e^{Δ_d A_{dn}} h_{dn} + Δ_d B_n u_d, \quad y_d = \sum_n C_n h'_{dn} + D_d u_d

    for channels :math:`d` and states :math:`n`; :math:`A < 0`. As in Mamba's code, :math:`W_r` maps to one sixteenth of
    the channels, :math:`A_{dn}` starts at :math:`-n`, and :math:`Δ` log-uniformly between ``dt_min`` and ``dt_max``.

    Args:
        input_size: features of one input step.
        hidden_size: channels :math:`d`, the features of the output; positive.
        state_size: states :math:`n` of each channel; positive.
        negative_eigenvalues: whether the factor is :math:`2 e^{ΔA} - 1`, in (-1, 1) (Grazzi et al. 2024, arXiv
            2411.12537), or :math:`e^{ΔA}`, in (0, 1).
        dt_min: smallest initial :math:`Δ`; positive.
        dt_max: largest one.

    Raises:
        ValueError: a size or an option is out of its range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 128,
        state_size: int = 16,
        negative_eigenvalues: bool = False,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_range("state_size", state_size, 1)
        check_range("dt_min", dt_min, above=0)
        check_range("dt_max", dt_max, dt_min)
        self.state_size, self.negative_eigenvalues = state_size, negative_eigenvalues
        rank = math.ceil(hidden_size / 16)
        self.from_input = nn.Linear(input_size, hidden_size)
        self.to_selection = nn.Linear(hidden_size, rank + 2 * state_size, bias=False)
        self.to_dt = nn.Linear(rank, hidden_size)
        nn.init.uniform_(self.to_dt.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            dt = torch.empty(hidden_size).uniform_(math.log(dt_min), math.log(dt_max)).exp()
            self.to_dt.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus maps it to dt
        self.log_a = nn.Parameter(torch.arange(1.0, state_size + 1).log().repeat(hidden_size, 1))
        self.direct = nn.Parameter(torch.ones(hidden_size))

    def initial_state(self, like: Shaped[Tensor, "batch *features"]) -> State:
        """Return zeros ``[batch, hidden, state]``."""
        return (like.new_zeros(len(like), self.hidden_size, self.state_size),)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch parts"]:
        """Return :math:`u, Δ, B, C` of all steps, side by side."""
        u = self.from_input(x)
        r, B, C = self.to_selection(u).tensor_split((self.to_dt.in_features, -self.state_size), dim=-1)
        return torch.cat([u, softplus(self.to_dt(r)), B, C], dim=-1)

    def step(self, x: Float[Tensor, "batch parts"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h,)``, ``[batch, hidden, state]``."""
        (h,) = state
        a, b = self._discretised(x)
        h = a * h + b
        return self._read(x, h), (h,)

    def affine(
        self, x: Float[Tensor, "time batch input"]
    ) -> tuple[Float[Tensor, "time batch hidden state"], Float[Tensor, "time batch hidden state"]]:
        """Return the factor on the state and the addend of all steps."""
        return self._discretised(self.project(x))

    def outputs(self, x: Float[Tensor, "time batch input"], h: Tensor) -> Float[Tensor, "time batch hidden"]:
        """Return the outputs of all steps from inputs and states."""
        return self._read(self.project(x), h)

    def probe(self, x: Float[Tensor, "time batch parts"], states: State) -> Probe:
        """Return the factor on the state, which is the whole Jacobian."""
        keep = self._discretised(x)[0]

        def product(t: int, gradients: State) -> State:
            return (gradients[0] * keep[t],)

        gate = Gate(keep.flatten(2), -1.0 if self.negative_eigenvalues else 0.0)
        return Probe({"keep": gate}, product, keep.abs().flatten(2).amax(-1), {"h": keep})

    def _discretised(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u, dt, B, _ = self._parts(x)
        a = torch.exp(-dt.unsqueeze(-1) * self.log_a.exp())
        return 2 * a - 1 if self.negative_eigenvalues else a, (dt * u).unsqueeze(-1) * B.unsqueeze(-2)

    def _read(self, x: Tensor, h: Tensor) -> Tensor:
        u, _, _, C = self._parts(x)
        return (h * C.unsqueeze(-2)).sum(-1) + self.direct * u

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        sizes = [self.hidden_size, self.hidden_size, self.state_size, self.state_size]
        return torch.split(x, sizes, dim=-1)


@final
class SelectiveSSMParallel(Parallel):
    """SelectiveSSM by a scan in parallel over time."""

    cell = SelectiveSSM
