"""A recurrent network around any cell."""

import logging
from collections.abc import Callable
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seqlab import Batch, Cell, InputSpec, Kernel, Model, Ragged, Recurrent, UserError, register_export
from seqlab.recurrence import detach
from seqlab_models.encoding import OneHot
from seqlab_models.pooling import Kind, Pool
from seqlab_models.vectors import read_vectors

log = logging.getLogger("seqlab")


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
            where it has read all), each feature's ``mean`` or ``max`` over the valid steps, or their average by a
            learned ``attention`` (:class:`.pooling.Attention`). Of a sequence of length 0 it reads zeros.
        truncate: cut the gradient at every ``truncate``-th step; 0 never does. In one direction with one output a
            sequence, so many steps are read at a time and computed again for the gradient, so that memory is that of
            one such chunk, however long the sequence.
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
        vectors: a text file of word vectors that the embedding begins with, in the format of word2vec or GloVe; what
            it lacks begins at random.
        freeze_vectors: whether the embedding stays as it begins.
        read_padding: a slip of deck 003, so that its cost can be measured: pad each sequence to so many steps and read
            the padding, which has a learned vector, like text; ``pooling=last`` is then its ``output[:, -1]``. 0 reads
            no padding.
        random_start: another one: draw the state before the first step from the normal distribution, anew for every
            batch and in evaluation too, so that no prediction is the same twice.

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
        pooling: Kind = "last",
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
        vectors: str | None = None,
        freeze_vectors: bool = False,
        read_padding: int = 0,
        random_start: bool = False,
    ) -> None:
        super().__init__()
        _check("input", input, ("embedding", "onehot"))
        _check("pooling", pooling, ("last", "mean", "max", "attention"))
        _check_probability("input_dropout", input_dropout)
        _check_probability("output_dropout", output_dropout)
        if embedding_size < 1:
            raise ValueError(f"embedding_size is {embedding_size}; it must be at least 1")
        if init_range < 0:
            raise ValueError(f"init_range is {init_range}; it must be at least 0")
        if read_padding < 0 or (read_padding and (inputs.kind != "tokens" or per_step)):
            raise ValueError(f"read_padding is {read_padding}; it must be 0, or steps of token ids with one output")
        self.inputs, self.per_step, self.pooling = inputs, per_step, pooling
        self.read_padding, self.random_start, self.vectors = read_padding, random_start, vectors
        self.encoder, size = _encoder(inputs, input, embedding_size, padding=None if read_padding else 0)
        _check_vectors(vectors, self.encoder, freeze_vectors)
        if freeze_vectors:
            self.encoder.requires_grad_(False)
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
        forward_size = self.recurrent.cells[-self.recurrent.directions].output_size
        self.pool = Pool(pooling, self.recurrent.output_size, forward_size)
        self.output_dropout = nn.Dropout(output_dropout)
        self.head = head(self.recurrent.output_size)
        if tied:
            _tie(self.encoder, self.head)
        if init_range:
            _draw(self, init_range)

    def prepare(self, read: Callable[[], Ragged]) -> None:
        """Put the vectors of ``vectors`` into the embedding, and say how many there are.

        Raises:
            UserError: they cannot be had, or do not suit the embedding or the preprocessing.
        """
        if self.vectors is None:
            return
        if self.inputs.symbols is None:
            raise UserError(
                f"model.vectors={self.vectors}: the preprocessing does not say what its token ids stand for;"
                " choose preprocessing=words"
            )
        table = self.encoder.weight
        assert isinstance(table, Tensor)
        ids, values = read_vectors(self.vectors, self.inputs.symbols, table.shape[1])
        with torch.no_grad():
            table[ids] = values.to(table)
        known = len(self.inputs.symbols) - 1
        log.info("vectors: %s of %s symbols found in %s", f"{len(ids):,}", f"{known:,}", self.vectors)

    def forward(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
        """Compute the outputs, and the state after each row's last valid step.

        Args:
            batch: token ids ``[batch, time]`` or features ``[batch, time, size]``; what stands in the padding is
                never seen.
            state: the state of all layers and directions, as this method returned it; ``None`` to begin anew.
        """
        ids, lengths = batch.inputs, batch.lengths
        if self.read_padding:
            ids, lengths = nn.functional.pad(ids, (0, max(0, self.read_padding - ids.shape[1]))), None
        if self.random_start and state is None:
            state = self._random_state(len(ids))
        if self._reads_chunks(ids.shape[1]):
            features, state = self._chunks(ids, lengths, state)
        else:
            x = self.input_dropout(self.encoder(ids.transpose(0, 1)))
            outputs, state = self.recurrent(x, state, lengths, final_state=self.carries_state)
            # Per step, the axes are swapped before the head: its outputs are often the wider side.
            features = outputs.transpose(0, 1) if self.per_step else self.pool(outputs, lengths)[0]
        return self.head(self.output_dropout(features)), state

    def _reads_chunks(self, time: int) -> bool:
        """Say whether to read so many steps chunk by chunk: not what looks back, nor with one mask for all chunks."""
        masks = self.training and (self.recurrent.locked_dropout or self.recurrent.weight_drop)
        return 0 < self.recurrent.truncate < time and not (self.per_step or self.recurrent.bidirectional or masks)

    def _chunks(self, ids: Tensor, lengths: Tensor | None, state: Any) -> tuple[Tensor, Any]:
        """Pool the chunks, each read from the state that the one before it left; no gradient flows between them."""
        size = self.recurrent.truncate
        if lengths is None:
            lengths = ids.new_full((len(ids),), ids.shape[1], dtype=torch.int64)
        parts = []
        for begin in range(0, ids.shape[1], size):
            chunk = ids[:, begin : begin + size]
            steps = (lengths - begin).clamp(0, chunk.shape[1])
            left = None if bool((steps == chunk.shape[1]).all()) else steps  # None is what every kernel can read
            state = detach(state) if begin else state
            if torch.is_grad_enabled():
                pooled, weight, state = checkpoint(self._chunk, chunk, left, state, use_reentrant=False)
            else:
                pooled, weight, state = self._chunk(chunk, left, state)
            parts.append((pooled, weight))
        pooled, weights = (torch.stack(tensors) for tensors in zip(*parts, strict=True))
        return self.pool.join(pooled, weights), state if self.carries_state else None

    def _chunk(self, ids: Tensor, lengths: Tensor | None, state: Any) -> tuple[Tensor, Tensor, Any]:
        x = self.input_dropout(self.encoder(ids.transpose(0, 1)))
        outputs, state = self.recurrent(x, state, lengths)
        return (*self.pool(outputs, lengths), state)

    def _random_state(self, batch: int) -> tuple[tuple[Tensor, ...], ...]:
        like = next(self.recurrent.parameters()).new_zeros(batch, 1)
        starts = [cell.initial_state(like) for cell in self.recurrent.cells]
        return tuple(tuple(torch.randn_like(leaf) for leaf in leaves) for leaves in zip(*starts, strict=True))

    def kernel_report(self) -> dict[str, str]:
        """Which kernel ran last, and why; empty before the first batch."""
        choice = self.recurrent.choice
        return {} if choice is None else {"kernel": choice.kernel.name, "reason": choice.reason}

    def unexportable(self) -> str | None:
        """Refuse what draws at random, and what pads to a length of its own."""
        if self.random_start:
            return "model.random_start=true draws a state for every batch, so that there is nothing to compare with"
        if self.read_padding:
            return f"model.read_padding={self.read_padding} makes the number of steps depend on the batch"
        return None

    def state_size(self) -> int:
        """Count the numbers in the state of all layers and directions."""
        like = next(self.parameters()).new_zeros(1, 1)
        return sum(leaf.numel() for cell in self.recurrent.cells for leaf in cell.initial_state(like))


register_export(RecurrentModel, RecurrentModel.unexportable)


def _encoder(inputs: InputSpec, input: str, embedding_size: int, padding: int | None) -> tuple[nn.Module, int]:
    if inputs.kind == "features":
        return nn.Identity(), inputs.size
    if input == "onehot":
        return OneHot(inputs.size), inputs.size
    return nn.Embedding(inputs.size, embedding_size, padding_idx=padding), embedding_size


def _check_vectors(vectors: str | None, encoder: nn.Module, freeze: bool) -> None:
    if vectors is not None and not isinstance(encoder, nn.Embedding):
        raise ValueError(f"vectors is {vectors}, but nothing is embedded; leave them out, or set input=embedding")
    if freeze and vectors is None:
        raise ValueError("freeze_vectors is true, but there are none; set model.vectors")


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
