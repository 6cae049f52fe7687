"""Checks of a task's loss: its gradient, padding, and that it is a mean of rows or steps."""

import math
from collections.abc import Callable
from itertools import pairwise
from unittest import SkipTest

import torch
from torch import Tensor

from seqlab.contracts import Batch, Task
from seqlab.contracts.task import task_defaults
from seqlab.testing.suite import assert_close, first_line, require
from seqlab.testing.tasks.data import TaskBase, assert_scores_close
from seqlab.testing.tasks.examples import (
    SPLITS,
    PreparedTask,
    class_scores,
    counted_targets,
    has_classes,
    is_class,
    output_shape,
    targets_of,
    valid_steps,
    wrong_outputs,
)

_MILD, _CONFIDENT = 2.0, (12.0, 30.0)
"""Half the gap between the scores of a wrong class and the right one: its probability is 0.02, 4e-11 and 9e-27."""
_SHARE = 1e-3
_PLACES = 24


class LossChecks(TaskBase):
    """The loss can be minimised by its gradient, and padding does not count."""

    def test_loss_is_a_finite_scalar(self) -> None:
        """The loss is one finite number, with a finite gradient in the outputs that is not zero."""
        ready = self.ready()
        for split in SPLITS:
            batch = ready.batch(split)
            outputs = self.random_outputs(ready.task, batch).requires_grad_()
            loss = ready.task.loss(outputs, batch)
            require(loss.dim() == 0, f"{split}: the loss has the shape {tuple(loss.shape)}; it must be a scalar")
            require(bool(loss.isfinite()), f"{split}: the loss is {loss.item()}")
            require(loss.requires_grad, f"{split}: no gradient flows from the loss to the outputs")
            (gradient,) = torch.autograd.grad(loss, outputs, allow_unused=True)
            require(gradient is not None and bool(gradient.any()), f"{split}: the gradient in the outputs is zero")
            require(bool(gradient.isfinite().all()), f"{split}: the gradient in the outputs is not finite")
            unused = (~gradient.flatten(0, -2).any(0)).nonzero().flatten().tolist()
            fault = f"{split}: outputs {unused[:10]} of {outputs.shape[-1]} have no gradient"
            require(not unused or split != "train", fault)

    def test_loss_prefers_the_truth(self) -> None:
        """Outputs that prefer the true classes have a smaller loss than the baseline, and than their opposite."""
        task, batch = self.case()
        if not has_classes(task, batch):
            raise SkipTest("the targets are no classes, one for each output")
        perfect = self.perfect_outputs(task, batch)
        right = float(task.loss(perfect, batch))
        for what, outputs in (("the baseline outputs", task.baseline_outputs(batch)), ("the opposite", -perfect)):
            wrong = float(task.loss(outputs, batch))
            require(right < wrong, f"the loss of the true classes is {right:.4g}, that of {what} {wrong:.4g}")

    def test_loss_has_no_memory(self) -> None:
        """The loss of a batch is the same at every call."""
        ready = self.ready()
        task, batch, other = ready.task, ready.batch(), ready.batch("test", 5)
        outputs = self.random_outputs(task, batch)
        first = task.loss(outputs, batch).detach()
        task.loss(self.random_outputs(task, other), other)
        assert_close("the loss of the same batch, after another one,", task.loss(outputs, batch), first, 1e-6)

    def test_padding_does_not_count(self) -> None:
        """With an output for each step, those of padding change neither loss, gradient nor metrics, however many."""
        ready = self.ready()
        task = ready.task
        if not task.per_step:
            raise SkipTest("it has one output for each sequence")
        lengths = ready.encoded("train").lengths
        if bool((lengths == lengths[0]).all()):
            self._check_cut(ready)
            return
        order = lengths.argsort(stable=True)
        count = min(8, len(order))
        batch = ready.batch_of("train", torch.cat([order[:count], order[-count:]]))  # the shortest and the longest
        outputs = self.random_outputs(task, batch)
        self._check_padding(task, batch, outputs)
        short = ready.batch_of("train", order[:count])
        wide = Batch(batch.inputs[:count], None if batch.lengths is None else batch.lengths[:count], short.targets)
        outputs = outputs[:count]
        self._same("of short rows, padded to their own longest,", task, outputs, short, wide)

    def _same(self, what: str, task: Task, outputs: Tensor, one: Batch, other: Batch) -> None:
        """Require the same loss and metrics of two batches, from the outputs of their own steps."""
        mine, others = (outputs[:, : batch.inputs.shape[1]] for batch in (one, other))
        assert_close(f"the loss {what}", task.loss(mine, one), task.loss(others, other), 1e-4)
        assert_scores_close(what, self.scores(task, mine, one.targets), self.scores(task, others, other.targets))

    def _check_padding(self, task: Task, batch: Batch, outputs: Tensor) -> None:
        """Require outputs in the padding to change neither loss nor metrics, whatever they are."""
        padding = ~valid_steps(batch).unsqueeze(-1)
        loss, scores = task.loss(outputs, batch), self.scores(task, outputs, batch.targets)
        classes = (class_scores(torch.tensor(label), max(2, task.outputs), 50.0)[: task.outputs] for label in (0, 1))
        fills = {f"class {label}": fill for label, fill in enumerate(classes)} | {
            "outputs of 100 and more": 100 + 3 * outputs,
            "outputs of -1e4": torch.tensor(-1e4),
            "NaN": torch.tensor(torch.nan),
        }
        for what, fill in fills.items():
            other = torch.where(padding, fill, outputs).requires_grad_()
            found = task.loss(other, batch)
            assert_close(f"the loss with {what} in the padding", found, loss, 1e-4)
            if what != "NaN":
                (gradient,) = torch.autograd.grad(found, other)
                most = float(gradient.masked_select(padding).abs().max())
                require(most == 0, f"an output in the padding has the gradient {most:.3g}")
            assert_scores_close(f"with {what} in the padding", self.scores(task, other.detach(), batch.targets), scores)

    def _check_cut(self, ready: PreparedTask) -> None:
        """Allow outputs of fewer steps than there are targets, where the framework may cut."""
        task, batch = ready.task, ready.batch()
        if task_defaults(task).sequence_length_means != "maximum":
            raise SkipTest("all sequences have one length, so that there is no padding")
        steps = max(1, batch.inputs.shape[1] // 2)
        cut = Batch(batch.inputs[:, :steps], None, batch.targets)
        exact = cut._replace(targets=batch.targets[:, :steps])
        self._same("of sequences that are cut", task, self.random_outputs(task, cut), cut, exact)

    def test_loss_gradient_is_its_derivative(self) -> None:
        """The gradient in the outputs agrees with finite differences, in float64, and gradients need not be on."""
        task, batch = self.case(most=_PLACES)
        outputs = self.random_outputs(task, batch)
        with torch.no_grad():
            without = task.loss(outputs, batch)
        assert_close("the loss under no_grad", without, task.loss(outputs.clone().requires_grad_(), batch), 1e-5)
        outputs = outputs.double()
        batch = batch._replace(
            inputs=batch.inputs.double() if batch.inputs.is_floating_point() else batch.inputs,
            targets=batch.targets.double() if batch.targets.is_floating_point() else batch.targets,
        )
        try:
            loss = task.loss(base := outputs.clone().requires_grad_(), batch)
            if loss.requires_grad:
                torch.autograd.grad(loss, base)
        except RuntimeError as error:  # weights of float32, say
            raise SkipTest(f"the loss takes no float64: {first_line(error)}") from error
        _check_differences(task, batch, outputs, "random outputs")
        wrong = outputs + wrong_outputs(task, batch, 6.0)[0].double()
        _check_differences(task, batch, wrong, "outputs that are wrong")

    def test_loss_learns_from_mistakes(self) -> None:
        """Where outputs are confidently wrong, the loss is finite and every row and step has a gradient."""
        task, batch = self.case(most=64)
        counted = counted_targets(task, batch)
        mild = _gradient_sizes(task, batch, _MILD, counted)
        for margin in _CONFIDENT:
            found = _gradient_sizes(task, batch, margin, counted)
            lost = counted & (found <= _SHARE * mild)
            require(
                not lost.any(),
                f"where the outputs are wrong by {margin:g}, the gradient of {int(lost.sum())} of {int(counted.sum())}"
                f" targets is at most {float(found[lost].max() if lost.any() else 0):.2g}, and {float(mild.max()):.2g}"
                f" where they are wrong by {_MILD:g}: is something clamped, saturated, or hidden by an epsilon?",
            )
        if has_classes(task, batch):
            _gradient_sizes(task, batch, 200.0, counted)


def _differentiate(what: str, task: Task, outputs: Tensor, batch: Batch) -> tuple[float, Tensor]:
    """Return the loss of some outputs, and its gradient."""
    outputs = outputs.clone().requires_grad_()
    loss = task.loss(outputs, batch)
    require(loss.requires_grad, f"{what}: the loss has no gradient")
    return loss.item(), torch.autograd.grad(loss, outputs)[0]


def _gradient_sizes(task: Task, batch: Batch, margin: float, counted: Tensor) -> Tensor:
    """Return the size of each target's gradient where the outputs are so wrong."""
    found = torch.zeros(counted.shape)
    for wrong in wrong_outputs(task, batch, margin):
        loss, gradient = _differentiate("outputs that are wrong", task, wrong, batch)
        require(math.isfinite(loss), f"the loss is {loss:g} where the outputs are wrong by {margin:g}")
        odd = int((~gradient.isfinite()).sum())
        require(not odd, f"{odd} entries of the gradient are not finite where the outputs are wrong by {margin:g}")
        found = torch.maximum(found, gradient.abs().amax(-1))
    return found


def _check_differences(task: Task, batch: Batch, outputs: Tensor, what: str) -> None:
    """Compare the gradient of some outputs along random directions with central differences."""
    _, gradient = _differentiate(what, task, outputs, batch)
    scale = float(gradient.abs().max()) + 1e-12
    generator = torch.Generator().manual_seed(4)
    places = counted_targets(task, batch).nonzero()
    for place in places[torch.randperm(len(places), generator=generator)[:_PLACES]].unbind():
        at = tuple(place.tolist())
        direction = torch.randn(outputs.shape[-1], generator=generator, dtype=outputs.dtype)
        expected = float((gradient[at] * direction).sum())
        found = _slopes(task, batch, outputs, at, direction)
        require(
            any(abs(one - expected) <= 3e-3 * scale for one in found),
            f"{what}: the derivative of the loss at {'row, step' if task.per_step else 'row'} {at} is"
            f" {found[0]:.4g} by finite differences, and {expected:.4g} by the gradient",
        )


def _slopes(task: Task, batch: Batch, outputs: Tensor, at: tuple[int, ...], direction: Tensor) -> list[float]:
    """Return the derivative along a direction by central differences of several sizes."""
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


_SIZES = (1, 2, 17, 32, 33, 65, 100, 129, 257)
"""Rows of a batch, around the sizes of blocks and chunks."""
_STEPS = 150
_CLOSE = 1e-3


class MeanChecks(TaskBase):
    """The loss is a mean over the rows, or over the steps that count."""

    def test_every_row_counts_alike(self) -> None:
        """Where outputs and targets are the same everywhere, so is the gradient, in batches of any size and length."""
        ready = self.ready()
        task = ready.task
        for what, batch in _batches(ready):
            counted = counted_targets(task, batch)
            for name, one in _uniform(task, batch, counted):
                _check_alike(task, one, counted, f"{what}, all targets {name}")

    def test_classes_weigh_the_same_in_any_batch(self) -> None:
        """How much a target counts against one of another class does not depend on the rest of the batch."""
        task, batch = self.case(most=64)
        counted, targets = counted_targets(task, batch), targets_of(task, batch)
        classes = torch.unique(targets[counted])
        if not is_class(targets) or targets.shape != counted.shape or len(classes) < 2:
            raise SkipTest("the targets are no classes")
        places, ratios = counted.nonzero(), []
        for share in (4, 2, 1.25):
            few = int(len(places) / share)
            mixed = targets.clone()
            mixed[counted] = classes[-1]
            mixed[tuple(places[:few].t())] = classes[0]
            outputs = torch.zeros(output_shape(task, batch))
            _, gradient = _differentiate("zeros", task, outputs, batch._replace(targets=mixed))
            sizes = gradient[counted].abs().amax(1)
            if not bool(sizes[[0, -1]].all()):
                raise SkipTest("one of the classes has no gradient where all scores are 0")
            ratios.append(float(sizes[0] / sizes[-1]))
        require(
            max(ratios) <= 1.02 * min(ratios),
            f"a target of class {int(classes[0])} counts {min(ratios):.3g} to {max(ratios):.3g} times as much as one of"
            f" class {int(classes[-1])}, depending on how many of each are in the batch",
        )

    def test_loss_is_a_mean(self) -> None:
        """The loss of a batch is the mean of its parts', weighted by their rows (or steps that count)."""
        ready = self.ready()
        task, batch = ready.task, ready.batch(most=50)
        uniform = [one for _, one in _uniform(task, batch, counted_targets(task, batch))][:1]
        given = [] if is_class(batch.targets) else [batch]  # class weights may be divided by their sum in the batch
        for one in (*uniform, *given):
            self._check_parts(task, one)
        outputs, other = self.random_outputs(task, batch, 1), self.random_outputs(task, batch, 2)
        whole = task.loss(torch.cat([outputs, other]), _map(batch, lambda each: torch.cat([each] * 2)))
        parts = (task.loss(outputs, batch) + task.loss(other, batch)) / 2
        what = "the loss of a batch twice, with other outputs the second time, against the mean"
        assert_close(what, whole, parts, _CLOSE)
        if task.per_step:
            row = _one_row(ready)
            outputs = self.random_outputs(task, row)
            once = float(task.loss(outputs, row))
            twice = float(task.loss(torch.cat([outputs, outputs], 1), _repeated(row, 2)))
            fault = f"the loss of one row is {once:.4g}, and of the same steps twice {twice:.4g}; it must be a mean"
            require(abs(twice - once) <= 0.3 * abs(once) + 1e-6, fault)

    def _check_parts(self, task: Task, batch: Batch) -> None:
        counted, rows, outputs = counted_targets(task, batch), len(batch.targets), self.random_outputs(task, batch)
        cuts = list(pairwise(sorted({0, min(1, rows), min(17, rows), rows})))
        total, steps = 0.0, 0
        for low, high in cuts:
            count = int(counted[low:high].sum())
            part = Batch(*(None if each is None else each[low:high] for each in batch))  # type: ignore[arg-type]  # fields in order
            total += count * float(task.loss(outputs[low:high], part)) if count else 0.0
            steps += count
        noun = "steps that count" if task.per_step else "rows"
        sizes = ", ".join(str(high - low) for low, high in cuts)
        whole = task.loss(outputs, batch).detach()
        what = f"the loss of {rows} rows against the mean of parts of {sizes} rows, weighted by {noun},"
        assert_close(what, whole, torch.tensor(total / steps, dtype=whole.dtype), _CLOSE)


def _check_alike(task: Task, batch: Batch, counted: Tensor, what: str) -> None:
    shape = output_shape(task, batch)
    largest = 0.0
    for constant in (torch.linspace(-0.7, 0.5, shape[-1]), torch.linspace(2.5, -3, shape[-1])):
        _, gradient = _differentiate(what, task, constant.expand(shape), batch)
        found = gradient[counted].flatten(1)
        sizes, scale = found.abs().amax(1), float(found.abs().max())
        apart = float((found.max(0).values - found.min(0).values).max()) if len(found) else 0.0
        require(
            apart <= _CLOSE * scale,
            f"{what}: the gradient of one {'step' if task.per_step else 'row'} is up to"
            f" {scale:.3g}, that of another one at least {float(sizes.min()):.3g}; all must have the same weight",
        )
        largest = max(largest, scale)
    require(largest > 0, f"{what}: they do not count in the loss")


def _map(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    return Batch(*(None if each is None else change(each) for each in batch))  # type: ignore[arg-type]  # fields in order


def _one_row(ready: PreparedTask) -> Batch:
    """Return a batch of one row, with the targets of its own steps."""
    row = ready.batch_of("train", ready.rows("train", 1))
    return row._replace(targets=row.targets[:, : row.inputs.shape[1]])


def _repeated(batch: Batch, times: int) -> Batch:
    """Repeat the steps of a batch without padding."""
    return Batch(torch.cat([batch.inputs] * times, 1), None, torch.cat([batch.targets] * times, 1))


def _batches(ready: PreparedTask) -> list[tuple[str, Batch]]:
    """Return batches of many sizes, with repeated rows where the split has too few; and some of long rows."""
    available, per_step = ready.rows("train", 512), ready.task.per_step
    found = []
    for size in (1, 33, 100) if per_step else _SIZES:
        rows = available.repeat(1 + size // len(available))[:size]
        found.append((f"a batch of {size}", ready.batch_of("train", rows)))
    if per_step:
        row = _one_row(ready)
        long = _repeated(row, 1 + _STEPS // row.inputs.shape[1])
        steps = long.inputs.shape[1]
        found.append((f"one row of {steps} steps", long))
        found.append((f"three rows of {steps} steps", _map(long, lambda each: torch.cat([each] * 3))))
    return found


def _uniform(task: Task, batch: Batch, counted: Tensor) -> list[tuple[str, Batch]]:
    """Return the batch with one target for all that counts, for some of the targets that it has.

    Class 0 is omitted where no other class follows it, as where a running text has no next token.
    """
    targets = targets_of(task, batch)
    there = targets[counted]
    if not len(there):
        return []
    values = list(there[:1])
    if is_class(targets):
        kinds = torch.unique(there.flatten(1) if there.dim() > 1 else there.unsqueeze(1), dim=0)
        values = [row.view(there.shape[1:]) for row in kinds[:2]]
        if len(kinds) > 2:
            values.append(there[-1])
        if task.per_step and targets.dim() == 2 and _zero_ends_rows(targets, counted):
            values = [value for value in values if value != 0]
    keep = 2 if task.per_step else 1
    where = counted.view(*counted.shape, *([1] * (targets.dim() - keep)))
    found = []
    for value in values:
        replaced = torch.where(where, value.expand(targets.shape), targets)
        found.append((f"{value.tolist() if value.numel() < 5 else 'the same'}", batch._replace(targets=replaced)))
    return found


def _zero_ends_rows(targets: Tensor, counted: Tensor) -> bool:
    """Return whether class 0 is never followed by another class."""
    real = (targets > 0) & counted
    later = real.flip(1).cumsum(1).flip(1) > 0
    return not bool(((targets == 0) & counted & later).any())
