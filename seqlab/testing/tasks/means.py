"""Checks that a loss is a mean, to which every row and step contributes alike."""

from itertools import pairwise
from unittest import SkipTest

import torch
from torch import Tensor

from seqlab.contracts import Batch, Task
from seqlab.testing.hints import is_class, live, output_shape, targets_of
from seqlab.testing.inputs import Ready
from seqlab.testing.suite import agree, demand
from seqlab.testing.tasks.data import TaskMaking

_SIZES = (1, 2, 17, 32, 33, 65, 100, 129, 257)
"""Rows of a batch, around what a block or a chunk may hold."""
_STEPS = 150
_CLOSE = 1e-3


class MeanChecks(TaskMaking):
    """The loss is a mean over the rows, or over the steps that count."""

    def test_every_row_counts_alike(self) -> None:
        """Where outputs and targets are the same everywhere, so is the gradient, in batches of any size and length."""
        ready = self.ready()
        task = ready.task
        for what, batch in _batches(ready):
            counted = counts(task, batch)
            for name, one in _uniform(task, batch, counted):
                self._check_alike(task, one, counted, f"{what}, all targets {name}")

    @staticmethod
    def _check_alike(task: Task, batch: Batch, counted: Tensor, what: str) -> None:
        shape = output_shape(task, batch)
        weights = []
        for constant in (torch.linspace(-0.7, 0.5, shape[-1]), torch.linspace(2.5, -3, shape[-1])):
            outputs = constant.expand(shape).clone().requires_grad_()
            loss = task.loss(outputs, batch)
            demand(loss.requires_grad, f"{what}: the loss has no gradient")
            (gradient,) = torch.autograd.grad(loss, outputs)
            found = gradient[counted].flatten(1)
            weights.append(found.abs().amax(1))
            least, most = found.min(0).values, found.max(0).values
            apart = float((most - least).max()) if len(found) else 0.0
            scale = float(found.abs().max())
            demand(
                apart <= _CLOSE * scale,
                f"{what}: the gradient of one {'step' if task.per_step else 'row'} is up to"
                f" {scale:.3g}, that of another one at least {float(weights[-1].min()):.3g}; all must count alike",
            )
        demand(float(torch.stack(weights).max()) > 0, f"{what}: they count for nothing in the loss")

    def test_classes_weigh_the_same_in_any_batch(self) -> None:
        """How much a target counts against one of another class does not depend on the rest of the batch."""
        ready = self.ready()
        task, batch = ready.task, ready.batch(most=64)
        counted = counts(task, batch)
        targets = targets_of(task, batch)
        classes = torch.unique(targets[counted])
        if not is_class(targets) or targets.shape != counted.shape or len(classes) < 2:
            raise SkipTest("the targets are no classes")
        places, ratios = counted.nonzero(), []
        for share in (4, 2, 1.25):
            few = int(len(places) / share)
            mixed = targets.clone()
            mixed[counted] = classes[-1]
            mixed[tuple(places[:few].t())] = classes[0]
            outputs = torch.zeros(output_shape(task, batch), requires_grad=True)
            (gradient,) = torch.autograd.grad(task.loss(outputs, batch._replace(targets=mixed)), outputs)
            sizes = gradient[counted].abs().amax(1)
            if not bool(sizes[[0, -1]].all()):
                raise SkipTest("one of the classes has no gradient where all scores are 0")
            ratios.append(float(sizes[0] / sizes[-1]))
        demand(
            max(ratios) <= 1.02 * min(ratios),
            f"a target of class {int(classes[0])} counts {min(ratios):.3g} to {max(ratios):.3g} times as much as one of"
            f" class {int(classes[-1])}, by how many of each a batch has",
        )

    def test_loss_is_a_mean(self) -> None:
        """The loss of a batch is the mean of its parts', weighted by their rows (or steps that count)."""
        ready = self.ready()
        task, batch = ready.task, ready.batch(most=50)
        counted = counts(task, batch)
        uniform = [one for _, one in _uniform(task, batch, counted)][:1]
        given = [] if is_class(batch.targets) else [batch]  # class weights may be divided by their sum in the batch
        for one in (*uniform, *given):
            self._check_parts(task, one, counts(task, one))
        outputs, other = self.drawn(task, batch, 1), self.drawn(task, batch, 2)
        whole = task.loss(torch.cat([outputs, other]), doubled(batch))
        parts = (task.loss(outputs, batch) + task.loss(other, batch)) / 2
        agree("the loss of a batch twice, with other outputs the second time, against the mean", whole, parts, _CLOSE)
        if task.per_step:
            self._check_time(ready)

    def _check_parts(self, task: Task, batch: Batch, counted: Tensor) -> None:
        rows, outputs = len(batch.targets), self.drawn(task, batch)
        cuts = sorted({0, min(1, rows), min(17, rows), rows})
        total, steps = 0.0, 0
        for low, high in pairwise(cuts):
            part = Batch(*(None if each is None else each[low:high] for each in batch))  # type: ignore[arg-type]  # fields in order
            count = int(counted[low:high].sum())
            total += count * float(task.loss(outputs[low:high], part)) if count else 0.0
            steps += count
        noun = "steps that count" if task.per_step else "rows"
        sizes = ", ".join(str(high - low) for low, high in pairwise(cuts))
        whole = task.loss(outputs, batch).detach()
        agree(
            f"the loss of {rows} rows against the mean of parts of {sizes} rows, weighted by {noun},",
            whole, torch.tensor(total / steps, dtype=whole.dtype), _CLOSE,
        )  # fmt: skip

    def _check_time(self, ready: Ready) -> None:
        """Check that a row twice as long, which repeats itself, has about the same loss."""
        task = ready.task
        row = ready.batch_of("train", ready.rows("train", 1))
        row = row._replace(targets=row.targets[:, : row.inputs.shape[1]])
        outputs = self.drawn(task, row)
        once = float(task.loss(outputs, row))
        twice = float(task.loss(torch.cat([outputs, outputs], 1), repeated(row, 2)))
        demand(
            abs(twice - once) <= 0.3 * abs(once) + 1e-6,
            f"the loss of one row is {once:.4g}, and of the same steps twice over {twice:.4g}; it must be a mean",
        )


def counts(task: Task, batch: Batch) -> Tensor:
    """Say which rows, or steps, have a target that counts."""
    targets = targets_of(task, batch)
    real = (
        targets >= 0 if is_class(targets) else ~targets.isnan() if targets.is_floating_point() else targets == targets
    )
    keep = 2 if task.per_step else 1
    real = real.flatten(keep).all(-1) if real.dim() > keep else real
    return real & live(batch) if task.per_step else real


def repeated(batch: Batch, times: int) -> Batch:
    """Repeat steps of a batch without padding."""
    return Batch(torch.cat([batch.inputs] * times, 1), None, torch.cat([batch.targets] * times, 1))


def doubled(batch: Batch) -> Batch:
    """Take each row of a batch twice."""
    lengths = None if batch.lengths is None else torch.cat([batch.lengths] * 2)
    return Batch(torch.cat([batch.inputs] * 2), lengths, torch.cat([batch.targets] * 2))


def _batches(ready: Ready) -> list[tuple[str, Batch]]:
    """Make batches of many sizes, of rows that come again where the split has too few; and one of long rows."""
    task, available = ready.task, ready.rows("train", 512)
    found = []
    sizes = (1, 33, 100) if task.per_step else _SIZES
    for size in sizes:
        rows = available.repeat(1 + size // len(available))[:size]
        found.append((f"a batch of {size}", ready.batch_of("train", rows)))
    if task.per_step:
        row = ready.batch_of("train", available[:1])
        row = row._replace(targets=row.targets[:, : row.inputs.shape[1]])
        long = repeated(row, 1 + _STEPS // row.inputs.shape[1])
        found.append((f"one row of {long.inputs.shape[1]} steps", long))
        found.append((f"three rows of {long.inputs.shape[1]} steps", Batch(*(
            None if each is None else torch.cat([each] * 3) for each in long
        ))))  # type: ignore[arg-type]  # fmt: skip
    return found


def _uniform(task: Task, batch: Batch, counted: Tensor) -> list[tuple[str, Batch]]:
    """Give the batch with one target for all that counts, for some of the targets that it has.

    Class 0 is left out where it stands behind all others alone, as it does where a running text has no next token.
    """
    targets = targets_of(task, batch)
    there = targets[counted]
    if not len(there):
        return []
    if not is_class(targets):
        values = list(there[:1])
    else:
        flat = there.flatten(1) if there.dim() > 1 else there.unsqueeze(1)
        values = [row.view(there.shape[1:]) for row in torch.unique(flat, dim=0)[:2]]
        if len(torch.unique(flat, dim=0)) > 2:
            values.append(there[-1])
        if task.per_step and targets.dim() == 2 and _zero_ends_rows(targets, counted):
            values = [value for value in values if value != 0]
    keep = 2 if task.per_step else 1
    where = counted.view(*counted.shape, *([1] * (targets.dim() - keep)))
    found = []
    for value in values:
        replaced = torch.where(where, value.expand(targets.shape), targets)
        shown = value.tolist() if value.numel() < 5 else "the same"
        found.append((f"{shown}", batch._replace(targets=replaced)))
    return found


def _zero_ends_rows(targets: Tensor, counted: Tensor) -> bool:
    """Say whether class 0 is never followed by another class."""
    real = (targets > 0) & counted
    later = real.flip(1).cumsum(1).flip(1) > 0
    return not bool(((targets == 0) & counted & later).any())
