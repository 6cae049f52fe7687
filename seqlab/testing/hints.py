"""Outputs that can be said without a model: those that fit the targets, and those that are the same everywhere."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from seqlab.contracts import Batch, Task

_SURE = (2.0, 4.0, 8.0, 16.0, 32.0)
"""Scores of the true class; the task's loss chooses, as smoothed labels forbid to be too sure."""
_MOST_CLASSES = 64


def output_shape(task: Task, batch: Batch) -> tuple[int, ...]:
    """Give the shape that a model's outputs have for a batch."""
    rows, time = batch.inputs.shape[:2]
    return (rows, time, task.outputs) if task.per_step else (rows, task.outputs)


def targets_of(task: Task, batch: Batch) -> Tensor:
    """Give the targets, of the batch's own steps where there is one for each."""
    return batch.targets[:, : batch.inputs.shape[1]] if task.per_step else batch.targets


def live(batch: Batch) -> Tensor:
    """Say which steps are no padding, ``[batch, time]``."""
    rows, time = batch.inputs.shape[:2]
    if batch.lengths is None:
        return torch.ones(rows, time, dtype=torch.bool)
    return torch.arange(time) < batch.lengths.unsqueeze(1)


def is_class(targets: Tensor) -> bool:
    """Say whether the targets are indices of classes."""
    return not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)


def has_classes(task: Task, batch: Batch) -> bool:
    """Say whether each row (or each step) has one class, and each class an output (or two classes one output).

    Ordinal regression has an output less than classes; counts that are predicted by one number have more, too.
    """
    targets = targets_of(task, batch)
    if not is_class(targets) or targets.shape != output_shape(task, batch)[:-1]:
        return False
    return not targets.numel() or int(targets.max()) < max(task.outputs, 2)


def one_hot(targets: Tensor, outputs: int, sure: float) -> Tensor:
    """Give class scores that are sure of the targets; a single output is a score for class 1 against class 0."""
    known = targets.clamp(min=0)
    if outputs == 1:
        return sure * (2.0 * known.unsqueeze(-1) - 1.0)
    return sure * F.one_hot(known, outputs).float()


def perfect(task: Task, batch: Batch) -> Tensor:
    """Find outputs that fit the batch's targets: sure of each class, or the numbers, or what descending the loss gives.

    Of several the one with the smallest loss is taken.
    """
    shape, targets = output_shape(task, batch), targets_of(task, batch)
    if has_classes(task, batch):
        found = [one_hot(targets, task.outputs, sure) for sure in _SURE]
    else:
        found = [descended(task, batch)]
        if targets.numel() == math.prod(shape):
            found.append(targets.reshape(shape).float().nan_to_num())
    with torch.no_grad():
        losses = [float(task.loss(outputs, batch)) for outputs in found]
    return found[min(range(len(found)), key=lambda index: losses[index])]


def descended(task: Task, batch: Batch, steps: int = 300) -> Tensor:
    """Descend the loss of a batch from the blind outputs (Adam, its rate falling to 0)."""
    outputs = (
        task.baseline_outputs(batch).detach().float().clone(memory_format=torch.contiguous_format).requires_grad_()
    )
    largest = float(batch.targets.float().nan_to_num().abs().max()) if batch.targets.numel() else 1.0
    optimizer = torch.optim.Adam([outputs])
    for step in range(steps):
        loss = task.loss(outputs, batch)
        if not loss.requires_grad:
            break
        (outputs.grad,) = torch.autograd.grad(loss, outputs)
        optimizer.param_groups[0]["lr"] = 0.3 * max(1.0, largest) * (1 - step / steps)
        optimizer.step()
    return outputs.detach()


def constants(task: Task, batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """Give outputs that ignore the input, and what they are: each class, or the mean of the numbers."""
    shape, targets = output_shape(task, batch), targets_of(task, batch)
    if has_classes(task, batch):
        for label in range(min(max(task.outputs, 2), _MOST_CLASSES)):
            yield f"class {label} always", one_hot(torch.full(shape[:-1], label), task.outputs, 8.0)
        counted = targets[live(batch)] if task.per_step else targets
        shares = torch.bincount(counted[counted >= 0], minlength=max(task.outputs, 2)).float().clamp(min=0.5).log()
        scores = shares if task.outputs > 1 else shares[1:] - shares[0]
        yield "the share of each class always", scores.expand(shape).contiguous()
    elif targets.is_floating_point() and targets.numel() == math.prod(shape):
        numbers = targets.reshape(shape).float()
        counted = numbers[live(batch)] if task.per_step else numbers
        yield "the mean of the targets always", counted.nanmean(0).expand(shape).contiguous()
        yield "the median of the targets always", counted.nanmedian(0).values.expand(shape).contiguous()
