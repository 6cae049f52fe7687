"""Gradient flow of a network on one batch: autograd through the loop, beside what the cell's closed forms say."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from seqlab.contracts import Batch, Model, Probe, State, Task
from seqlab.recurrence.recording import CellTrace, Recording
from seqlab.study.gradient_flow import FlowRow, SaturationRow

_EACH = 256
"""Distances of which each has a row; beyond them they grow by a 32nd, which keeps the files of long sequences small."""


def measure(model: Model, task: Task, batch: Batch, step: int = 0) -> tuple[list[FlowRow], list[SaturationRow]]:
    """Measure the gradient of the loss to every state, in double precision and evaluation mode, on a copy.

    The loss is each row's own: that of a single sequence, and of a task with an output at each step that of the last
    valid step alone, so that all of the gradient comes from there. What pools over time or reads in the middle, such
    as the layer above, adds to the norms on the way; to ``product`` and its like it does not.

    Args:
        model: with a recurrent part; nothing about it changes, nor does any random generator.
        task: whose loss it is.
        batch: a few sequences.
        step: what is written into the rows.

    Returns:
        Nothing at all where the model is not recurrent.
    """
    return _measured(model, step, lambda recording: _loss(recording, recording.rebound(task), batch))


def measure_step(module: nn.Module, batch: Any, step: int = 0) -> tuple[list[FlowRow], list[SaturationRow]]:
    """Do the same for any module that has a ``training_step`` and a :class:`seqlab.Recurrent` within.

    Its loss is taken for a mean over the sequences, and multiplied by their number.

    Args:
        module: a LightningModule, say; its ``training_step`` is called on a copy that belongs to no trainer.
        batch: what its ``training_step`` takes; floating-point tensors are converted to double precision.
        step: what is written into the rows.

    Raises:
        TypeError: ``training_step`` gives no loss that depends on a state.
    """

    def loss(recording: Recording) -> Tensor:
        double = tree_map(lambda each: each.double() if _is_real(each) else each, batch)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*self\.log\(\)")  # it belongs to no trainer
            given: Any = recording.network.training_step(double, 0)  # type: ignore[operator]  # a method, not a module
        found = given["loss"] if isinstance(given, Mapping) else given
        if not isinstance(found, Tensor) or not found.requires_grad or not recording.tracks:
            raise TypeError(f"{type(module).__name__}.training_step gives no loss that depends on a seqlab.Recurrent")
        return found * len(recording.tracks[0].lengths)

    return _measured(module, step, loss)


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _measured(
    network: nn.Module, step: int, loss: Callable[[Recording], Tensor]
) -> tuple[list[FlowRow], list[SaturationRow]]:
    recording = Recording(network)
    if not recording.is_recurrent:
        return [], []
    devices = sorted({each.device.index for each in network.parameters() if each.is_cuda})
    with torch.enable_grad(), torch.random.fork_rng(devices):
        flows = _gradients(loss(recording), recording.tracks)
    rows: list[FlowRow] = []
    saturation: list[SaturationRow] = []
    with torch.no_grad():
        for flow in flows:
            rows += flow.rows(step)
            saturation += flow.saturation(step)
    return rows, saturation


def _loss(recording: Recording, task: Task, batch: Batch) -> Tensor:
    """Add up the losses of the rows."""
    inputs = batch.inputs.double() if batch.inputs.is_floating_point() else batch.inputs
    outputs = recording.network(Batch(inputs, batch.lengths, batch.targets))[0]
    rows, time = inputs.shape[:2]
    lengths = torch.full((rows,), time, device=inputs.device) if batch.lengths is None else batch.lengths
    total: Tensor = outputs.new_zeros(())
    for row in range(rows):
        part = slice(row, row + 1)
        output, length = outputs[part], int(lengths[row])
        if length == 0:
            continue
        if task.per_step:  # the mean over the steps, of which all but the last one are held fast
            last = torch.arange(time, device=output.device) == length - 1
            output = torch.where(last.view(1, time, *(1,) * (output.dim() - 2)), output, output.detach())
        one = Batch(inputs[part], None if batch.lengths is None else lengths[part], batch.targets[part])
        total = total + task.loss(output, one) * (length if task.per_step else 1)
    return total


def _gradients(loss: Tensor, tracks: Sequence[CellTrace]) -> "list[_Flow]":
    """Ask for the gradients to all states of all tracks at once."""
    wanted = [[_differentiable(leaf) for leaf in zip(*track.after, strict=True)] for track in tracks]
    flat = [state for leaves in wanted for leaf in leaves for state in leaf]
    found = iter(torch.autograd.grad(loss, flat, allow_unused=True) if flat else ())
    with torch.no_grad():
        return [
            _Flow(track, [_stacked(leaf, [next(found) for _ in leaf]) for leaf in leaves])
            for track, leaves in zip(tracks, wanted, strict=True)
        ]


def _differentiable(states: Sequence[Tensor]) -> Sequence[Tensor]:
    return states if all(state.requires_grad for state in states) else ()


def _stacked(states: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Tensor | None:
    if not states:
        return None
    pairs = zip(states, gradients, strict=True)
    return torch.stack([torch.zeros_like(state) if one is None else one for state, one in pairs]).detach()


@final
class _Flow:
    """One layer in one direction; everything is shifted so that each row's last valid step is the last one.

    Args:
        track: what happened.
        gradients: to each leaf of the state after each step, ``[time, batch, ...]``; ``None`` for one without.
    """

    def __init__(self, track: CellTrace, gradients: Sequence[Tensor | None]) -> None:
        self.track, self.time = track, len(track.x)
        self.names = track.cell.state_names
        self.gradients = [None if one is None else track.right_aligned(one) for one in gradients]
        x, states = track.probe_arguments() if self.time else (torch.empty(0), ())
        self.probe = track.cell.probe(x, states) if self.time else Probe()
        steps = torch.arange(self.time, device=track.lengths.device).unsqueeze(1)
        self.valid = steps >= self.time - track.lengths

    def rows(self, step: int) -> list[FlowRow]:
        """Give a row for each leaf and distance."""
        norms = [None if one is None else self._back(_norms(one, 2)) for one in self.gradients]
        products, bounds = self._products(), self._bounds()
        place = (step, self.track.layer, self.track.direction)
        longest = int(self.valid.sum(0).max()) if self.time else 0
        rows: list[FlowRow] = []
        for index, name in enumerate(self.names):
            norm = norms[index]
            if norm is None:
                continue
            forget, terms = self._forget(index, name), self._terms(index, name)
            columns = (norm, products[index], bounds[index], forget, terms)
            lists = [None if column is None else column.tolist() for column in columns]
            for distance in distances(longest):
                values = [None if column is None else column[distance] for column in lists]
                rows.append(FlowRow(*place, name, distance, *values))  # type: ignore[arg-type]  # the norm is there
        return rows

    def saturation(self, step: int) -> list[SaturationRow]:
        """Give the shares of each gate, over the valid steps of all rows."""
        rows = []
        for name, gate in self.probe.gates.items():
            low, high = (_share(end, self.valid) for end in gate.saturated())
            rows.append(SaturationRow(step, self.track.layer, self.track.direction, name, low, high))
        return rows

    def _back(self, values: Tensor) -> Tensor:
        """Average ``[time, batch]`` over the rows that are long enough, the last step first."""
        counted = values.masked_fill(~self.valid, 0).sum(1)
        return (counted / self.valid.sum(1).clamp(min=1)).flip(0)

    def _ends(self) -> State | None:
        """Give the gradients to the state after the last step, where every leaf has one."""
        ends = [one[-1] for one in self.gradients if one is not None]
        return tuple(ends) if self.time and len(ends) == len(self.gradients) else None

    def _products(self) -> list[Tensor | None]:
        pull, state = self.probe.product, self._ends()
        if pull is None or state is None:
            return [None] * len(self.gradients)
        norms = [[_norms(leaf, 1)] for leaf in state]
        for t in range(self.time - 1, 0, -1):
            state = pull(t, state)
            for leaf, found in zip(state, norms, strict=True):
                found.append(_norms(leaf, 1))
        return [self._back(torch.stack(found[::-1])) for found in norms]

    def _bounds(self) -> list[Tensor | None]:
        gain, state = self.probe.gain, self._ends()
        if gain is None or state is None or len(state) > 1:
            return [None] * len(self.gradients)
        return [self._back(self._from_end(gain) * _norms(state[0], 1))]

    def _forget(self, index: int, name: str) -> Tensor | None:
        factor, gradient = self.probe.forget.get(name), self.gradients[index]
        if factor is None or gradient is None:
            return None
        return self._back(_norms(self._from_end(factor) * gradient[-1], 2))

    def _from_end(self, factors: Tensor) -> Tensor:
        """Multiply the factors of all later steps: 1 at the last one."""
        later = torch.cat([factors[1:], torch.ones_like(factors[:1])])
        return later.flip(0).cumprod(0).flip(0)

    def _terms(self, index: int, name: str) -> Tensor | None:
        pull: Callable[[int, Tensor], Tensor] | None = self.probe.terms.get(name)
        gradient = self.gradients[index]
        if pull is None or gradient is None:
            return None
        leaf = gradient[-1]
        norms = [_norms(leaf, 1)]
        for t in range(self.time - 1, 0, -1):
            leaf = pull(t, leaf)
            norms.append(_norms(leaf, 1))
        return self._back(torch.stack(norms[::-1]))


def distances(longest: int) -> list[int]:
    """Choose the distances that have a row: all of the near ones, and the furthest."""
    chosen, distance = list(range(min(longest, _EACH))), float(_EACH)
    while distance < longest:
        chosen.append(int(distance))
        distance *= 1 + 1 / 32
    if chosen and chosen[-1] < longest - 1:
        chosen.append(longest - 1)
    return chosen


def _norms(values: Tensor, axes: int) -> Tensor:
    """Take the Euclidean norm over all but the first axes."""
    found: Tensor = torch.linalg.vector_norm(values.flatten(axes), dim=-1)
    return found


def _share(chosen: Tensor, valid: Tensor) -> float:
    """Count the share of ``[time, batch, ...]`` among the valid steps."""
    units = chosen.flatten(2)
    counted = int(valid.sum()) * units.shape[2]
    return float((units & valid.unsqueeze(2)).sum()) / counted if counted else 0.0
