"""Gradient flow of a network on one batch: autograd through the loop, and the cell's closed forms."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from seqlab.contracts import Batch, Model, Probe, State
from seqlab.recurrence.recording import CellTrace, Recording
from seqlab.study.gradient_flow import FlowRow, SaturationRow

if TYPE_CHECKING:
    from seqlab.contracts import Task  # imports torchmetrics, which a loop of others need not have

_DENSE = 256
"""Distances that each have a row; beyond, they grow by 1/32, which keeps the files of long sequences small."""

Measured = tuple[list[FlowRow], list[SaturationRow]]


def measure(model: Model, task: "Task", batch: Batch, step: int = 0) -> Measured:
    """Measure the gradient of the loss to every state, in float64 and evaluation mode, on a copy.

    The loss is that of each sequence by itself; of a task with an output at each step, that of the last step with a
    target.
    Pooling over time and the layer above add to ``norm`` on the way, not to ``product`` and the other closed forms.

    Args:
        model: left unchanged, as are the random generators.
        task: defines the loss.
        batch: a few sequences.
        step: training step to record.

    Returns:
        Rows of both files; empty if the model is not recurrent.
    """
    return _measured(model, step, lambda recording: _loss(recording, recording.rebound(task), batch))


def measure_step(module: nn.Module, batch: Any, step: int = 0) -> Measured:
    """Measure any module with a ``training_step`` and a :class:`seqlab.Recurrent` or a module of torch inside.

    Its loss is taken as a mean over the sequences.

    Args:
        module: its ``training_step`` is called on a copy without a trainer.
        batch: argument of ``training_step``; floating-point tensors are converted to float64.
        step: training step to record.

    Raises:
        TypeError: ``training_step`` returns no loss that depends on a state.
    """

    def loss(recording: Recording) -> Tensor:
        double = tree_map(lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, batch)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*self\.log\(\)")  # the copy has no trainer
            returned: Any = recording.network.training_step(double, 0)  # type: ignore[operator]  # a method, not a module
        found = returned["loss"] if isinstance(returned, Mapping) else returned
        if not isinstance(found, Tensor) or not found.requires_grad or not recording.tracks:
            raise TypeError(f"{type(module).__name__}.training_step returns no loss that depends on a recurrent layer")
        return found * len(recording.tracks[0].lengths)

    return _measured(module, step, loss)


def _measured(network: nn.Module, step: int, loss: Callable[[Recording], Tensor]) -> Measured:
    recording = Recording(network)
    if not recording.is_recurrent:
        return [], []
    devices = sorted({each.device.index for each in network.parameters() if each.is_cuda})
    with torch.enable_grad(), torch.random.fork_rng(devices):
        flows = _gradients(loss(recording), recording.tracks)
    return _rows(flows, step)


@torch.no_grad()
def measure_traces(tracks: Sequence[CellTrace], scale: float = 1.0, step: int = 0) -> Measured:
    """Measure traces whose states retain the gradients of a backward pass (:meth:`torch.Tensor.retain_grad`).

    Args:
        tracks: of one call of a network.
        scale: factor on the gradients.
        step: training step to record.
    """
    flows = []
    for track in tracks:
        series = [_retained(states, scale) for states in zip(*track.after, strict=True)]
        flows.append(_TrackFlow(track, series))
    return _rows(flows, step)


def _retained(states: Sequence[Tensor], scale: float) -> Tensor | None:
    gradients = [state.grad for state in states]
    if all(each is None for each in gradients):
        return None
    pairs = zip(gradients, states, strict=True)
    return torch.stack([torch.zeros_like(state) if each is None else each for each, state in pairs]) * scale


@torch.no_grad()
def _rows(flows: "Sequence[_TrackFlow]", step: int) -> Measured:
    rows: list[FlowRow] = []
    saturation: list[SaturationRow] = []
    for flow in flows:
        rows += flow.rows(step)
        saturation += flow.saturation(step)
    return rows, saturation


def _loss(recording: Recording, task: "Task", batch: Batch) -> Tensor:
    """Return the sum of the losses of the rows."""
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
        one = Batch(inputs[part], None if batch.lengths is None else lengths[part], batch.targets[part])
        if not task.per_step:
            total = total + task.loss(output, one)
        elif len(counted := _counted_steps(task, output, one)):  # a mean, of which only the last passes a gradient
            last = torch.arange(time, device=output.device) == counted[-1]
            output = torch.where(last.view(1, time, *(1,) * (output.dim() - 2)), output, output.detach())
            total = total + task.loss(output, one) * len(counted)
    return total


def _counted_steps(task: "Task", outputs: Tensor, one: Batch) -> Tensor:
    """Return the steps of a row that its loss reads, ascending: those of which it has a derivative.

    The outputs are replaced by noise, for which no derivative is 0 by chance, as that of a certain prediction is.
    """
    noise = torch.randn_like(outputs, requires_grad=True)
    (gradient,) = torch.autograd.grad(task.loss(noise, one), noise)
    return gradient[0].nan_to_num().flatten(1).ne(0).any(1).nonzero().flatten()


def _gradients(loss: Tensor, tracks: Sequence[CellTrace]) -> "list[_TrackFlow]":
    """Return the gradients to all states of all tracks, from one backward pass."""
    wanted = [
        [states if all(state.requires_grad for state in states) else () for states in zip(*track.after, strict=True)]
        for track in tracks
    ]
    flat = [state for series in wanted for states in series for state in states]
    found = iter(torch.autograd.grad(loss, flat, allow_unused=True, materialize_grads=True) if flat else ())
    with torch.no_grad():
        return [
            _TrackFlow(track, [torch.stack([next(found) for _ in states]) if states else None for states in series])
            for track, series in zip(tracks, wanted, strict=True)
        ]


@final
class _TrackFlow:
    """Gradient flow of one layer in one direction, with each row shifted so that its last valid step comes last."""

    def __init__(self, track: CellTrace, gradients: Sequence[Tensor | None]) -> None:
        self.track, self.time = track, len(track.x)
        self.names = track.cell.state_names
        self.gradients = [None if each is None else track.right_aligned(each) for each in gradients]
        x, states = track.probe_arguments() if self.time else (torch.empty(0), ())
        self.probe = track.cell.probe(x, states) if self.time else Probe()
        steps = torch.arange(self.time, device=track.lengths.device).unsqueeze(1)
        self.valid = steps >= self.time - track.lengths

    def rows(self, step: int) -> list[FlowRow]:
        """Return a row per state tensor and distance."""
        products, bounds = self._products(), self._bounds()
        place = (step, self.track.layer, self.track.direction)
        longest = int(self.valid.sum(0).max()) if self.valid.numel() else 0
        rows: list[FlowRow] = []
        for index, name in enumerate(self.names):
            if (gradient := self.gradients[index]) is None:
                continue
            forget, terms = self._forget(name, gradient), self._terms(name, gradient)
            columns = (self._mean(_norms(gradient, 2)), products[index], bounds[index], forget, terms)
            lists = [None if column is None else column.tolist() for column in columns]
            for distance in distances(longest):
                values = [None if column is None else column[distance] for column in lists]
                rows.append(FlowRow(*place, name, distance, *values))  # type: ignore[arg-type]  # the norm is there
        return rows

    def saturation(self, step: int) -> list[SaturationRow]:
        """Return the saturation of each gate over the valid steps of all rows."""
        rows = []
        for name, gate in self.probe.gates.items():
            low, high = (_share(end, self.valid) for end in gate.saturated())
            rows.append(SaturationRow(step, self.track.layer, self.track.direction, name, low, high))
        return rows

    def _mean(self, values: Tensor) -> Tensor:
        """Average ``[time, batch]`` over the rows that are long enough, last step first."""
        counted = values.masked_fill(~self.valid, 0).sum(1)
        return (counted / self.valid.sum(1).clamp(min=1)).flip(0)

    def _ends(self) -> State | None:
        """Return the gradients to the last state if every state tensor has one."""
        ends = [each[-1] for each in self.gradients if each is not None]
        return tuple(ends) if self.time and len(ends) == len(self.gradients) else None

    def _products(self) -> list[Tensor | None]:
        jacobian, state = self.probe.product, self._ends()
        if jacobian is None or state is None:
            return [None] * len(self.gradients)
        return [*self._walk_back(jacobian, state)]

    def _walk_back(self, jacobian: Callable[[int, State], State], state: State) -> list[Tensor]:
        """Return the norms of a gradient to the last state, multiplied by the Jacobian of each step before."""
        norms = [[_norms(tensor, 1) for tensor in state]]
        for t in range(self.time - 1, 0, -1):
            state = jacobian(t, state)
            norms.append([_norms(tensor, 1) for tensor in state])
        return [self._mean(torch.stack(each[::-1])) for each in zip(*norms, strict=True)]

    def _bounds(self) -> list[Tensor | None]:
        gain, state = self.probe.gain, self._ends()
        if gain is None or state is None or len(state) > 1:
            return [None] * len(self.gradients)
        return [self._mean(self._later_product(gain) * _norms(state[0], 1))]

    def _forget(self, name: str, gradient: Tensor) -> Tensor | None:
        factor = self.probe.forget.get(name)
        if factor is None:
            return None
        return self._mean(_norms(self._later_product(factor) * gradient[-1], 2))

    def _later_product(self, factors: Tensor) -> Tensor:
        """Return the product of the factors of all later steps: 1 at the last."""
        later = torch.cat([factors[1:], torch.ones_like(factors[:1])])
        return later.flip(0).cumprod(0).flip(0)

    def _terms(self, name: str, gradient: Tensor) -> Tensor | None:
        jacobian = self.probe.terms.get(name)
        if jacobian is None:
            return None
        return self._walk_back(lambda t, state: (jacobian(t, state[0]),), (gradient[-1],))[0]


def distances(longest: int) -> list[int]:
    """Return the distances that have a row: all small ones, fewer of the large ones, and the largest."""
    chosen, distance = list(range(min(longest, _DENSE))), float(_DENSE)
    while distance < longest:
        chosen.append(int(distance))
        distance *= 1 + 1 / 32
    if chosen and chosen[-1] < longest - 1:
        chosen.append(longest - 1)
    return chosen


def _norms(values: Tensor, axes: int) -> Tensor:
    """Return the Euclidean norm over all but the first axes."""
    found: Tensor = torch.linalg.vector_norm(values.flatten(axes), dim=-1)
    return found


def _share(chosen: Tensor, valid: Tensor) -> float:
    """Return the share of ``[time, batch, ...]`` that is true in the valid steps."""
    units = chosen.flatten(2)
    counted = int(valid.sum()) * units.shape[2]
    return float((units & valid.unsqueeze(2)).sum()) / counted if counted else 0.0
