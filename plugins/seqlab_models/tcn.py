"""Temporal convolutional network, a baseline for recurrent models."""

from collections.abc import Callable
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from seqlab import Batch, InputSpec, Model
from seqlab.errors import check_range
from seqlab_models.inputs import StepEncoder, head_inputs


@final
class TCN(Model):
    r"""Temporal convolutional network (Bai, Kolter & Koltun 2018, section 3).

    Residual blocks of two dilated causal convolutions, each with weight normalisation, ReLU and channel dropout. With
    kernel size :math:`k` and dilation :math:`d_l = 2^l` in block :math:`l = 0, …, L - 1`,

    .. math::
        (F *_d x)_t = b + \sum_{i=0}^{k-1} F_i \, x_{t - d i}, \quad
        x \leftarrow \mathrm{ReLU}(x + \mathrm{ReLU}(F' *_d \mathrm{ReLU}(F *_d x))), \quad o_t = \mathrm{head}(x_t)

    An output depends on exactly the last :math:`1 + 2 (k - 1)(2^L - 1)` steps (:meth:`receptive_field`). One output
    per sequence is that of its last valid step. No state is carried between batches.

    Args:
        inputs: token ids, which are embedded, or features, which are mapped linearly to the channels.
        head: returns the layer from features to outputs.
        per_step: one output per time step instead of one per sequence.
        hidden_size: channels.
        depth: number of blocks :math:`L`; each further one doubles the receptive field.
        kernel_size: steps of a convolution, :math:`k`; at least 2.
        dropout: probability of dropping a channel after each convolution, in training.

    Raises:
        ValueError: an option is out of range.
    """

    uses_cell = False

    def __init__(
        self,
        inputs: InputSpec,
        head: Callable[[int], nn.Module],
        per_step: bool,
        *,
        hidden_size: int = 32,
        depth: int = 6,
        kernel_size: int = 7,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_range("hidden_size", hidden_size, 1)
        check_range("depth", depth, 1)
        check_range("kernel_size", kernel_size, 2)
        check_range("dropout", dropout, 0, below=1)
        self.per_step, self.depth, self.kernel_size = per_step, depth, kernel_size
        self.steps = StepEncoder(inputs, hidden_size)
        self.blocks = nn.Sequential(*(Block(hidden_size, kernel_size, 2**level, dropout) for level in range(depth)))
        self.head = head(hidden_size)

    @property
    def receptive_field(self) -> int:
        """Number of steps that an output depends on, including its own."""
        return 1 + 2 * (self.kernel_size - 1) * ((1 << self.depth) - 1)

    def forward(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
        """Return the outputs; there is no state."""
        features = self.steps(batch)
        if features.shape[1]:  # a convolution of no steps is an error
            features = self.blocks(features.transpose(1, 2)).transpose(1, 2)
        return self.head(head_inputs(features, batch, self.per_step)), None


@final
class Block(nn.Module):
    """Two causal convolutions of one dilation, with a residual connection.

    Args:
        size: channels.
        kernel_size: steps of each convolution.
        dilation: distance of these steps.
        dropout: probability of dropping a channel.
    """

    def __init__(self, size: int, kernel_size: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.reach = (kernel_size - 1) * dilation
        self.first, self.second = (_convolution(size, kernel_size, dilation) for _ in range(2))
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x: Float[Tensor, "batch size time"]) -> Float[Tensor, "batch size time"]:
        """Convolve, with zeros before the first step."""
        y = x
        for convolution in (self.first, self.second):
            y = self.dropout(torch.relu(convolution(F.pad(y, (self.reach, 0)))))
        return torch.relu(x + y)


def _convolution(size: int, kernel_size: int, dilation: int) -> nn.Module:
    """Return a convolution with weight normalisation and the initial weights of ``nn.Conv1d``.

    With weights from N(0, 0.01²), three blocks do not learn ``task=first`` with 20 steps; these solve it in 200.
    """
    normed: nn.Module = weight_norm(nn.Conv1d(size, size, kernel_size, dilation=dilation))
    return normed
