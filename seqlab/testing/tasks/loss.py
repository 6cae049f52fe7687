"""Checks of a task's loss."""

from unittest import SkipTest

import torch
from torch import Tensor

from seqlab.contracts import Batch, Task
from seqlab.testing.guesses import has_classes, live, one_hot
from seqlab.testing.ready import Ready
from seqlab.testing.suite import agree, demand
from seqlab.testing.taskdata import (
    agree_scores,
)
from seqlab.testing.tasks.making import SPLITS, TaskMaking


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
        for what, outputs in (("blind outputs", ready.task.blind_outputs(batch)), ("the opposite", -truth)):
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
        if task.sequence_length_means != "maximum":
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
