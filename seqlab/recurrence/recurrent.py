"""Depth x direction x dropout around any cell: a drop-in for ``nn.LSTM``."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, final

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seqlab.contracts import Cell, Kernel, State
from seqlab.discovery.kernels import kernels_for
from seqlab.recurrence.choose import Choice, choose
from seqlab.recurrence.ragged import reverse_within
from seqlab.recurrence.state import detach

StackedState: TypeAlias = tuple[Any, ...]
"""A state of all layers and directions: each leaf is ``[depth * directions, batch, ...]``, ordered as in torch."""


@final
class Recurrent(nn.Module):
    """Any cell over time, stacked and in one or both directions; called like ``torch.nn.LSTM``.

    ``output, state = recurrent(x, state)``, with ``state`` a tuple of one tensor for each leaf of the cell's state
    (``(h, c)`` for an LSTM), laid out ``[depth * directions, batch, ...]`` as in torch. Two things go further than
    torch: ``lengths=`` for padded input, and any cell. Packed input is taken too, and comes back packed.

    Args:
        cell: a cell type, or a factory that takes ``input_size``.
        input_size: features of one input step.
        depth: number of layers; each reads the outputs of the one below it.
        bidirectional: whether a second cell of each layer reads the sequence backward within its length.
        dropout: probability of dropping an output between two layers, in training.
        batch_first: whether input and output are ``[batch, time, ...]`` instead of ``[time, batch, ...]``.
        kernel: ``auto``, ``loop``, the name of a registered kernel, or a kernel.
        truncate: cut the gradient at every ``truncate``-th step (in each direction); 0 never does.
        cell_options: what the cell's constructor takes besides, ``hidden_size`` above all.

    Raises:
        ValueError: a number is out of its range, or the named kernel refuses the input.
    """

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
        **cell_options: Any,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth is {depth}; it must be at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; it must be at least 0 and less than 1")
        if truncate < 0:
            raise ValueError(f"truncate is {truncate}; it must be 0 (never) or a number of steps")
        self.depth, self.bidirectional, self.dropout = depth, bidirectional, dropout
        self.batch_first, self.kernel, self.truncate = batch_first, kernel, truncate
        self.layers = nn.ModuleList()
        for _ in range(depth):
            layer = nn.ModuleList(cell(input_size=input_size, **cell_options) for _ in range(self.directions))
            self.layers.append(layer)
            input_size = sum(_cells(layer)[i].output_size for i in range(self.directions))
        self.output_size = input_size
        self.choice: Choice | None = None

    @property
    def directions(self) -> int:
        """1, or 2 for a bidirectional network."""
        return 2 if self.bidirectional else 1

    @property
    def cells(self) -> list[Cell]:
        """All cells, in the order of the state's first axis."""
        return [cell for layer in self.layers for cell in _cells(layer)]

    def forward(
        self, x: Any, state: StackedState | None = None, lengths: Int[Tensor, " batch"] | None = None
    ) -> tuple[Any, StackedState]:
        """Run over a batch.

        Args:
            x: ``[time, batch, input]`` (``[batch, time, input]`` if ``batch_first``), or packed input.
            state: the state before the first step; the cell's initial state if ``None``.
            lengths: valid steps of each row, 0 to ``time``; ``None`` where every row fills all.

        Returns:
            The last layer's outputs, zero on padding, and the state of every layer after each row's last valid step
            (for the backward direction, after its first step in time).
        """
        if isinstance(x, PackedSequence):
            return self._packed(x, state)
        if x.dim() != 3 or x.shape[-1] != self.cells[0].input_size:
            size = self.cells[0].input_size
            raise ValueError(f"the input is {tuple(x.shape)}; it must have three axes, the last of size {size}")
        x = x.transpose(0, 1) if self.batch_first else x
        if lengths is not None:
            lengths = self._checked(lengths, x)
        states = self._unstack(state, x)
        final_states: list[State] = []
        for index, layer in enumerate(self.layers):
            if index and self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
            begin = index * self.directions
            x, ends = self._layer(_cells(layer), x, states[begin : begin + self.directions], lengths)
            final_states += ends
        return (x.transpose(0, 1) if self.batch_first else x), _stack(final_states)

    def _layer(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        if not 0 < self.truncate < len(x):
            return self._scan(cells, x, states, lengths)
        forward, end = self._truncated(cells[0], x, states[0], lengths)
        if len(cells) == 1:
            return forward, [end]
        backward, end_backward = self._truncated(cells[1], reverse_within(x, lengths), states[1], lengths)
        return torch.cat([forward, reverse_within(backward, lengths)], dim=-1), [end, end_backward]

    def _truncated(self, cell: Cell, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        outputs = []
        for begin in range(0, x.shape[0], self.truncate):
            chunk = x[begin : begin + self.truncate]
            left = None if lengths is None else (lengths - begin).clamp(0, chunk.shape[0])
            state = detach(state) if begin else state
            output, (state,) = self._scan([cell], chunk, [state], left)
            outputs.append(output)
        return torch.cat(outputs), state

    def _scan(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        registered = () if isinstance(self.kernel, Kernel) or self.kernel == "loop" else kernels_for(type(cells[0]))
        self.choice = choose(self.kernel, registered, cells, x, lengths)
        return self.choice.kernel.scan(cells, x, states, lengths)

    def _packed(self, x: PackedSequence, state: StackedState | None) -> tuple[PackedSequence, StackedState]:
        padded, lengths = pad_packed_sequence(x, batch_first=self.batch_first)
        output, state = self(padded, state, lengths.to(padded.device))
        # In the order that the caller packed in, so that it can be unpacked or read as before.
        if (order := x.sorted_indices) is not None:
            output, lengths = output.index_select(0 if self.batch_first else 1, order), lengths[order.cpu()]
        packed = pack_padded_sequence(output, lengths, batch_first=self.batch_first)
        return PackedSequence(packed.data, packed.batch_sizes, x.sorted_indices, x.unsorted_indices), state

    def _checked(self, lengths: Tensor, x: Tensor) -> Tensor:
        time, batch = x.shape[:2]
        if lengths.shape != (batch,):
            raise ValueError(f"lengths is {tuple(lengths.shape)}; the batch has {batch} rows")
        if batch and (int(lengths.min()) < 0 or int(lengths.max()) > time):
            raise ValueError(
                f"lengths run from {int(lengths.min())} to {int(lengths.max())}; the input has {time} steps"
            )
        return lengths.to(x.device)

    def _unstack(self, state: StackedState | None, x: Tensor) -> list[State]:
        cells = self.cells
        starts = [cell.initial_state(x[0] if len(x) else x.new_zeros(x.shape[1:])) for cell in cells]
        if state is None:
            return starts
        names = ", ".join(cells[0].state_names)
        if not isinstance(state, tuple) or len(state) != len(starts[0]):
            raise ValueError(f"the state must be a tuple of {len(starts[0])} ({names})")
        for name, leaf in zip(cells[0].state_names, state, strict=False):
            if len(leaf) != len(cells):
                raise ValueError(f"state {name} is for {len(leaf)} layers and directions; there are {len(cells)}")
        states: list[State] = []
        for index, start in enumerate(starts):
            leaves = tuple(leaf[index] for leaf in state)
            for name, leaf, like in zip(cells[index].state_names, leaves, start, strict=False):
                if leaf.shape != like.shape:
                    raise ValueError(f"state {name} of layer {index} is {tuple(leaf.shape)}, not {tuple(like.shape)}")
            states.append(type(start)(*leaves) if hasattr(start, "_fields") else leaves)
        return states

    def extra_repr(self) -> str:
        """Show what the layers do not."""
        shown = ("depth", "bidirectional", "dropout", "batch_first", "kernel", "truncate")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)


def _cells(layer: nn.Module) -> list[Cell]:
    return list(layer.children())  # type: ignore[arg-type]  # a layer holds cells only


def _stack(states: Sequence[State]) -> StackedState:
    """One leaf for all layers; a tuple of tensors for a leaf whose shape differs between layers."""

    def join(leaves: tuple[Tensor, ...]) -> Any:
        return torch.stack(leaves) if len({leaf.shape for leaf in leaves}) == 1 else leaves

    leaves = [join(leaves) for leaves in zip(*states, strict=True)]
    return type(states[0])(*leaves) if hasattr(states[0], "_fields") else tuple(leaves)
