"""Elman's recurrent network and its kernels."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Cell, Gate, Probe, Remedy, Routine, State, register_export
from seqlab_cells.fused.kernel import Fused
from seqlab_cells.initialisation import Recurrent, initialise, initialise_recurrent
from seqlab_cells.vendor import Vendor, large
from seqlab_cells.weights import EPILOGUES, Epilogue, modified, weights


@final
class RNN(Cell):
    r"""Simple recurrent network (Elman 1990, "Finding structure in time"; the parameters of ``torch.nn.RNN``).

    .. math::
        h' = φ(W x + b + U h + c), \quad φ = \tanh \text{ or } \mathrm{relu}

    Relu remembers through an identity-like :math:`U` and is unbounded.

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.
        nonlinearity: ``tanh`` or ``relu``.
        initialisation: ``torch``; ``orthogonal``: that of :math:`U` alone; or ``identity``: :math:`U = I`, biases of 0,
            and :math:`W` from a normal distribution of deviation 0.001, which with relu makes an IRNN (Le, Jaitly &
            Hinton 2015, arXiv 1504.00941).

    Raises:
        ValueError: a size is not positive, or the nonlinearity or the initialisation is another one.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 128,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        initialisation: Recurrent = "torch",
    ) -> None:
        super().__init__(input_size, hidden_size)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be tanh or relu, got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        self.from_input = nn.Linear(input_size, hidden_size)
        self.from_state = nn.Linear(hidden_size, hidden_size)
        initialise(self)
        initialise_recurrent(self.from_state.weight, initialisation)
        if initialisation == "identity":
            nn.init.normal_(self.from_input.weight, std=0.001)
            for linear in (self.from_input, self.from_state):
                nn.init.zeros_(linear.bias)

    @classmethod
    def remedy(
        cls, cause: Literal["gradient", "saturation"], distance: int, options: Mapping[str, Any]
    ) -> Remedy | None:
        """Propose an IRNN, through whose identity matrix the gradient of relu units passes unchanged at first."""
        irnn = {"nonlinearity": "relu", "initialisation": "identity"}
        if all(options.get(key) == value for key, value in irnn.items()):
            return None
        return Remedy("an IRNN: relu around an identity matrix (Le, Jaitly & Hinton 2015)", irnn)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch hidden"]:
        """Map the inputs of all steps: :math:`W x + b`."""
        projected: Tensor = self.from_input(x)
        return projected

    def step(self, x: Float[Tensor, "batch hidden"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h,)``, ``[batch, hidden]``."""
        (h,) = state
        total = x + self.from_state(h)
        h = torch.tanh(total) if self.nonlinearity == "tanh" else torch.relu(total)
        return h, (h,)

    def probe(self, x: Float[Tensor, "time batch hidden"], states: State) -> Probe:
        r"""Return the activations, the Jacobian :math:`\mathrm{diag}(φ') U` of each step, and the bound on its norm.

        .. math:: \|\mathrm{diag}(φ'_t) U\| ≤ \max φ'_t \; σ_{\max}(U)
        """
        h, U = states[0][1:], self.from_state.weight
        slope = 1 - h**2 if self.nonlinearity == "tanh" else (h > 0).to(h.dtype)

        def product(t: int, gradients: State) -> State:
            return ((gradients[0] * slope[t]) @ U,)

        gate = Gate(h, -1.0, 1.0) if self.nonlinearity == "tanh" else Gate(h, 0.0, float("inf"))
        gain = slope.amax(-1) * torch.linalg.matrix_norm(U.to(torch.promote_types(U.dtype, torch.float32)), 2)
        return Probe({self.nonlinearity: gate}, product, gain)

    def extra_repr(self) -> str:
        """Show the nonlinearity."""
        return f"nonlinearity={self.nonlinearity}"


@final
class RNNVendor(Vendor):
    """RNN by ``torch.rnn_tanh`` and ``torch.rnn_relu``."""

    cell = RNN

    def function(self, cell: Cell) -> Callable[..., tuple[Tensor, ...]]:
        """Return torch's routine of the nonlinearity."""
        return torch.rnn_tanh if cell.nonlinearity == "tanh" else torch.rnn_relu

    def padding(self, cell: Cell, like: Tensor) -> Tensor | None:
        """Hold relu at zero on padding: unbounded, it could overflow there, and 0 x inf is a NaN gradient."""
        return None if cell.nonlinearity == "tanh" else like.new_full((cell.hidden_size,), -large(like))


def _routine(cell: RNN) -> Routine | None:
    """Return ONNX's ``RNN``, whose one gate is torch's."""
    if modified(cell):
        return None
    tanh = cell.nonlinearity == "tanh"
    operator = torch.ops.aten.rnn_tanh.input if tanh else torch.ops.aten.rnn_relu.input
    return Routine(operator, "RNN", weights(cell), (0,), activations=("Tanh" if tanh else "Relu",))


register_export(RNN, _routine)


@final
class RNNFused(Fused):
    """Fused scan of an RNN, tanh or relu."""

    cell = RNN
    vendor = RNNVendor

    def epilogue(self, cell: Cell) -> Epilogue:
        """Return that of its nonlinearity."""
        return EPILOGUES["RnnTanh" if cell.nonlinearity == "tanh" else "RnnRelu"]
