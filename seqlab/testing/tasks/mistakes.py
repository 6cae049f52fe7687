"""Checks of a loss's gradient, by value and where the model is confidently wrong."""

from collections.abc import Iterator
from unittest import SkipTest

import torch
from torch import Tensor

from seqlab.contracts import Batch, Task
from seqlab.testing.guesses import descended, has_classes, is_class, one_hot, output_shape, targets_of
from seqlab.testing.suite import agree, demand
from seqlab.testing.tasks.making import TaskMaking
from seqlab.testing.tasks.means import counts

_MILD, _SURE = 2.0, (12.0, 30.0)
"""Half the gap between the scores of a wrong class and the right one: its probability is 0.02, 4e-11 and 9e-27."""
_SHARE = 1e-3
_PLACES = 24


class MistakeChecks(TaskMaking):
    """What the gradient of a loss says."""

    def test_loss_gradient_is_its_derivative(self) -> None:
        """The gradient in the outputs agrees with finite differences, in float64, and gradients need not be on."""
        ready = self.ready()
        task, batch = ready.task, ready.batch(most=_PLACES)
        drawn = self.drawn(task, batch)
        with torch.no_grad():
            without = task.loss(drawn, batch)
        agree("the loss under no_grad", without, task.loss(drawn.clone().requires_grad_(), batch).detach(), 1e-5)
        outputs, batch = drawn.double(), widened(batch)
        if fault := _refusal(task, outputs, batch):
            raise SkipTest(f"the loss takes no float64: {fault}")
        for what, base in (
            ("drawn outputs", outputs),
            ("outputs that are wrong", self._mistaken(task, batch, outputs)),
        ):
            self._check_differences(task, batch, base, what)

    def _mistaken(self, task: Task, batch: Batch, outputs: Tensor) -> Tensor:
        _, wrong = next(mistakes(task, batch, 6.0))
        return outputs + wrong.double()

    @staticmethod
    def _check_differences(task: Task, batch: Batch, outputs: Tensor, what: str) -> None:
        base = outputs.clone().requires_grad_()
        loss = task.loss(base, batch)
        demand(loss.requires_grad, f"the loss of {what} has no gradient")
        (gradient,) = torch.autograd.grad(loss, base)
        scale = float(gradient.abs().max()) + 1e-12
        generator = torch.Generator().manual_seed(4)
        places = counts(task, batch).nonzero()
        places = places[torch.randperm(len(places), generator=generator)[:_PLACES]]
        for place in places.unbind():
            at = tuple(place.tolist())
            direction = torch.randn(outputs.shape[-1], generator=generator, dtype=outputs.dtype)
            expected = float((gradient[at] * direction).sum())
            found = _slopes(task, batch, outputs, at, direction)
            demand(
                any(abs(one - expected) <= 3e-3 * scale for one in found),
                f"{what}: the derivative of the loss at {'row, step' if task.per_step else 'row'} {at} is"
                f" {found[0]:.4g} by finite differences, and {expected:.4g} by the gradient",
            )

    def test_loss_learns_from_mistakes(self) -> None:
        """Where outputs are confidently wrong, the loss is finite and every row and step has a gradient to learn by."""
        ready = self.ready()
        task, batch = ready.task, ready.batch(most=64)
        counted = counts(task, batch)
        mild = self._reached(task, batch, _MILD, counted)
        for sure in _SURE:
            found = self._reached(task, batch, sure, counted)
            lost = counted & (found <= _SHARE * mild)
            demand(
                not lost.any(),
                f"where the outputs are wrong by {sure:g}, the gradient of {int(lost.sum())} of {int(counted.sum())}"
                f" targets is at most {float(found[lost].max() if lost.any() else 0):.2g}, and {float(mild.max()):.2g}"
                f" where they are wrong by {_MILD:g}: is something clamped, saturated, or hidden by an epsilon?",
            )
        if has_classes(task, batch):
            self._reached(task, batch, 200.0, counted)

    @staticmethod
    def _reached(task: Task, batch: Batch, sure: float, counted: Tensor) -> Tensor:
        """Give the size of each target's gradient where the outputs are so wrong."""
        found = torch.zeros(counted.shape)
        for _, wrong in mistakes(task, batch, sure):
            outputs = wrong.clone().requires_grad_()
            loss = task.loss(outputs, batch)
            demand(bool(loss.isfinite()), f"the loss is {loss.item():g} where the outputs are wrong by {sure:g}")
            demand(loss.requires_grad, "the loss has no gradient where the outputs are wrong")
            (gradient,) = torch.autograd.grad(loss, outputs)
            odd = int((~gradient.isfinite()).sum())
            demand(not odd, f"{odd} entries of the gradient are not finite where the outputs are wrong by {sure:g}")
            found = torch.maximum(found, gradient.abs().amax(-1))
        return found


def widened(batch: Batch) -> Batch:
    """Give a batch whose numbers are of double precision."""
    inputs, targets = (each.double() if each.is_floating_point() else each for each in (batch.inputs, batch.targets))
    return Batch(inputs, batch.lengths, targets)


def _refusal(task: Task, outputs: Tensor, batch: Batch) -> str:
    """Say why a loss takes no double precision, forward or backward: weights of float32, say."""
    outputs = outputs.clone().requires_grad_()
    try:
        loss = task.loss(outputs, batch)
        if loss.requires_grad:
            torch.autograd.grad(loss, outputs)
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return ""


def mistakes(task: Task, batch: Batch, sure: float) -> Iterator[tuple[str, Tensor]]:
    """Give outputs that are sure of other targets than the batch's: other classes, or numbers too large and too small.

    Args:
        task: whose outputs.
        batch: the batch.
        sure: how far off they are.
    """
    shape, targets = output_shape(task, batch), targets_of(task, batch)
    if has_classes(task, batch):
        other = torch.where(targets >= 0, (targets + 1) % max(task.outputs, 2), 0)
        scores = one_hot(other, task.outputs, 1.0)
        yield "other classes", sure * (scores if task.outputs == 1 else 2 * scores - 1)
        return
    if not is_class(targets) and targets.numel() == torch.Size(shape).numel():
        numbers = targets.reshape(shape).float().nan_to_num()
        if bool(((numbers == 0) | (numbers == 1)).all()):
            yield "the opposite", sure * (1 - 2 * numbers)
            return
        scale = max(1.0, float(numbers.std()))
        yield "too large", numbers + sure * scale
        yield "too small", numbers - sure * scale
        return
    if is_class(batch.targets):
        classes = int(batch.targets.max()) + 1
        other = torch.where(batch.targets >= 0, (batch.targets + 1) % classes, batch.targets)
    else:
        other = 1 - 2 * batch.targets if batch.targets.is_floating_point() else ~batch.targets
    found = descended(task, batch._replace(targets=other))
    if float(found.abs().min()) > 1:  # scores, each of which says one thing or the other
        found = found.sign()
    yield "other targets", found * (sure / float(found.abs().max().clamp(min=1e-3)))


def _slopes(task: Task, batch: Batch, outputs: Tensor, at: tuple[int, ...], direction: Tensor) -> list[float]:
    """Compute the derivative along a direction by central differences of several sizes."""
    found = []
    for step in (1e-4, 1e-6, 1e-2):
        values = []
        for sign in (1, -1):
            moved = outputs.clone()
            moved[at] += sign * step * direction
            with torch.no_grad():
                values.append(float(task.loss(moved, batch)))
        found.append((values[0] - values[1]) / (2 * step))
    return found
