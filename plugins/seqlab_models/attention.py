"""A small causal transformer: what recurrent models are compared with."""

from collections.abc import Callable
from typing import Any, Literal, final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Batch, InputSpec, Model
from seqlab.errors import check_range
from seqlab_models.steps import Steps, for_head, sinusoids


@final
class AttentionModel(Model):
    r"""A transformer in which each step attends to itself and those before it (Vaswani et al. 2017).

    With layer normalisation before each part (Xiong et al. 2020, "On layer normalization in the transformer
    architecture"),

    .. math::
        x_t = \mathrm{encode}(u_t) + p_t, \quad
        z = x + \mathrm{Attention}(\mathrm{LN}(x)), \quad
        x \leftarrow z + W_2\, \mathrm{GELU}(W_1 \mathrm{LN}(z)), \quad
        o_t = \mathrm{head}(\mathrm{LN}(x_t)),

    .. math::
        \mathrm{Attention}(x)_t = W_o \sum_{s ≤ t} \mathrm{softmax}_s (q_t \cdot k_s / \sqrt{d / h}) \, v_s

    for each of :math:`h` heads. One output a sequence is that of its last valid step. A batch is read by itself: no
    state is carried to the next, so that on running text the context is one window.

    Args:
        inputs: token ids, which are embedded, or features, which are mapped linearly.
        head: makes the layer from features to outputs.
        per_step: one output for each time step, or one a sequence.
        hidden_size: features of a step, :math:`d`; a multiple of ``heads``.
        depth: number of layers.
        heads: number of heads, :math:`h`.
        feedforward: units of the inner layer, as a multiple of ``hidden_size``.
        positions: how a step knows its place: ``sinusoidal``, which has no end; ``learned``, up to ``longest`` steps;
            or ``none``.
        longest: steps that ``positions=learned`` has vectors for.
        dropout: probability of dropping a feature of the input and of what each part adds, in training.

    Raises:
        ValueError: an option is out of its range.
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
        positions: Literal["sinusoidal", "learned", "none"] = "sinusoidal",
        longest: int = 1024,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_range(at_least=1, hidden_size=hidden_size, depth=depth, heads=heads)
        check_range(at_least=1, feedforward=feedforward, longest=longest)
        if hidden_size % heads:
            raise ValueError(f"hidden_size is {hidden_size}; it must be a multiple of heads, {heads}")
        if positions not in ("sinusoidal", "learned", "none"):
            raise ValueError(f"positions is {positions!r}; it must be one of sinusoidal, learned, none")
        check_range(at_least=0, below=1, dropout=dropout)
        self.per_step, self.positions = per_step, positions
        self.steps = Steps(inputs, hidden_size)
        self.places = nn.Embedding(longest, hidden_size) if positions == "learned" else None
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(hidden_size, heads, feedforward, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(hidden_size)
        self.head = head(hidden_size)

    def forward(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
        """Compute the outputs.

        Args:
            batch: token ids ``[batch, time]`` or features ``[batch, time, size]``; what stands in the padding is
                never seen.
            state: not looked at.

        Raises:
            ValueError: the positions are learned, and the batch is longer than ``longest``.
        """
        x = self.steps(batch)
        x = self.dropout(x + self._marks(x))
        for layer in self.layers:
            x = layer(x)
        return self.head(for_head(self.norm(x), batch, self.per_step)), None

    def _marks(self, x: Float[Tensor, "batch time size"]) -> Tensor:
        time = x.shape[1]
        if self.places is not None:
            longest = self.places.num_embeddings
            if time > longest:
                raise ValueError(f"a sequence has {time} steps, but longest is {longest}; set model.longest={time}")
            return self.places.weight[:time]
        return sinusoids(time, x) if self.positions == "sinusoidal" else x.new_zeros(())


@final
class Layer(nn.Module):
    """Attention and a feed-forward part, each added to what it reads.

    Args:
        size: features of a step.
        heads: number of heads.
        feedforward: units of the inner layer, as a multiple of ``size``.
        dropout: probability of dropping a feature of what is added.
    """

    def __init__(self, size: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_inner = nn.LayerNorm(size), nn.LayerNorm(size)
        self.from_steps, self.to_steps = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.inner = nn.Sequential(nn.Linear(size, feedforward * size), nn.GELU(), nn.Linear(feedforward * size, size))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "batch time size"]) -> Float[Tensor, "batch time size"]:
        """Let each step attend to those before it; padding stands behind them all, so that none attends to it."""
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
