"""A recurrent network around any cell."""

from collections.abc import Callable
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from seqlab import Batch, Cell, InputSpec, Kernel, Model, Recurrent
from seqlab_models.encoding import OneHot
from seqlab_models.pooling import last, maximum, mean


@final
class RecurrentModel(Model):
    r"""Encode each step, read it with any cell, pool over time, and map to the outputs.

    .. math::
        x_t = \mathrm{encode}(u_t), \quad y_{1..T} = \mathrm{Recurrent}(x_{1..T}), \quad
        o = \mathrm{head}(\mathrm{pool}(y_{1..T})) \text{ or, for each step, } o_t = \mathrm{head}(y_t)

    Args:
        inputs: token ids, which are encoded, or features, which are read as they are.
        head: makes the layer from features to outputs.
        per_step: one output for each time step; nothing is pooled then.
        cell: makes a cell from the number of its input features.
        kernel: what scans it.
        input: how token ids become vectors: a learned ``embedding`` (id 0, the padding, stays zero) or ``onehot``.
        embedding_size: features of the embedding.
        depth: layers of cells, each reading the outputs of the one below it.
        bidirectional: whether each layer reads the sequence backward, too.
        dropout: probability of dropping a feature between two layers, in training; without effect at depth 1.
        input_dropout: the same for the encoded input, before the first layer.
        output_dropout: the same for what the head reads, after pooling.
        pooling: what the head reads of a sequence: the ``last`` valid step (of the backward direction the first step,
            where it has read all), or each feature's ``mean`` or ``max`` over the valid steps. Of a sequence of
            length 0 it reads zeros.
        truncate: cut the gradient at every ``truncate``-th step; 0 never does.
        locked_dropout: probability of dropping a feature of each layer's input for a whole sequence, in training (Gal &
            Ghahramani 2016).
        state_dropout: the same for the state that a step starts from.
        zoneout: probability of keeping a unit of the state as it was, in training (Krueger et al. 2017).
        weight_drop: probability of dropping a recurrent weight for a batch, in training (Merity et al. 2017).
        layer_norm: whether the output of each layer is normalised (Ba et al. 2016).
        connection: the way past each layer: ``none``, ``residual`` or ``highway``, where the sizes allow it.
        learned_start: whether the initial state is learned instead of the cell's own.
        tied: whether the head's weights are the embedding's (Press & Wolf 2017), on a task that predicts its inputs.
        init_range: draw all parameters evenly from minus this to this; 0 leaves each part's own initialisation.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        inputs: InputSpec,
        head: Callable[[int], nn.Module],
        per_step: bool,
        cell: Callable[[int], Cell],
        kernel: str | Kernel,
        *,
        input: Literal["embedding", "onehot"] = "embedding",
        embedding_size: int = 64,
        depth: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
        pooling: Literal["last", "mean", "max"] = "last",
        truncate: int = 0,
        locked_dropout: float = 0.0,
        state_dropout: float = 0.0,
        zoneout: float = 0.0,
        weight_drop: float = 0.0,
        layer_norm: bool = False,
        connection: Literal["none", "residual", "highway"] = "none",
        learned_start: bool = False,
        tied: bool = False,
        init_range: float = 0.0,
    ) -> None:
        super().__init__()
        _check("input", input, ("embedding", "onehot"))
        _check("pooling", pooling, ("last", "mean", "max"))
        _check_probability("input_dropout", input_dropout)
        _check_probability("output_dropout", output_dropout)
        if embedding_size < 1:
            raise ValueError(f"embedding_size is {embedding_size}; it must be at least 1")
        self.inputs, self.per_step, self.pooling = inputs, per_step, pooling
        self.encoder, size = _encoder(inputs, input, embedding_size)
        self.input_dropout = nn.Dropout(input_dropout)
        self.recurrent = Recurrent(
            lambda input_size: cell(input_size),
            size,
            depth=depth,
            bidirectional=bidirectional,
            dropout=dropout,
            kernel=kernel,
            truncate=truncate,
            locked_dropout=locked_dropout,
            state_dropout=state_dropout,
            zoneout=zoneout,
            weight_drop=weight_drop,
            layer_norm=layer_norm,
            connection=connection,
            learned_start=learned_start,
        )
        self.output_dropout = nn.Dropout(output_dropout)
        self.head = head(self.recurrent.output_size)
        if tied:
            _tie(self.encoder, self.head)
        if init_range < 0:
            raise ValueError(f"init_range is {init_range}; it must be at least 0")
        if init_range:
            _draw(self, init_range)

    def forward(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
        """Compute the outputs, and the state after each row's last valid step.

        Args:
            batch: token ids ``[batch, time]`` or features ``[batch, time, size]``; what stands in the padding is
                never seen.
            state: the state of all layers and directions, as this method returned it; ``None`` to begin anew.
        """
        x = self.input_dropout(self.encoder(batch.inputs.transpose(0, 1)))
        outputs, state = self.recurrent(x, state, batch.lengths, final_state=self.carries_state)
        # Per step, the axes are swapped before the head: its outputs are often the wider side.
        features = outputs.transpose(0, 1) if self.per_step else self._pooled(outputs, batch.lengths)
        return self.head(self.output_dropout(features)), state

    def _pooled(self, outputs: Tensor, lengths: Tensor | None) -> Tensor:
        if self.pooling == "mean":
            return mean(outputs, lengths)
        if self.pooling == "max":
            return maximum(outputs, lengths)
        return last(outputs, lengths, self.recurrent.cells[-self.recurrent.directions].output_size)

    def kernel_report(self) -> dict[str, str]:
        """Which kernel ran last, and why; empty before the first batch."""
        choice = self.recurrent.choice
        return {} if choice is None else {"kernel": choice.kernel.name, "reason": choice.reason}

    def state_size(self) -> int:
        """Count the numbers in the state of all layers and directions."""
        like = next(self.parameters()).new_zeros(1, 1)
        return sum(leaf.numel() for cell in self.recurrent.cells for leaf in cell.initial_state(like))


def _encoder(inputs: InputSpec, input: str, embedding_size: int) -> tuple[nn.Module, int]:
    if inputs.kind == "features":
        return nn.Identity(), inputs.size
    if input == "onehot":
        return OneHot(inputs.size), inputs.size
    return nn.Embedding(inputs.size, embedding_size, padding_idx=0), embedding_size


def _tie(encoder: nn.Module, head: nn.Module) -> None:
    if not isinstance(encoder, nn.Embedding) or not isinstance(head, nn.Linear):
        raise ValueError("tied needs an embedding of token ids and a linear head; set model.tied=false")
    if encoder.weight.shape != head.weight.shape:
        ids, size = encoder.weight.shape
        outputs, features = head.weight.shape
        raise ValueError(
            f"tied: the embedding is {ids} x {size}, the head {outputs} x {features}; "
            f"set model.embedding_size={features}" + ("" if ids == outputs else ", on a task that predicts its inputs")
        )
    head.weight = encoder.weight


@torch.no_grad()
def _draw(model: nn.Module, bound: float) -> None:
    for parameter in model.parameters():
        parameter.uniform_(-bound, bound)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx] = 0


def _check(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value}; it must be one of {', '.join(choices)}")


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}; it must be at least 0 and less than 1")
