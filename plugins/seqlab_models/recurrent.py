"""Recurrent network with any cell."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from seqlab import (
    Batch,
    Cell,
    Choice,
    InputSpec,
    Kernel,
    Model,
    Ragged,
    Recurrent,
    SearchSpace,
    UserError,
    register_export,
)
from seqlab.errors import check_choice, check_range
from seqlab.recurrence import CheckpointSteps, RandomStreams, dropout, read_chunks
from seqlab_models.inputs import OneHot
from seqlab_models.pooling import Kind, Pool
from seqlab_models.vectors import read_vectors

log = logging.getLogger("seqlab")

Input = Literal["embedding", "onehot"]
Block = Literal["plain", "prenorm", "prenorm_mlp"]


@final
class RecurrentModel(Model):
    r"""Encode each step, scan it with any cell, pool over time, and map to the outputs.

    .. math::
        x_t = \mathrm{encode}(u_t), \quad y_{1..T} = \mathrm{Recurrent}(x_{1..T}), \quad
        o = \mathrm{head}(\mathrm{pool}(y_{1..T})) \text{ or, for each step, } o_t = \mathrm{head}(y_t)

    Args:
        inputs: token ids, which are encoded, or features, which are used as they are.
        head: returns the layer from features to outputs.
        per_step: one output per time step, without pooling.
        cell: returns a cell for a number of input features.
        kernel: name of the kernel that scans the cell, or the kernel.
        input: encoding of token ids: a learned ``embedding`` (id 0, the padding, stays zero) or ``onehot``.
        embedding_size: features of the embedding.
        embedding_std: standard deviation of the embedding's initial values, which are normal; a small one
            overfits less to words that occur once or twice. No effect with ``onehot``.
        depth: number of layers.
        bidirectional: whether each layer also scans the sequence backward.
        dropout: probability of dropping a feature between two layers, in training; no effect with depth 1.
        input_dropout: the same for the encoded input, before the first layer.
        output_dropout: the same for the input of the head, after pooling.
        pooling: of the layers' outputs: the ``last`` valid step (of the backward direction, the first step), each
            feature's ``mean`` or ``max`` over the valid steps, or their average by a learned ``attention``
            (:class:`.pooling.Attention`). A sequence of length 0 gives zeros.
        truncate: cut the gradient at every ``truncate``-th step; 0 never does. In one direction with one output per
            sequence, chunks of this length are recomputed for the gradient: memory is that of one chunk for any
            sequence length.
        checkpoint_steps: read so many steps at a time, and again for the gradient, which stays that of the whole
            sequence: activations take the memory of one chunk, beside one output per step if the task has them. 0
            never does; ``auto`` takes about the square root of the number of steps where activations would take more
            than 2 GiB. Not with ``bidirectional`` or ``truncate``, where ``auto`` is 0.
        locked_dropout: probability of dropping a feature of each layer's input for a whole sequence, in training (Gal &
            Ghahramani 2016).
        state_dropout: the same for the state before a step.
        zoneout: probability of keeping a unit of the state as it was, in training (Krueger et al. 2017).
        weight_drop: probability of dropping a recurrent weight for a batch, in training (Merity et al. 2017).
        layer_norm: whether to normalise the output of each layer (Ba et al. 2016).
        connection: around each layer: ``none``, ``residual`` or ``highway``, where the sizes allow it.
        block: ``plain``; ``prenorm``, in which each layer adds to its input, which it reads normalised (RMSNorm), or
            ``prenorm_mlp``, with a gated MLP (SwiGLU) after each layer, too.
        conv: steps of a causal depthwise convolution of each cell's input; 0 for none, 4 is typical.
        learned_start: whether to learn the initial state.
        tied: whether the head shares the weights of the embedding (Press & Wolf 2017); for tasks that predict their
            inputs.
        init_range: sample all parameters uniformly from -``init_range`` to ``init_range``; 0 keeps the default
            initialisation.
        vectors: a file of word vectors to initialise the embedding: text of GloVe, word2vec or fastText (``.vec``), or
            ``.bin`` of fastText or word2vec; symbols without a vector are initialised randomly.
        freeze_vectors: whether the embedding is not trained.
        read_padding: reproduce a common padding bug, to measure its cost: pad each sequence to this many steps, and
            process the padding, which has a learned vector, like text; ``pooling=last`` is then ``output[:, -1]``.
            0 masks padding.
        random_start: reproduce another common bug: sample the initial state from the normal distribution for every
            batch, also in evaluation, so that predictions vary.

    Raises:
        ValueError: an option is out of range.
    """

    narrow_tokens = True  # each chunk is widened when it is encoded
    from_task = ("embedding_size", "embedding_std", "bidirectional", "input_dropout", "output_dropout", "pooling")
    added_options: ClassVar[Mapping[str, Any]] = {"embedding_std": 1.0}

    @classmethod
    def search_space(cls) -> SearchSpace:
        """Return cells, pooling, dropout, depth, direction and embedding size."""
        return {
            "cell": Choice(("lstm", "gru")),
            "pooling": Choice(("max", "attention", "mean", "last")),
            "output_dropout": Choice((0.5, 0.3, 0.0)),
            "input_dropout": Choice((0.2, 0.0, 0.4)),
            "depth": Choice((1, 2)),
            "bidirectional": Choice((False, True)),
            "embedding_size": Choice((64, 128)),
        }

    def __init__(
        self,
        inputs: InputSpec,
        head: Callable[[int], nn.Module],
        per_step: bool,
        cell: Callable[[int], Cell],
        kernel: str | Kernel,
        *,
        input: Input = "embedding",
        embedding_size: int = 64,
        embedding_std: float = 1.0,
        depth: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
        pooling: Kind = "last",
        truncate: int = 0,
        checkpoint_steps: CheckpointSteps = "auto",
        locked_dropout: float = 0.0,
        state_dropout: float = 0.0,
        zoneout: float = 0.0,
        weight_drop: float = 0.0,
        layer_norm: bool = False,
        connection: Literal["none", "residual", "highway"] = "none",
        block: Block = "plain",
        conv: int = 0,
        learned_start: bool = False,
        tied: bool = False,
        init_range: float = 0.0,
        vectors: str | None = None,
        freeze_vectors: bool = False,
        read_padding: int = 0,
        random_start: bool = False,
    ) -> None:
        super().__init__()
        check_choice("input", input, Input)
        check_choice("pooling", pooling, Kind)
        check_range("input_dropout", input_dropout, 0, below=1)
        check_range("output_dropout", output_dropout, 0, below=1)
        check_range("embedding_size", embedding_size, 1)
        check_range("embedding_std", embedding_std, above=0)
        check_range("init_range", init_range, 0)
        check_range("read_padding", read_padding, 0)
        if read_padding and (inputs.kind != "tokens" or per_step):
            raise ValueError(f"read_padding must be 0 unless a sequence of tokens has one output, got {read_padding}")
        self.inputs, self.per_step, self.pooling = inputs, per_step, pooling
        self.read_padding, self.random_start, self.vectors = read_padding, random_start, vectors
        self.encoder, size = _encoder(inputs, input, embedding_size, padding=None if read_padding else 0)
        _scale(self.encoder, embedding_std)
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
            checkpoint_steps=checkpoint_steps,
            locked_dropout=locked_dropout,
            state_dropout=state_dropout,
            zoneout=zoneout,
            weight_drop=weight_drop,
            layer_norm=layer_norm,
            connection=connection,
            block=block,
            conv=conv,
            learned_start=learned_start,
        )
        forward_size = self.recurrent.cells[-self.recurrent.directions].output_size
        self.pool = Pool(pooling, self.recurrent.output_size, forward_size)
        self.output_dropout = nn.Dropout(output_dropout)
        self.head = head(self.recurrent.output_size)
        if tied:
            _tie(self.encoder, self.head)
        if init_range:
            _initialise(self, init_range)

    def prepare(self, read: Callable[[], Ragged]) -> None:
        """Copy the vectors of ``vectors`` into the embedding, and log their number.

        Raises:
            UserError: they cannot be read, or do not fit the embedding or the preprocessing.
        """
        if self.vectors is None:
            return
        if self.inputs.symbols is None:
            raise UserError(
                f"model.vectors={self.vectors} needs a preprocessing with known symbols; set preprocessing=words"
            )
        table = self.encoder.weight
        assert isinstance(table, Tensor)
        ids, values = read_vectors(self.vectors, self.inputs.symbols, table.shape[1])
        with torch.no_grad():
            table[ids] = values.to(table)
        known = len(self.inputs.symbols) - 1
        log.info("vectors: %s of %s symbols found in %s", f"{len(ids):,}", f"{known:,}", self.vectors)

    def forward(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
        """Return the outputs, and the state after each row's last valid step.

        Args:
            batch: token ids ``[batch, time]`` or features ``[batch, time, size]``; padding is ignored.
            state: of all layers and directions, as this method returned it; ``None`` for the initial state.
        """
        ids, lengths = batch.inputs, batch.lengths
        if self.read_padding:
            ids, lengths = nn.functional.pad(ids, (0, max(0, self.read_padding - ids.shape[1]))), None
        if self.random_start and state is None:
            state = self._random_state(len(ids))
        if self._truncates(ids.shape[1]):
            return self._chunks(ids, lengths, state, self.recurrent.truncate, truncate=True)
        rows, time = ids.shape[:2]
        steps = (
            self.recurrent.chunk_steps(time, rows, next(self.parameters()).dtype)
            if self.recurrent.checkpoint_steps
            else 0
        )
        if steps:
            return self._chunks(ids, lengths, state, steps, random=self.training)
        options = {"final_state": self.carries_state, "last": self._reads_last}
        outputs, state = self.recurrent(self._encoded(ids), state, lengths, **options)
        whole = self.per_step or self._reads_last
        return self._outputs(outputs if whole else self.pool(outputs, lengths)[0]), state

    @property
    def _reads_last(self) -> bool:
        """Whether the outputs are those of each direction's last step."""
        return self.pooling == "last" and not self.per_step

    def _encoded(self, ids: Tensor, streams: RandomStreams | None = None) -> Tensor:
        """Encode ``[batch, time, ...]``, or a chunk, time first."""
        if not ids.is_floating_point() and ids.dtype != torch.int64:
            ids = ids.long()
        x = self.encoder(ids.transpose(0, 1))
        drop = self.input_dropout
        if x.is_contiguous() or streams is None:
            return dropout(x, drop.p, drop.training, streams, "input")
        # Dropout draws in the order of memory: of features, row after row.
        rows = enumerate(x.split(1, dim=1))
        return torch.cat([dropout(row, drop.p, drop.training, streams, f"input {i}") for i, row in rows], 1)

    def _outputs(self, features: Tensor, streams: RandomStreams | None = None) -> Tensor:
        """Return the head's outputs, batch first."""
        drop = self.output_dropout
        if self.per_step:  # the axes are swapped before the head, whose outputs are often wider
            features = dropout(features, drop.p, drop.training, streams, "output").transpose(0, 1)
        else:
            features = drop(features)
        outputs: Tensor = self.head(features)
        return outputs

    def _truncates(self, time: int) -> bool:
        """Return whether to truncate by chunks: not bidirectional, and without one dropout mask for all chunks."""
        masks = self.training and (self.recurrent.locked_dropout or self.recurrent.weight_drop)
        return 0 < self.recurrent.truncate < time and not (self.per_step or self.recurrent.bidirectional or masks)

    def _chunks(
        self, ids: Tensor, lengths: Tensor | None, state: Any, steps: int, **options: Any
    ) -> tuple[Tensor, Any]:
        """Return the outputs and the final state, read chunk by chunk (:func:`.read_chunks`)."""
        chunks, state = read_chunks(self._chunk, ids, lengths, state, steps=steps, axis=1, **options)
        state = state if self.carries_state else None
        if self.per_step:
            return torch.cat([outputs for (outputs,) in chunks], 1), state
        pooled, weights = (torch.stack(tensors) for tensors in zip(*chunks, strict=True))
        return self._outputs(self.pool.join(pooled, weights)), state

    def _chunk(self, ids: Tensor, lengths: Tensor | None, state: Any, streams: RandomStreams | None) -> tuple[Any, ...]:
        x, last = self._encoded(ids, streams), self._reads_last
        outputs, state = self.recurrent(x, state, lengths, last=last, streams=streams)
        if self.per_step:
            return self._outputs(outputs, streams), state
        if last:
            return outputs, self.pool.weight(x, lengths), state
        return *self.pool(outputs, lengths), state

    def _random_state(self, batch: int) -> tuple[tuple[Tensor, ...], ...]:
        like = next(self.recurrent.parameters()).new_zeros(batch, 1)
        starts = [cell.initial_state(like) for cell in self.recurrent.cells]
        return tuple(tuple(torch.randn_like(each) for each in tensors) for tensors in zip(*starts, strict=True))

    def kernel_report(self) -> dict[str, str]:
        """Return which kernel ran last, and why; empty before the first batch."""
        choice = self.recurrent.choice
        return {} if choice is None else {"kernel": choice.kernel.name, "reason": choice.reason}

    def unexportable(self) -> str | None:
        """Return why random states and fixed padding cannot be exported."""
        if self.random_start:
            return "model.random_start=true samples a state for every batch, so that outputs cannot be compared"
        if self.read_padding:
            return f"model.read_padding={self.read_padding} makes the number of steps depend on the batch"
        return None

    def state_size(self) -> int:
        """Return the number of values in the state of all layers and directions."""
        like = next(self.parameters()).new_zeros(1, 1)
        return sum(each.numel() for cell in self.recurrent.cells for each in cell.initial_state(like))


register_export(RecurrentModel, RecurrentModel.unexportable)


def _encoder(inputs: InputSpec, input: str, embedding_size: int, padding: int | None) -> tuple[nn.Module, int]:
    if inputs.kind == "features":
        return nn.Identity(), inputs.size
    if input == "onehot":
        return OneHot(inputs.size), inputs.size
    return nn.Embedding(inputs.size, embedding_size, padding_idx=padding), embedding_size


@torch.no_grad()
def _scale(encoder: nn.Module, std: float) -> None:
    if isinstance(encoder, nn.Embedding) and std != 1:
        encoder.weight *= std


def _check_vectors(vectors: str | None, encoder: nn.Module, freeze: bool) -> None:
    if vectors is not None and not isinstance(encoder, nn.Embedding):
        raise ValueError(f"vectors={vectors} needs an embedding of token ids; set input=embedding, or remove vectors")
    if freeze and vectors is None:
        raise ValueError("freeze_vectors=true needs vectors; set model.vectors")


def _tie(encoder: nn.Module, head: nn.Module) -> None:
    if not isinstance(encoder, nn.Embedding) or not isinstance(head, nn.Linear):
        raise ValueError("tied=true needs an embedding of token ids and a linear head; set model.tied=false")
    if encoder.weight.shape != head.weight.shape:
        ids, size = encoder.weight.shape
        outputs, features = head.weight.shape
        raise ValueError(
            f"tied=true needs equal sizes: the embedding is {ids} x {size}, the head {outputs} x {features}; "
            f"set model.embedding_size={features}" + ("" if ids == outputs else ", on a task that predicts its inputs")
        )
    head.weight = encoder.weight


@torch.no_grad()
def _initialise(model: nn.Module, bound: float) -> None:
    for parameter in model.parameters():
        parameter.uniform_(-bound, bound)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx] = 0
