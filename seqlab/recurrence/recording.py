"""Forward pass of a network, or of a copy, that records every step of its cells."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, final

import torch
from torch import Tensor, nn

from seqlab.contracts import Cell, State
from seqlab.contracts.kernel import scan_directions
from seqlab.recurrence.recurrent import Recurrent, scan_groups
from seqlab.recurrence.scan import row_lengths, scan
from seqlab.recurrence.selection import Loop
from seqlab.recurrence.torch_modules import borrowing, call_module, refusal
from seqlab.recurrence.wrappers import Wrapper

Owner = TypeVar("Owner")


@final
@dataclass
class CellTrace:
    """Steps of one cell along a batch: one layer in one direction, in the order in which it read.

    Attributes:
        layer: counted from 0.
        direction: ``forward`` or ``backward``.
        cell: the cell.
        start: the state before the first step.
        x: output of the cell's ``project`` for each step.
        after: the state after each step, part of autograd's graph; undefined beyond a row's length.
        lengths: valid steps of each row, ``[batch]``.
    """

    layer: int
    direction: str
    cell: Cell
    start: State
    lengths: Tensor
    x: list[Tensor] = field(default_factory=list)
    after: list[State] = field(default_factory=list)

    def right_aligned(self, values: Tensor) -> Tensor:
        """Shift each row of ``[time, batch, ...]`` so that its last valid step is the last one, with zeros before.

        ``values`` may have one entry more than there are steps, the state before the first of them.
        """
        time = len(self.x)
        missing = time - self.lengths
        source = torch.arange(len(values), device=values.device).unsqueeze(1) - missing
        rows = torch.arange(values.shape[1], device=values.device)
        found = values[source.clamp(min=0), rows]
        return found.masked_fill((source < 0).view(*source.shape, *(1,) * (values.dim() - 2)), 0)

    def probe_arguments(self) -> tuple[Tensor, State]:
        """Return the arguments of :meth:`Cell.probe`, detached and right-aligned."""
        x = self.right_aligned(torch.stack(self.x).detach())
        leaves = zip(self.start, *self.after, strict=True)
        return x, tuple(self.right_aligned(torch.stack(leaf).detach()) for leaf in leaves)


@final
class _TracingCell(Wrapper):
    """A cell that records its steps."""

    def __init__(self, inner: Cell, track: CellTrace, *, retain: bool) -> None:
        super().__init__(inner)
        self.track, self.retain = track, retain

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance the cell."""
        y, new = self.inner.step(x, state)
        self.track.x.append(x)
        self.track.after.append(new)
        for tensor in new if self.retain else ():
            if tensor.requires_grad:
                tensor.retain_grad()
        return y, new


@final
class TracingLoop(Loop):
    """The loop, with a :class:`CellTrace` for each layer and direction.

    Args:
        depth: layers of a call, after which they are counted from 0 again; 0 counts on.
        retain: whether the states retain their gradients.
    """

    def __init__(self, depth: int = 0, *, retain: bool = False) -> None:
        self.tracks: list[CellTrace] = []
        self._layers, self._depth, self._retain = 0, depth, retain
        self._behind: set[int] = set()

    def follow(self, network: Recurrent) -> None:
        """Take the cells that are scanned by themselves after the forward cell of their layer for backward ones."""
        groups = scan_groups(network)
        if network.bidirectional and network.conv:
            self._behind |= {id(cell) for (cell,) in groups[1::2]}

    def scan(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        """Scan as the loop does, and record the steps."""
        x = x if x.requires_grad else x.detach().requires_grad_()  # a gradient may be asked for
        names = ("backward",) if id(cells[0]) in self._behind else ("forward", "backward")
        self._layers += names[0] == "forward"
        layer, directions = (self._layers - 1) % (self._depth or self._layers), iter(names)

        def run(cell: Cell, read: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
            self.tracks.append(CellTrace(layer, next(directions), cell, state, row_lengths(read, lengths)))
            return scan(_TracingCell(cell, self.tracks[-1], retain=self._retain), read, state, lengths)

        return scan_directions(run, cells, x, states, lengths)


@final
class Recording:
    """A float64 copy of a network in evaluation mode whose recurrent parts record their steps, without truncation.

    The original, its counters and the random number generators stay as they are.
    """

    def __init__(self, network: nn.Module) -> None:
        self._copies: dict[int, Any] = {}
        self.network: nn.Module = deepcopy(network, self._copies).double().eval()
        for parameter in self.network.parameters():
            parameter.requires_grad_(parameter.is_floating_point())  # frozen ones, too
        self._recorder = TracingLoop()
        self._parts = recurrent_parts(self.network)
        self.inputs: list[Tensor] = []
        for part in self._parts.values():
            _attach(part, self._recorder)
            part.register_forward_pre_hook(self._keep_input)

    @property
    def is_recurrent(self) -> bool:
        """Whether the network has a recurrent part."""
        return bool(self._parts)

    @property
    def tracks(self) -> list[CellTrace]:
        """The recorded steps, layer by layer."""
        return self._recorder.tracks

    def _keep_input(self, _: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Keep the input of a part as it is called: before normalisation and convolution."""
        if not arguments or not isinstance(arguments[0], Tensor):
            return arguments
        x, *rest = arguments
        self.inputs.append(x if x.requires_grad else x.detach().requires_grad_())
        return self.inputs[-1], *rest

    def rebound(self, other: Owner) -> Owner:
        """Copy an object whose attributes are parts of the network, with the parts of the copy in their place."""
        made = copy(other)
        for name, value in vars(other).items():
            if isinstance(value, nn.Module) and id(value) in self._copies:
                setattr(made, name, self._copies[id(value)])
        return made


def is_recurrent(network: nn.Module) -> bool:
    """Return whether a network has a recurrent part."""
    return bool(recurrent_parts(network))


def recurrent_parts(network: nn.Module) -> Mapping[str, Recurrent | nn.RNNBase]:
    """Return the parts whose steps can be recorded: each :class:`Recurrent`, and each recurrent module of torch.

    Modules of torch that compute something else (subclasses, projections) are none of them.
    """
    return {
        name: part
        for name, part in network.named_modules()
        if isinstance(part, Recurrent) or (isinstance(part, nn.RNNBase) and not refusal(part))
    }


@contextmanager
def traced(network: nn.Module) -> Iterator[dict[str, TracingLoop]]:
    """Run the recurrent parts of a network by the loop in this block; yield their steps by the name of the part.

    The states retain the gradients of a backward pass (:meth:`torch.Tensor.retain_grad`).
    """
    parts = recurrent_parts(network)
    recorders, attached = {}, []
    try:
        for name, part in parts.items():
            depth = part.depth if isinstance(part, Recurrent) else part.num_layers
            recorders[name] = TracingLoop(depth, retain=True)
            attached.append((part, _attach(part, recorders[name])))
        yield recorders
    finally:
        for part, before in attached:
            part.__dict__.pop("forward", None) if isinstance(part, nn.RNNBase) else vars(part).update(before)


def _attach(part: Recurrent | nn.RNNBase, recorder: TracingLoop) -> dict[str, Any]:
    """Run a part by a recorder; return the attributes that it had."""
    if isinstance(part, nn.RNNBase):
        part.__dict__["forward"] = partial(call_module, part, borrowing(part, recorder))
        return {}
    before = {name: getattr(part, name) for name in ("kernel", "truncate", "checkpoint_steps")}
    part.kernel, part.truncate, part.checkpoint_steps = recorder, 0, 0
    recorder.follow(part)
    return before
