"""Depth x direction x dropout around any cell: a drop-in for ``nn.LSTM``."""

import logging
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeAlias, final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seqlab.contracts import Cell, Kernel, State
from seqlab.contracts.batch import Lengths, as_lengths, check_lengths
from seqlab.contracts.kernel import ScanOne
from seqlab.contracts.masks import last_of_each, reverse_within, zero_padding
from seqlab.errors import check_range
from seqlab.plugins.kernels import kernels_for
from seqlab.plugins.torch_modules import torch_cell
from seqlab.recurrence.blocks import (
    EPS,
    Convolved,
    PreNorm,
    check_block,
    make_cell,
    make_layers,
    make_wrapper,
    scanned,
    scanned_states,
)
from seqlab.recurrence.chunks import (
    CheckpointSteps,
    RandomStreams,
    automatic_steps,
    check_chunks,
    drawing,
    dropout,
    read_chunks,
)
from seqlab.recurrence.scan import detach, map_state, rebuild
from seqlab.recurrence.selection import Choice, CompilePolicy, choose
from seqlab.recurrence.wrappers import (
    LearnedStart,
    check_probability,
    locked_dropout,
    shared_masks,
    unwrapped,
)

log = logging.getLogger("seqlab")

StackedState: TypeAlias = tuple[Any, ...]
"""State of all layers and directions: each tensor is ``[depth * directions, batch, ...]``, ordered as in torch."""


class Wanted(NamedTuple):
    """What a caller reads: the final state, and the last output of each direction instead of those of all steps."""

    final_state: bool = True
    last: bool = False


ALL = Wanted()


@final
class Recurrent(nn.Module):
    """Any cell over time, stacked and in one or both directions; called like ``torch.nn.LSTM``.

    ``output, state = recurrent(x, state)``, with ``state`` a tuple of one tensor for each tensor of the cell's
    state (``(h, c)`` for an LSTM), laid out ``[depth * directions, batch, ...]`` as in torch. Beyond torch it takes
    any cell, and ``lengths=`` for padded input. Packed input gives packed output.

    Args:
        cell: a cell type, or a factory that takes ``input_size``.
        input_size: features of one input step.
        depth: number of layers; each reads the outputs of the one below it.
        bidirectional: whether a second cell of each layer reads the sequence backward within its length.
        dropout: probability of dropping an output between two layers, in training.
        batch_first: whether input and output are ``[batch, time, ...]`` instead of ``[time, batch, ...]``.
        kernel: ``auto``, ``loop``, ``compiled``, the name of a registered kernel, or a kernel.
        truncate: cut the gradient at every ``truncate``-th step (in each direction); 0 never does.
        checkpoint_steps: read so many steps at a time, and again for the gradient, which is that of the whole sequence:
            activations take the memory of one chunk. 0 never does; ``auto`` takes about the square root of the number
            of steps where the activations would take more than 2 GiB (:func:`.automatic_steps`).
        locked_dropout: probability of dropping a feature of a layer's input for a whole sequence, in training.
        state_dropout: the same for the state that a step starts from (:class:`.StateDropout`).
        zoneout: probability of keeping a unit of the state as it was (:class:`.Zoneout`).
        weight_drop: probability of dropping a recurrent weight for a pass (:func:`.drop_weights`).
        layer_norm: whether each layer's output is normalised (:class:`.LayerWrapper`).
        connection: around each layer: ``none``, ``residual`` or ``highway`` (:class:`.LayerWrapper`).
        block: ``plain``; ``prenorm``, in which each layer adds to its input, which it reads normalised, and the last
            output is normalised; or ``prenorm_mlp``, which has a gated MLP after each layer (:class:`.PreNorm`).
        conv: steps of a causal depthwise convolution of each cell's input, whose past is the state's last tensor; 0
            for none (:class:`.Convolved`).
        learned_start: whether the initial state is learned instead of the cell's own.
        cell_options: further arguments of the cell's constructor, such as ``hidden_size``.

    Attributes:
        choice: the kernel of the last call, and why it was taken.
        policy: which kernels ``auto`` may take; the layers of a training run share one.

    Raises:
        ValueError: a number is out of its range.
    """

    checkpoint_steps: CheckpointSteps
    _chunks_logged = False

    def __init__(
        self,
        cell: Callable[..., Cell],
        input_size: int,
        *,
        depth: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        batch_first: bool = False,
        kernel: str | Kernel = "auto",
        truncate: int = 0,
        checkpoint_steps: CheckpointSteps = 0,
        locked_dropout: float = 0.0,
        state_dropout: float = 0.0,
        zoneout: float = 0.0,
        weight_drop: float = 0.0,
        layer_norm: bool = False,
        connection: str = "none",
        block: str = "plain",
        conv: int = 0,
        learned_start: bool = False,
        **cell_options: Any,
    ) -> None:
        super().__init__()
        check_range("depth", depth, 1)
        check_chunks(checkpoint_steps, truncate, bidirectional=bidirectional)
        self.depth, self.bidirectional, self.weight_drop = depth, bidirectional, weight_drop
        self.dropout = check_probability("dropout", dropout)
        self.locked_dropout = check_probability("locked_dropout", locked_dropout)
        self.input_size, self.batch_first, self.kernel, self.conv = input_size, batch_first, kernel, conv
        self.truncate, self.checkpoint_steps = truncate, checkpoint_steps
        self.block, self.policy = check_block(block, conv, connection), CompilePolicy()
        rates = {"zoneout": zoneout, "state_dropout": state_dropout, "weight_drop": weight_drop}
        make = partial(make_cell, partial(cell, **cell_options), conv, rates)
        wrap = partial(make_wrapper, block, layer_norm, connection)
        self.layers, self.around, self.output_size = make_layers(make, wrap, input_size, depth, self.directions)
        self.final_norm = nn.Identity() if block == "plain" else nn.RMSNorm(self.output_size, eps=EPS)
        self.starts = nn.ModuleList(LearnedStart(unwrapped(each)) for each in self.cells if learned_start)
        self.choice: Choice | None = None

    @classmethod
    def from_torch(cls, module: nn.Module) -> "Recurrent":
        """Convert ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU`` to the same network, with copies of the weights.

        Depth, direction, dropout, ``batch_first``, nonlinearity, dtype, device and training mode are kept. A module
        without biases gets trainable biases of zero.

        Raises:
            ValueError: it is another module or a subclass, or it has ``proj_size``.
        """
        kind = next((base for base in type(module).__mro__ if base in (nn.RNN, nn.LSTM, nn.GRU)), nn.LSTM)
        converted: Recurrent = torch_cell(kind).convert(module)  # refuses what is none of them
        return converted

    @property
    def directions(self) -> int:
        """1, or 2 for a bidirectional network."""
        return 2 if self.bidirectional else 1

    @property
    def cells(self) -> list[Cell]:
        """All cells, in the order of the state's first axis."""
        return [cell for layer in self.layers for cell in _cells(layer)]

    def forward(
        self,
        x: Any,
        state: StackedState | None = None,
        lengths: Lengths | None = None,
        *,
        final_state: bool = True,
        last: bool = False,
        streams: RandomStreams | None = None,
    ) -> tuple[Any, StackedState | None]:
        """Run over a batch.

        Args:
            x: ``[time, batch, input]`` (``[batch, time, input]`` if ``batch_first``), or packed input.
            state: the state before the first step; the cell's initial state if ``None``.
            lengths: valid steps of each row, 0 to ``time``: a list, a tuple, an array or a tensor of integers; ``None``
                where every row is full.
            final_state: whether to return the state; a kernel may be faster without it.
            last: whether to return each direction's last output alone, ``[batch, output]``, that of the backward one
                from the first step, and zero for a row of length 0; a kernel may be faster so.
            streams: of the random numbers, if this is a chunk of a longer sequence.

        Returns:
            The last layer's outputs, zero on padding, and the state of every layer after each row's last valid step
            (for the backward direction, after its first step in time); ``None`` without ``final_state``.

        Raises:
            ValueError: the input, the state or ``lengths`` have wrong shapes, or the requested kernel refuses them.
        """
        if isinstance(x, PackedSequence):
            if lengths is not None or last:
                raise ValueError("lengths must not be given with packed input, which has its own; nor last")
            return self._packed(x, state)
        size = self.input_size
        if x.dim() != 3 or x.shape[-1] != size:
            raise ValueError(f"the input is {tuple(x.shape)}; it must have three axes, the last of size {size}")
        x = x.transpose(0, 1) if self.batch_first else x
        steps = None if lengths is None else _checked(lengths, x)
        x, end = self._run(x, steps, state, streams, Wanted(final_state, last))
        return (x.transpose(0, 1) if self.batch_first and not last else x), end if final_state else None

    def chunk_steps(self, steps: int, rows: int, dtype: torch.dtype) -> int:
        """Return the steps of a chunk in which to read a batch under ``checkpoint_steps``; 0 to read it whole.

        Args:
            steps: of the batch.
            rows: of the batch.
            dtype: of the activations.
        """
        size = self.checkpoint_steps
        if size == "auto":
            if self.bidirectional or self.truncate or torch.compiler.is_compiling():
                return 0
            step_bytes = rows * self._values_per_step * dtype.itemsize
            size = automatic_steps(steps, step_bytes)
            if size and not self._chunks_logged:
                self._chunks_logged = True
                note = "checkpoint_steps=auto: %s steps are read %s at a time; whole, they would take about %.1f GiB"
                log.info(note, f"{steps:,}", f"{size:,}", steps * step_bytes / 2**30)
        return size if size < steps else 0

    @cached_property
    def _values_per_step(self) -> int:
        """Numbers that a row's step takes: input, gates, states, outputs and the gradients of all of them."""
        values = sum(2 * cell.input_size + 12 * cell.hidden_size for cell in self.cells)
        return values + sum(around.kept for around in self.around if isinstance(around, PreNorm))

    def _run(
        self, x: Tensor, lengths: Tensor | None, state: Any, streams: RandomStreams | None, wanted: Wanted
    ) -> tuple[Tensor, StackedState | None]:
        if self.checkpoint_steps and streams is None and (steps := self.chunk_steps(x.shape[0], x.shape[1], x.dtype)):
            chunks, end = read_chunks(self._whole, x, lengths, state, steps=steps, random=self.training)
            y = torch.cat([y for (y,) in chunks])
            return (last_of_each(y, lengths, self._forward_size) if wanted.last else y), end
        return self._whole(x, lengths, state, streams, wanted)

    def _whole(
        self, x: Tensor, lengths: Tensor | None, state: Any, streams: RandomStreams | None, wanted: Wanted = ALL
    ) -> tuple[Tensor, StackedState | None]:
        with drawing(streams, "state"):
            states = self._unstack(state, x)
        with shared_masks(self.weight_drop > 0):
            x, final_states = self._layers(x, states, lengths, wanted, streams)
        return x, _stack(final_states) if wanted.final_state else None

    @property
    def _forward_size(self) -> int:
        """Features of the last layer's forward direction."""
        return self.cells[-self.directions].output_size

    def _layers(
        self,
        x: Tensor,
        states: Sequence[State],
        lengths: Tensor | None,
        wanted: Wanted,
        streams: RandomStreams | None,
    ) -> tuple[Tensor, list[State]]:
        final_states: list[State] = []
        around: Any
        if lengths is not None and (self.conv or not all(each.is_plain for each in self.around)):
            x = zero_padding(x, lengths)  # so that NaN reaches no gradient of a weight
        for index, (layer, around) in enumerate(zip(self.layers, self.around, strict=True)):
            x, stream = (x, None) if self.block == "plain" else (around.before(x), x)
            if index and self.dropout:
                # A mask is drawn in the order of memory, which kernels may choose.
                x = dropout(x.contiguous(), self.dropout, self.training, streams, f"dropout {index}")
            with drawing(streams, f"locked {index}"):
                x = locked_dropout(x, self.locked_dropout, self.training)
                if streams is not None and self.weight_drop:
                    _draw_weights(layer)
            begin = index * self.directions
            own = states[begin : begin + self.directions]
            cells = _cells(layer)
            own_wanted = wanted._replace(last=wanted.last and index == len(self.layers) - 1 and self._may_be_last(x))
            with drawing(streams, f"steps {index}", partial(_draw_steps, scanned_states(cells, own))):
                y, ends = self._layer(cells, x, own, lengths, own_wanted)
            final_states += ends
            if own_wanted.last:
                return y, final_states
            x = around(x if stream is None else stream, y)
        x = self.final_norm(x)
        # Connections and normalisation may have written into the padding.
        changed = any(not each.is_plain for each in self.around)
        x = zero_padding(x, lengths) if changed and lengths is not None else x
        return (last_of_each(x, lengths, self._forward_size) if wanted.last else x), final_states

    def _may_be_last(self, x: Tensor) -> bool:
        """Return whether a kernel's last outputs are those of the network."""
        truncates = 0 < self.truncate < len(x)
        plain = self.block == "plain" and bool(self.around[-1].is_plain)
        return plain and not (self.conv or truncates) and x.shape[0] > 0

    def _layer(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None, wanted: Wanted
    ) -> tuple[Tensor, list[State]]:
        if 0 < self.truncate < len(x):
            return _by_direction(self._truncated, cells, x, states, lengths)
        if self.conv:
            return _by_direction(partial(self._convolved, final_state=wanted.final_state), cells, x, states, lengths)
        kernel = self._choose(cells, x, lengths)
        if wanted.last:
            return kernel.last(cells, x, states, lengths, wanted.final_state)
        if not wanted.final_state:
            return kernel.outputs(cells, x, states, lengths), []
        return kernel.scan(cells, x, states, lengths)

    def _truncated(self, cell: Cell, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        outputs = []
        for begin in range(0, x.shape[0], self.truncate):
            chunk = x[begin : begin + self.truncate]
            left = None if lengths is None else (lengths - begin).clamp(0, chunk.shape[0])
            y, state = self._convolved(cell, chunk, detach(state) if begin else state, left)
            outputs.append(y)
        return torch.cat(outputs), state

    def choose(self, x: Tensor) -> Choice:
        """Choose the kernel of the first layer for full rows ``[time, batch, input]``."""
        self._choose(scan_groups(self)[0], x, None)
        assert self.choice is not None
        return self.choice

    def _convolved(
        self, cell: Cell, x: Tensor, state: State, lengths: Tensor | None, final_state: bool = True
    ) -> tuple[Tensor, State]:
        """Scan one cell forward, its input convolved if it is :class:`.Convolved`."""
        cells, (start,) = [scanned(cell)], scanned_states([cell], [state])
        past: list[Tensor] = []
        if isinstance(cell, Convolved):
            x, end_of_input = cell.convolve(x, state[-1], lengths)
            past = [end_of_input]
        kernel = self._choose(cells, x, lengths)
        if not final_state:
            return kernel.outputs(cells, x, [start], lengths), state
        y, (end,) = kernel.scan(cells, x, [start], lengths)
        return y, (*end, *past) if past else end

    def _choose(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> Kernel:
        registered = (
            ()
            if isinstance(self.kernel, Kernel) or self.kernel in ("loop", "compiled")
            else kernels_for(type(cells[0]))
        )
        self.choice = choose(self.kernel, registered, cells, x, lengths, self.policy)
        return self.choice.kernel

    def _packed(self, x: PackedSequence, state: StackedState | None) -> tuple[PackedSequence, StackedState]:
        padded, lengths = pad_packed_sequence(x, batch_first=self.batch_first)
        output, state = self(padded, state, lengths.to(padded.device))
        # In the order of the caller's packing.
        if (order := x.sorted_indices) is not None:
            output, lengths = output.index_select(0 if self.batch_first else 1, order), lengths[order.cpu()]
        packed = pack_padded_sequence(output, lengths, batch_first=self.batch_first)
        return PackedSequence(packed.data, packed.batch_sizes, x.sorted_indices, x.unsorted_indices), state

    def _unstack(self, state: StackedState | None, x: Tensor) -> list[State]:
        cells = self.cells
        like = x[0] if x.shape[0] else x.new_zeros(x.shape[1:])
        starts = [_start(cell, like) for cell in cells]
        if self.starts:
            starts = [learned(start) for learned, start in zip(self.starts, starts, strict=True)]
        if state is None:
            return starts
        names = ", ".join(cells[0].state_names)
        if not isinstance(state, tuple) or len(state) != len(starts[0]):
            raise ValueError(f"the state must be a tuple of {len(starts[0])} ({names})")
        for name, tensor in zip(cells[0].state_names, state, strict=False):
            if len(tensor) != len(cells):
                raise ValueError(f"state {name} is for {len(tensor)} layers and directions; there are {len(cells)}")
        states: list[State] = []
        for index, start in enumerate(starts):
            tensors = tuple(tensor[index] for tensor in state)
            for name, tensor, like in zip(cells[index].state_names, tensors, start, strict=False):
                if tensor.shape != like.shape:
                    raise ValueError(f"state {name} of layer {index} is {tuple(tensor.shape)}, not {tuple(like.shape)}")
            states.append(rebuild(start, tensors))
        return states

    def extra_repr(self) -> str:
        """Return the settings that the layers do not show."""
        shown = ("depth", "bidirectional", "dropout", "batch_first", "kernel", "truncate")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)


def _checked(lengths: Lengths, x: Tensor) -> Tensor:
    lengths = as_lengths(lengths)
    check_lengths(lengths, x.shape[1], x.shape[0])
    return lengths.to(x.device)


def _by_direction(
    run: ScanOne, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
) -> tuple[Tensor, list[State]]:
    """Run the first cell forward and the second, if there is one, backward within each row's length."""
    forward, end = run(cells[0], x, states[0], lengths)
    if len(cells) == 1:
        return forward, [end]
    backward, end_backward = run(cells[1], reverse_within(x, lengths), states[1], lengths)
    return torch.cat([forward, reverse_within(backward, lengths)], dim=-1), [end, end_backward]


def scan_groups(network: Recurrent) -> list[list[Cell]]:
    """Return the cells that a kernel scans together, in order: those of a layer, or each by itself with ``conv``."""
    groups = [[scanned(cell) for cell in _cells(layer)] for layer in network.layers]
    return [[cell] for group in groups for cell in group] if network.conv else groups


def _cells(layer: nn.Module) -> list[Cell]:
    return list(layer.children())  # type: ignore[arg-type]  # a layer holds cells only


def _draw_weights(layer: nn.Module) -> None:
    """Draw the masks of the dropped weights, which :func:`.shared_masks` keeps."""
    for module in layer.modules():
        for name in getattr(module, "parametrizations", {}) if parametrize.is_parametrized(module) else ():
            getattr(module, name)


def _draw_steps(states: Sequence[State], steps: int) -> None:
    """Draw the random numbers of steps of :class:`.Zoneout`."""
    for _ in range(steps):
        for leaf in (leaf for state in states for leaf in state if leaf.is_floating_point()):
            torch.rand_like(leaf)


def _start(cell: Cell, like: Tensor) -> State:
    """Make a cell's initial state; in torch.export, which fixes ``len(like)``, expand that of one row."""
    if not torch.compiler.is_exporting():
        return cell.initial_state(like)
    one = cell.initial_state(like[:1])
    return map_state(lambda tensor: tensor.expand(like.shape[0], *tensor.shape[1:]).contiguous(), one)


def _stack(states: Sequence[State]) -> StackedState:
    """Stack each state tensor over the layers; a tuple where its shape differs between layers."""

    def join(tensors: tuple[Tensor, ...]) -> Any:
        if len(tensors) == 1:
            return tensors[0].unsqueeze(0)
        return torch.stack(tensors) if all(each.shape == tensors[0].shape for each in tensors) else tensors

    tensors = [join(tensors) for tensors in zip(*states, strict=True)]
    return rebuild(states[0], tensors)
