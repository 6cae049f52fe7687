"""Small causal transformer, a baseline for recurrent models."""

import math
from collections.abc import Callable
from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Batch, InputSpec, Model
from seqlab.errors import check_choice, check_range
from seqlab_models.inputs import StepEncoder, head_inputs

Positions = Literal["sinusoidal", "learned", "none"]


@final
class AttentionModel(Model):
    r"""Transformer in which each step attends to itself and earlier steps (Vaswani et al. 2017).

    With layer normalisation before each block (Xiong et al. 2020, "On layer normalization in the transformer
    architecture"),

    .. math::
        x_t = \mathrm{encode}(u_t) + p_t, \quad
        z = x + \mathrm{Attention}(\mathrm{LN}(x)), \quad
        x \leftarrow z + W_2\, \mathrm{GELU}(W_1 \mathrm{LN}(z)), \quad
        o_t = \mathrm{head}(\mathrm{LN}(x_t)),

    .. math::
        \mathrm{Attention}(x)_t = W_o \sum_{s ≤ t} \mathrm{softmax}_s (q_t \cdot k_s / \sqrt{d / h}) \, v_s

    for each of :math:`h` heads. One output per sequence is that of its last valid step. No state is carried between
    batches: on running text the context is one window.

    Args:
        inputs: token ids, which are embedded, or features, which are mapped linearly.
        head: returns the layer from features to outputs.
        per_step: one output per time step instead of one per sequence.
        hidden_size: features of a step, :math:`d`; a multiple of ``heads``.
        depth: number of layers.
        heads: number of heads, :math:`h`.
        feedforward: units of the inner layer, as a multiple of ``hidden_size``.
        positions: position encoding: ``sinusoidal``, for any length; ``learned``, for up to ``longest`` steps; or
            ``none``.
        longest: number of steps with a learned position.
        dropout: probability of dropping a feature of the input and of each block's output, in training.

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
        hidden_size: int = 64,
        depth: int = 2,
        heads: int = 4,
        feedforward: int = 4,
        positions: Positions = "sinusoidal",
        longest: int = 1024,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = {"hidden_size": hidden_size, "depth": depth, "heads": heads, "feedforward": feedforward}
        for name, value in {**sizes, "longest": longest}.items():
            check_range(name, value, 1)
        if hidden_size % heads:
            raise ValueError(f"hidden_size must be a multiple of heads={heads}, got {hidden_size}")
        check_choice("positions", positions, Positions)
        check_range("dropout", dropout, 0, below=1)
        self.per_step, self.positions = per_step, positions
        self.steps = StepEncoder(inputs, hidden_size)
        self.places = nn.Embedding(longest, hidden_size) if positions == "learned" else None
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(hidden_size, heads, feedforward, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(hidden_size)
        self.head = head(hidden_size)

    def forward(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
        """Return the outputs.

        Raises:
            ValueError: the positions are learned, and the batch is longer than ``longest``.
        """
        x = self.steps(batch)
        x = self.dropout(x + self._positions(x))
        for layer in self.layers:
            x = layer(x)
        return self.head(head_inputs(self.norm(x), batch, self.per_step)), None

    def _positions(self, x: Float[Tensor, "batch time size"]) -> Tensor:
        time = x.shape[1]
        if self.places is not None:
            longest = self.places.num_embeddings
            if time > longest:
                raise ValueError(
                    f"sequences must have <= longest={longest} steps, got {time}; set model.longest={time}"
                )
            return self.places.weight[:time]
        return sinusoids(time, x) if self.positions == "sinusoidal" else x.new_zeros(())


@final
class Layer(nn.Module):
    """Attention and a feed-forward block, each with a residual connection.

    Args:
        size: features of a step.
        heads: number of heads.
        feedforward: units of the inner layer, as a multiple of ``size``.
        dropout: probability of dropping a feature of a block's output.
    """

    def __init__(self, size: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_inner = nn.LayerNorm(size), nn.LayerNorm(size)
        self.from_steps, self.to_steps = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.inner = nn.Sequential(nn.Linear(size, feedforward * size), nn.GELU(), nn.Linear(feedforward * size, size))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "batch time size"]) -> Float[Tensor, "batch time size"]:
        """Attend to earlier steps; padding is last, so no valid step attends to it."""
        x = x + self.dropout(self._attention(self.before_attention(x)))
        added: Tensor = self.dropout(self.inner(self.before_inner(x)))
        return x + added

    def _attention(self, x: Tensor) -> Tensor:
        rows, time, size = x.shape
        parts = self.from_steps(x).view(rows, time, 3, self.heads, size // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        attended: Tensor = self.to_steps(found.transpose(1, 2).reshape(rows, time, size))
        return attended


def sinusoids(time: int, like: Float[Tensor, "batch time size"]) -> Float[Tensor, "time size"]:
    r"""Return position encodings (Vaswani et al. 2017, section 3.5), with :math:`d` features.

    .. math::
        p_{t, 2i} = \sin(t / 10000^{2i/d}), \quad p_{t, 2i+1} = \cos(t / 10000^{2i/d})

    Args:
        time: number of positions.
        like: tensor with the size, the dtype and the device.
    """
    size = like.shape[2]
    place = torch.arange(time, device=like.device, dtype=torch.float32).unsqueeze(1)
    pairs = torch.arange(-(-size // 2), device=like.device, dtype=torch.float32)
    angle = place * torch.exp(-math.log(10_000.0) * 2 * pairs / size)
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)[:, :size].to(like.dtype)
