"""Checks of a task's loss."""

from collections.abc import Iterator
from unittest import SkipTest

import torch
from torch import Tensor

from seqlab.contracts import Batch, Task
from seqlab.contracts.task import task_defaults
from seqlab.testing.hints import descended, has_classes, is_class, live, one_hot, output_shape, targets_of
from seqlab.testing.inputs import Ready, agree_scores
from seqlab.testing.suite import agree, demand
from seqlab.testing.tasks.data import SPLITS, TaskMaking
from seqlab.testing.tasks.means import counts


class LossChecks(TaskMaking):
    """What training minimises."""

    # The loss -----------------------------------------------------------------------------------------------------

    def test_loss_is_a_finite_scalar(self) -> None:
        """The loss is one finite number, with a finite gradient in the outputs that is not zero."""
        ready = self.ready()
        for split in SPLITS:
            batch = ready.batch(split)
            outputs = self.drawn(ready.task, batch).requires_grad_()
            task_outputs = outputs.shape[-1]
            loss = ready.task.loss(outputs, batch)
            demand(loss.dim() == 0, f"{split}: the loss has the shape {tuple(loss.shape)}, and is no scalar")
            demand(bool(loss.isfinite()), f"{split}: the loss is {loss.item()}")
            demand(loss.requires_grad, f"{split}: the loss does not depend on the outputs by any gradient")
            (gradient,) = torch.autograd.grad(loss, outputs, allow_unused=True)
            demand(gradient is not None and bool(gradient.any()), f"{split}: the gradient in the outputs is zero")
            demand(bool(gradient.isfinite().all()), f"{split}: the gradient in the outputs is not finite")
            unused = (~gradient.flatten(0, -2).any(0)).nonzero().flatten().tolist()
            demand(not unused or split != "train", f"{split}: outputs {unused[:10]} of {task_outputs} have no gradient")

    def test_loss_falls_along_its_gradient(self) -> None:
        """A small step of the outputs against the gradient lowers the loss."""
        ready = self.ready()
        batch = ready.batch()
        for seed in range(3):
            outputs = self.drawn(ready.task, batch, seed).requires_grad_()
            loss = ready.task.loss(outputs, batch)
            (gradient,) = torch.autograd.grad(loss, outputs)
            with torch.no_grad():
                direction = gradient / gradient.abs().max()
                after = [float(ready.task.loss(outputs - step * direction, batch)) for step in (1.0, 0.1, 0.01, 1e-3)]
            before = loss.item()
            demand(min(after) < before, f"the loss is {before:.6g}, and at best {min(after):.6g} after a step")

    def test_loss_prefers_the_truth(self) -> None:
        """Outputs that are sure of the true classes have a smaller loss than blind ones, and than their opposite."""
        ready = self.ready()
        batch = ready.batch()
        if not has_classes(ready.task, batch):
            raise SkipTest("the targets are no classes, one for each output")
        truth = self.perfect_outputs(ready.task, batch)
        right = float(ready.task.loss(truth, batch))
        for what, outputs in (("blind outputs", ready.task.baseline_outputs(batch)), ("the opposite", -truth)):
            wrong = float(ready.task.loss(outputs, batch))
            demand(right < wrong, f"the loss of the true classes is {right:.4g}, that of {what} {wrong:.4g}")

    def test_loss_has_no_memory(self) -> None:
        """The loss of a batch is the same at every call, and the batch is left as it was."""
        ready = self.ready()
        batch, other = ready.batch(), ready.batch("test", 5)
        outputs = self.drawn(ready.task, batch)
        kept = [outputs.clone(), batch.inputs.clone(), batch.targets.clone()]
        first = ready.task.loss(outputs, batch).detach()
        ready.task.loss(self.drawn(ready.task, other), other)
        agree("the loss of the same batch, after another one,", ready.task.loss(outputs, batch), first, 1e-6)
        names = ("outputs", "inputs", "targets")
        for name, tensor, before in zip(names, (outputs, batch.inputs, batch.targets), kept, strict=True):
            same = torch.equal(tensor.nan_to_num(), before.nan_to_num())
            demand(same, f"the {name} were changed by computing the loss")

    def test_loss_takes_rows_in_any_order(self) -> None:
        """The rows of a batch in another order have the same loss."""
        ready = self.ready()
        rows = ready.rows("train", 256)
        batch, turned = ready.batch_of("train", rows), ready.batch_of("train", rows.flip(0))
        outputs = self.drawn(ready.task, batch)
        expected = ready.task.loss(outputs, batch)
        agree("the loss of the rows in reverse order", ready.task.loss(outputs.flip(0), turned), expected, 1e-4)

    def test_padding_does_not_count(self) -> None:
        """With an output for each step, those of padding change neither loss, gradient nor metrics, however many."""
        ready = self.ready()
        task = ready.task
        if not task.per_step:
            raise SkipTest("it has one output for each sequence")
        lengths = ready.encoded("train", torch.arange(len(ready.splits["train"]))).lengths
        if bool((lengths == lengths[0]).all()):
            self._check_cut(ready)
            return
        order = lengths.argsort(stable=True)
        count = min(8, len(order))
        batch = ready.batch_of("train", torch.cat([order[:count], order[-count:]]))  # the shortest and the longest
        outputs = self.drawn(task, batch)
        self._check_padding(task, batch, outputs)
        what = "of short rows, padded to their own longest,"
        short = ready.batch_of("train", order[:count])
        wide = Batch(batch.inputs[:count], None if batch.lengths is None else batch.lengths[:count], short.targets)
        padded, narrow = outputs[:count], outputs[:count, : short.inputs.shape[1]]
        agree(f"the loss {what}", task.loss(narrow, short), task.loss(padded, wide), 1e-4)
        expected = self.scores(task, padded, short.targets)
        agree_scores(what, self.scores(task, narrow, short.targets), expected)

    def _check_padding(self, task: Task, batch: Batch, outputs: Tensor) -> None:
        """Check that outputs in the padding reach neither loss nor metrics, whatever they are."""
        dead = ~live(batch).unsqueeze(-1)
        loss, scores = task.loss(outputs, batch), self.scores(task, outputs, batch.targets)
        fills = [(f"class {label}", one_hot(torch.tensor(label), max(2, task.outputs), 50.0)) for label in (0, 1)]
        for what, fill in (
            *((what, fill[: task.outputs]) for what, fill in fills),
            ("outputs of 100 and more", 100 + 3 * outputs),
            ("outputs of -1e4", torch.tensor(-1e4)),
            ("NaN", torch.tensor(torch.nan)),
        ):
            other = torch.where(dead, fill, outputs).requires_grad_()
            found = task.loss(other, batch)
            agree(f"the loss with {what} in the padding", found, loss, 1e-4)
            if what != "NaN":
                (gradient,) = torch.autograd.grad(found, other)
                most = float(gradient.masked_select(dead).abs().max())
                demand(most == 0, f"an output in the padding has the gradient {most:.3g}")
            agree_scores(f"with {what} in the padding", self.scores(task, other.detach(), batch.targets), scores)

    def _check_cut(self, ready: Ready) -> None:
        """Check that outputs of fewer steps than there are targets do, where the framework may cut."""
        task = ready.task
        if task_defaults(task).sequence_length_means != "maximum":
            raise SkipTest("all sequences have one length, so that there is no padding")
        batch = ready.batch()
        steps = max(1, batch.inputs.shape[1] // 2)
        cut = Batch(batch.inputs[:, :steps], None, batch.targets)
        exact = Batch(cut.inputs, None, batch.targets[:, :steps])
        outputs = self.drawn(task, cut)
        agree("the loss of sequences that are cut", task.loss(outputs, cut), task.loss(outputs, exact), 1e-4)
        agree_scores(
            "of sequences that are cut",
            self.scores(task, outputs, cut.targets),
            self.scores(task, outputs, exact.targets),
        )


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
