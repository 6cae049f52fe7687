"""Linear recurrent unit, and its kernel."""

import math
from typing import final

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from seqlab import Gate, Probe, State
from seqlab.errors import check_range
from seqlab_cells.parallel import Affine, Parallel


@final
class LRU(Affine):
    r"""Linear recurrent unit (Orvieto et al. 2023, arXiv 2303.06349).

    .. math::
        h' = λ ⊙ h + γ ⊙ B x, \quad y = \mathrm{Re}(C h') + D x, \quad λ = \exp(-e^{ν} + i\, e^{θ})

    The state is complex, and kept as its real and its imaginary part. :math:`|λ|^2` is drawn uniformly from a ring, the
    phase from 0 to ``max_phase``, and :math:`γ` starts at :math:`\sqrt{1 - |λ|^2}`.

    Args:
        input_size: features of one input step.
        hidden_size: complex features of the state, and features of the output; positive.
        r_min: smallest initial :math:`|λ|`; not negative.
        r_max: largest one; at most 1.
        max_phase: largest initial phase, in radians; positive.

    Raises:
        ValueError: a size or an option is out of its range.
    """

    state_names = ("re", "im")

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 128,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_range("r_max", r_max, above=0, at_most=1)
        check_range("r_min", r_min, 0, below=r_max)
        check_range("max_phase", max_phase, above=0)
        inside = torch.empty(2, hidden_size).uniform_(1e-6, 1 - 1e-6)  # neither 0, whose logarithm is not, nor 1
        square = inside[0] * (r_max**2 - r_min**2) + r_min**2
        self.log_nu = nn.Parameter(torch.log(-0.5 * torch.log(square)))
        self.log_theta = nn.Parameter(torch.log(max_phase * inside[1]))
        self.log_gamma = nn.Parameter(0.5 * torch.log1p(-square))
        self.from_input = nn.Linear(input_size, 3 * hidden_size, bias=False)
        self.to_output = nn.Linear(2 * hidden_size, hidden_size, bias=False)
        with torch.no_grad():
            B, D = self.from_input.weight.tensor_split((2 * hidden_size,))
            B.normal_(std=(2 * input_size) ** -0.5)
            D.normal_(std=input_size**-0.5)
            self.to_output.weight.normal_(std=hidden_size**-0.5)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch parts"]:
        """Return the real and the imaginary part of :math:`γ B x`, and :math:`D x`, of all steps."""
        re, im, direct = self.from_input(x).chunk(3, dim=-1)
        gamma = self.log_gamma.exp()
        return torch.cat([gamma * re, gamma * im, direct], dim=-1)

    def step(self, x: Float[Tensor, "batch parts"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(re, im)``, each ``[batch, hidden]``."""
        re, im = state
        b_re, b_im, direct = x.chunk(3, dim=-1)
        l_re, l_im = self._eigenvalues()
        re, im = l_re * re - l_im * im + b_re, l_re * im + l_im * re + b_im
        return self.to_output(torch.cat([re, im], dim=-1)) + direct, (re, im)

    def affine(
        self, x: Float[Tensor, "time batch input"]
    ) -> tuple[Complex[Tensor, "time batch hidden"], Complex[Tensor, "time batch hidden"]]:
        """Return :math:`λ` and :math:`γ B x` of all steps."""
        b = _complex(*self.project(x).chunk(3, dim=-1)[:2])
        return _complex(*self._eigenvalues()).to(b.dtype).expand_as(b), b

    def joined(self, state: State) -> Complex[Tensor, "batch hidden"]:
        """Return the complex state."""
        return _complex(*state)

    def parted(self, h: Tensor) -> State:
        """Return the two parts of a complex state."""
        return h.real, h.imag

    def outputs(self, x: Float[Tensor, "time batch input"], h: Tensor) -> Float[Tensor, "time batch hidden"]:
        r"""Return :math:`\mathrm{Re}(C h') + D x` of all steps."""
        y: Tensor = self.to_output(torch.cat([h.real, h.imag], dim=-1).to(self.to_output.weight.dtype))
        return y + self.project(x).chunk(3, dim=-1)[2]

    def probe(self, x: Float[Tensor, "time batch parts"], states: State) -> Probe:
        r"""Return :math:`|λ|`, and the Jacobian of each step, a rotation and scaling of each unit."""
        l_re, l_im = self._eigenvalues()

        def product(_: int, gradients: State) -> State:
            to_re, to_im = gradients
            return l_re * to_re + l_im * to_im, l_re * to_im - l_im * to_re

        modulus = torch.exp(-self.log_nu.exp())
        return Probe({"modulus": Gate(modulus.expand(*x.shape[:2], -1))}, product)

    def _eigenvalues(self) -> tuple[Tensor, Tensor]:
        """Return both parts of :math:`λ`."""
        modulus, phase = torch.exp(-self.log_nu.exp()), self.log_theta.exp()
        return modulus * torch.cos(phase), modulus * torch.sin(phase)


def _complex(re: Tensor, im: Tensor) -> Tensor:
    """Return complex numbers, of two halves of a precision that has them."""
    dtype = torch.promote_types(re.dtype, torch.float32)
    return torch.complex(re.to(dtype), im.to(dtype))


@final
class LRUParallel(Parallel):
    """LRU by a scan in parallel over time, in complex numbers."""

    cell = LRU
