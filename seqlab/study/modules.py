"""Gradient flow, states, gates and effective context of recurrent layers inside any module and any training loop."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from seqlab.contracts.cell import Gate
from seqlab.errors import UserError, check_choice, check_range
from seqlab.recurrence.recording import CellTrace, recurrent_parts, traced
from seqlab.study.gradient_flow import GradientFlow
from seqlab.study.gradient_flow_measure import measure_traces

Reduction = Literal["mean", "sum"]
Scale = Reduction | int
"""How a loss was reduced over rows or labelled steps; a number: divided by it."""


@final
@dataclass(frozen=True)
class LayerView:
    """States and gates (by name, ``[time, units]``) of one layer in one direction, in the order of the sequence."""

    layer: int
    direction: str
    states: Mapping[str, Tensor]
    gates: Mapping[str, Gate]


@torch.no_grad()
def viewer(track: CellTrace) -> Callable[[int], LayerView]:
    """Read the states and gates of a trace under the present weights; return what gives those of one row."""
    x, states = track.probe_arguments()
    gates = track.cell.probe(x, states).gates
    named = list(zip(track.cell.state_names, states, strict=True))
    layer, direction, lengths = track.layer, track.direction, track.lengths.tolist()

    def view(row: int) -> LayerView:
        length = lengths[row]

        def ordered(values: Tensor) -> Tensor:
            values = values.detach()[len(values) - length :, row].flatten(1)
            return values.flip(0) if direction == "backward" else values

        return LayerView(
            layer,
            direction,
            {name: ordered(state[1:]) for name, state in named if state.is_floating_point()},
            {name: Gate(ordered(gate.values), gate.low, gate.high) for name, gate in gates.items()},
        )

    return view


@final
class Recorded:
    """Gradient flow, states and gates of the recurrent layers of a module, complete after the block of :func:`record`.

    Attributes:
        names: of the layers, as in ``named_modules()``.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._flows: dict[str, GradientFlow] = {}
        self._inputs: dict[str, Tensor] = {}
        self._norms: dict[str, Sequence[Tensor]] = {}
        self._views: dict[str, list[Callable[[int], LayerView]]] = {}
        self._rows: dict[str, int] = {}

    def flow(self, name: str = "") -> GradientFlow:
        """Return the gradient flow of a layer; by default of the only one.

        Raises:
            UserError: there is no such layer, or no gradient reached it in the block.
        """
        found = self._flows[self._known(name)]
        if not found.rows:
            raise UserError(f"no gradient reached {name or 'the layer'}: call backward() inside the block")
        return found

    def views(self, name: str = "", row: int = 0) -> list[LayerView]:
        """Return the states and gates of each layer and direction along one row of the batch.

        Raises:
            UserError: there is no such layer, or it was not called.
            ValueError: there is no such row.
        """
        name = self._known(name)
        check_range("row", row, 0, self._rows[name] - 1)
        return [view(row) for view in self._views[name]]

    def sensitivity(self, name: str = "", row: int = 0) -> Tensor:
        r"""Return :math:`\|∂L_b / ∂x_t\|_2` for the input of a layer at each step of one row, ``[time]``.

        Raises:
            UserError: there is no such layer, it was not called with a tensor, or no gradient reached its input.
            ValueError: there is no such row.
        """
        known = self._known(name)
        check_range("row", row, 0, self._rows[known] - 1)
        if known not in self._norms:
            raise UserError(f"no gradient reached the input of {known or 'the layer'}, or it is no plain tensor")
        return self._norms[known][row]

    def _keep(self, name: str, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Keep the input of a call, and let it have a gradient."""
        self._inputs.pop(name, None)
        if not arguments or not isinstance(arguments[0], Tensor) or not torch.is_grad_enabled():
            return arguments
        x, *rest = arguments
        x = x.clone() if x.requires_grad else x.detach().requires_grad_()  # with no gradient but this call's
        x.retain_grad()
        self._inputs[name] = x
        return x, *rest

    def _known(self, name: str) -> str:
        name = self.names[0] if not name and len(self.names) == 1 else name
        if name not in self.names:
            raise UserError(f"there is no recurrent layer {name!r}; there are {', '.join(map(repr, self.names))}")
        if name not in self._flows:
            raise UserError(f"{name or 'the layer'} was not called in the block, or the block has not ended")
        return name

    def _measure(self, name: str, tracks: Sequence[CellTrace], reduction: Scale, *, batch_first: bool) -> None:
        """Measure the last call of a layer."""
        begin = max(index for index, track in enumerate(tracks) if (track.layer, track.direction) == (0, "forward"))
        tracks = tracks[begin:]
        lengths = tracks[0].lengths
        self._rows[name] = len(lengths)
        scale = loss_scale(reduction, len(lengths))
        rows, saturation = measure_traces(tracks, scale)
        x = self._inputs.get(name)
        if x is not None and x.grad is not None:
            gradient = x.grad.unsqueeze(1) if x.dim() == 2 else x.grad.transpose(0, 1) if batch_first else x.grad
            norms = scale * torch.linalg.vector_norm(gradient, dim=2)
            self._norms[name] = [norms[:length, row] for row, length in enumerate(lengths.tolist())]
        self._flows[name] = GradientFlow(tuple(rows), tuple(saturation))
        self._views[name] = [viewer(track) for track in tracks]


def loss_scale(reduction: Scale, rows: int) -> int:
    """Return the factor from the gradient of a loss to that of the sum of its rows.

    Raises:
        ValueError: another reduction.
    """
    if isinstance(reduction, str):
        check_choice("reduction", reduction, Reduction)
        return {"mean": rows, "sum": 1}[reduction]
    check_range("reduction", reduction, 1)
    return reduction


@contextmanager
def record(module: nn.Module, reduction: Scale = "mean") -> Iterator[Recorded]:
    r"""Record the recurrent layers of any module while this block runs it forward and backward.

    A :class:`seqlab.Recurrent`, ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` runs by the loop over its own weights, in its own
    precision and mode, and autograd gives the gradient of the block's ``backward()`` to every state. Optimiser steps
    belong after the block. Of a layer that is called several times the last call counts.

    .. math:: \mathrm{norm}(d) = \operatorname{mean}_b \|∂L_b / ∂s_{T_b - d}\|_2

    Args:
        module: a model; restored at the end.
        reduction: whether the loss is a ``mean`` or a ``sum`` over the rows of the batch; :math:`L_b` is that of a row.
            Of a mean over the labelled steps of all rows it is their number, and :math:`L_b` the sum over a row's.

    Yields:
        What is recorded, complete after the block.

    Raises:
        UserError: the module has no such layer.
        ValueError: another reduction.
    """
    loss_scale(reduction, 1)
    if not (parts := recurrent_parts(module)):
        raise UserError(f"{type(module).__name__} has no seqlab.Recurrent, nn.LSTM, nn.GRU or nn.RNN to record")
    with parametrize.cached(), traced(module) as recorders:  # one sample of a parametrised weight, for the probe too
        recorded = Recorded(list(recorders))
        hooks = [part.register_forward_pre_hook(partial(recorded._keep, name)) for name, part in parts.items()]
        try:
            yield recorded
        finally:
            for hook in hooks:
                hook.remove()
        for name, recorder in recorders.items():
            if recorder.tracks:
                batch_first = bool(getattr(parts[name], "batch_first", False))
                recorded._measure(name, recorder.tracks, reduction, batch_first=batch_first)


@final
@dataclass(frozen=True)
class EffectiveContext:
    """Loss of a model that reads the last steps alone.

    Attributes:
        losses: by the number of steps read, ascending.
        whole: with all steps.
        steps: the smallest number of steps whose loss, and that of every larger number measured, is within the
            tolerance.
    """

    losses: Mapping[int, float]
    whole: float
    steps: int


@torch.no_grad()
def effective_context(
    loss: Callable[[Tensor], Tensor], x: Tensor, *, axis: int = 1, tolerance: float = 0.01, least: int = 1
) -> EffectiveContext:
    """Find how many of the last steps a model needs, by truncating its input (Khandelwal et al. 2018).

    The loss is measured at doubled numbers of steps, then by bisection.

    Args:
        loss: from the input of the last steps to a scalar; run the model in evaluation mode.
        x: the whole input, all rows full.
        axis: of time.
        tolerance: relative excess over the loss with all steps that counts as equal.
        least: smallest number of steps to read.

    Raises:
        ValueError: a number is out of its range.
    """
    time = x.shape[axis]
    check_range("least", least, 1, time)
    check_range("tolerance", tolerance, 0)
    losses: dict[int, float] = {}

    def is_enough(steps: int) -> bool:
        if steps not in losses:
            losses[steps] = float(loss(x.narrow(axis, time - steps, steps)))
        return losses[steps] <= whole + tolerance * abs(whole)

    whole = losses[time] = float(loss(x))
    if not math.isfinite(whole):
        raise ValueError(f"the loss with all {time} steps must be finite, got {whole}")
    doubled, high = _doubled(least, time), time
    for steps, enough in reversed([(steps, is_enough(steps)) for steps in doubled]):
        if not enough:
            break
        high = steps
    low = max((steps for steps in doubled if steps < high), default=least - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return EffectiveContext(dict(sorted(losses.items())), whole, high)


def _doubled(least: int, time: int) -> Sequence[int]:
    found = []
    while least < time:
        found.append(least)
        least *= 2
    return found
