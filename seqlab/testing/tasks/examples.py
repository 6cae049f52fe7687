"""Prepared tasks, their batches, and outputs that are made without a model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from seqlab.contracts import Batch, Examples, Preprocessor, Ragged, Task, UserError
from seqlab.contracts.batch import NARROW
from seqlab.contracts.task import task_defaults
from seqlab.plugins import find
from seqlab.testing.suite import require

SPLITS = ("train", "valid", "test")


@final
@dataclass(frozen=True)
class PreparedTask:
    """A task with its splits, and what encodes them.

    Attributes:
        task: the task.
        splits: its splits.
        preprocessor: fitted on the training split; ``None`` where the inputs are tensors.
    """

    task: Task
    splits: Mapping[str, Examples]
    preprocessor: Preprocessor | None

    def rows(self, split: str, most: int) -> Tensor:
        """Return as many random rows of a split, or all of a smaller one."""
        return torch.randperm(len(self.splits[split]), generator=torch.Generator().manual_seed(0))[:most]

    def encoded(self, split: str, rows: Tensor | None = None) -> Ragged:
        """Encode rows of a split, all unless given."""
        inputs = self.splits[split].inputs
        numbers = range(len(inputs)) if rows is None else rows.tolist()
        if isinstance(inputs, Ragged):
            return Ragged.of([inputs.values[inputs.starts[row] :][: inputs.lengths[row]] for row in numbers])
        assert self.preprocessor is not None
        return self.preprocessor.encode([inputs[row] for row in numbers])

    def batch(self, split: str = "train", most: int = 256) -> Batch:
        """Return a batch of random rows."""
        return self.batch_of(split, self.rows(split, most))

    def batch_of(self, split: str, rows: Tensor) -> Batch:
        """Return a batch of these rows as in training: inputs padded to its own longest row, targets by row."""
        inputs, lengths = self.encoded(split, rows).padded(torch.arange(len(rows)))
        return Batch(inputs, lengths, self.splits[split].targets[rows])


def windows(ids: Tensor, size: int) -> Examples:
    """Cut token ids into windows; the targets are the next tokens, each once."""
    ids = ids[: 1 + (len(ids) - 1) // size * size]
    inputs = ids[:-1].view(-1, size)
    return Examples(Ragged(inputs.flatten(), torch.full((len(inputs),), size)), ids[1:].view(-1, size))


@final
class _CodePoints(Preprocessor):
    """Each code point of the training texts is a token, from 2 on."""

    def __init__(self) -> None:
        self._seen = ""

    def fit(self, texts: Any) -> None:
        self._seen = "".join(sorted({symbol for text in texts for symbol in text}))

    def encode(self, texts: Sequence[str]) -> Ragged:
        ids = {symbol: index for index, symbol in enumerate(self._seen, start=2)}
        return Ragged.of([torch.tensor([ids.get(symbol, 1) for symbol in text], dtype=torch.int64) for text in texts])

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(f"\0\ufffd{self._seen}"[token] for token in ids if token)

    @property
    def size(self) -> int:
        return 2 + len(self._seen)

    @property
    def unknown_id(self) -> int:
        return 1

    def state_dict(self) -> dict[str, Any]:
        return {"symbols": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seen = state["symbols"]


def default_encoder(task: Task) -> Preprocessor:
    """Return the preprocessor that a task names, or one of code points where it is not installed."""
    try:
        made = find("preprocessing", task_defaults(task).preprocessing or "").load()()
    except UserError:  # which test_default_preprocessing reports
        return _CodePoints()
    require(isinstance(made, Preprocessor), "the default preprocessing is not a seqlab.Preprocessor")
    return made  # type: ignore[no-any-return]  # an entry point can be anything


# Inputs and targets --------------------------------------------------------------------------------------------------


def output_shape(task: Task, batch: Batch) -> tuple[int, ...]:
    """Return the shape of a model's outputs for a batch."""
    rows, time = batch.inputs.shape[:2]
    return (rows, time, task.outputs) if task.per_step else (rows, task.outputs)


def targets_of(task: Task, batch: Batch) -> Tensor:
    """Return the targets, those of the batch's own steps where there is one for each."""
    return batch.targets[:, : batch.inputs.shape[1]] if task.per_step else batch.targets


def valid_steps(batch: Batch) -> Tensor:
    """Return the mask of the steps that are not padding, ``[batch, time]``."""
    rows, time = batch.inputs.shape[:2]
    if batch.lengths is None:
        return torch.ones(rows, time, dtype=torch.bool)
    return torch.arange(time) < batch.lengths.unsqueeze(1)


def is_class(targets: Tensor) -> bool:
    """Return whether the targets are indices of classes."""
    return not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)


def has_classes(task: Task, batch: Batch) -> bool:
    """Return whether each row (or each step) has one class, and each class an output (or two classes one output).

    Ordinal regression has one output less than classes; counts that are predicted by one number have fewer, too.
    """
    targets = targets_of(task, batch)
    if not is_class(targets) or targets.shape != output_shape(task, batch)[:-1]:
        return False
    return not targets.numel() or int(targets.max()) < max(task.outputs, 2)


def counted_targets(task: Task, batch: Batch) -> Tensor:
    """Return the mask of the rows, or steps, whose target counts in the loss."""
    targets = targets_of(task, batch)
    real = targets >= 0 if is_class(targets) else ~targets.isnan()
    keep = 2 if task.per_step else 1
    real = real.flatten(keep).all(-1) if real.dim() > keep else real
    return real & valid_steps(batch) if task.per_step else real


def other_targets(targets: Tensor, outputs: int = 2) -> Tensor:
    """Change all targets but the marks of what does not count."""
    if targets.dtype == torch.bool:
        return ~targets
    if targets.is_floating_point():
        return 1 - 2 * targets
    classes = max(outputs, int(targets.max()) + 1 if targets.numel() else 0)
    return torch.where(targets >= 0, (targets + 1) % classes, targets)


def check_tensors(name: str, inputs: Ragged, train: Ragged) -> None:
    """Check token ids or features against those of the training split."""
    values, expected = inputs.values, train.values
    require(values.dtype == expected.dtype, f"{name}: inputs are {values.dtype}, those of train {expected.dtype}")
    require(inputs.lengths.dtype == torch.int64, f"{name}: the lengths are {inputs.lengths.dtype}, not torch.int64")
    if values.is_floating_point():
        require(values.dim() == 2, f"{name}: features have the shape {tuple(values.shape)}, not [steps, features]")
        sizes = (values.shape[1], expected.shape[1])
        require(sizes[0] == sizes[1], f"{name}: {sizes[0]} features, and {sizes[1]} in train")
        require(bool(values.isfinite().all()), f"{name}: {int((~values.isfinite()).sum())} features are not finite")
        return
    allowed = (torch.int64, *NARROW)
    require(values.dtype in allowed, f"{name}: token ids are {values.dtype}, not one of {', '.join(map(str, allowed))}")
    require(values.dim() == 1, f"{name}: token ids have the shape {tuple(values.shape)}, not [steps]")
    least, most, known = int(values.min()), int(values.max()), int(expected.max())
    require(least >= 1, f"{name}: a token id is {least}; 0 is padding, and the least id is 1")
    require(most <= known, f"{name}: a token id is {most}; the largest of train, which sizes the model, is {known}")


def check_targets(name: str, targets: Tensor, task: Task) -> None:
    """Require finite numbers, or classes from 0 on with at most one negative mark of what does not count."""
    if not is_class(targets):
        odd = 0 if targets.dtype == torch.bool else int((~targets.isfinite()).sum())
        require(not odd, f"{name}: {odd} of {targets.numel()} targets are not finite")
        return
    require(targets.dtype == torch.int64, f"{name}: classes are {targets.dtype}, not torch.int64")
    negative = sorted(set(targets[targets < 0].tolist()))
    require(not negative or task.per_step, f"{name}: a target is {negative[:1]}; classes begin at 0")
    require(len(negative) <= 1, f"{name}: targets are {negative}; at most one negative number may mark what to ignore")
    require(len(targets[targets >= 0]), f"{name}: no target counts")


def row_keys(inputs: Sequence[str] | Ragged) -> Iterator[str | bytes]:
    """Yield what identifies each input: the text, or the tensor's bytes."""
    if not isinstance(inputs, Ragged):
        yield from inputs
        return
    for part in torch.split(inputs.values, inputs.lengths.tolist()):
        yield part.contiguous().numpy().tobytes()


def require_same(what: str, actual: Examples, expected: Examples) -> None:
    """Require two splits to be equal."""
    require(len(actual) == len(expected), f"{what}: {len(actual)} examples, not {len(expected)}")
    pairs = zip(row_keys(actual.inputs), row_keys(expected.inputs), strict=True)
    wrong = sum(one != other for one, other in pairs)
    require(not wrong, f"{what}: {wrong} of {len(actual)} inputs differ")
    here, there = actual.targets, expected.targets
    same = here.dtype == there.dtype and torch.equal(here.nan_to_num(), there.nan_to_num())
    require(same, f"{what}: the targets differ")


# Outputs -------------------------------------------------------------------------------------------------------------

_LOGITS = (2.0, 4.0, 8.0, 16.0, 32.0)
"""Of the true class; the task's loss chooses, as smoothed labels penalise large ones."""
_MOST_CLASSES = 64


def class_scores(targets: Tensor, outputs: int, logit: float) -> Tensor:
    """Return scores that prefer the targets; a single output is a score for class 1 against class 0."""
    known = targets.clamp(min=0)
    if outputs == 1:
        return logit * (2.0 * known.unsqueeze(-1) - 1.0)
    return logit * F.one_hot(known, outputs).float()


def perfect_outputs(task: Task, batch: Batch) -> Tensor:
    """Return outputs that fit the targets: class scores, the numbers, or those of gradient descent.

    Of several the one with the smallest loss is returned.
    """
    shape, targets = output_shape(task, batch), targets_of(task, batch)
    if has_classes(task, batch):
        found = [class_scores(targets, task.outputs, logit) for logit in _LOGITS]
    else:
        found = [optimised_outputs(task, batch)]
        if targets.numel() == math.prod(shape):
            found.append(targets.reshape(shape).float().nan_to_num())
    with torch.no_grad():
        return min(found, key=lambda outputs: float(task.loss(outputs, batch)))


def optimised_outputs(task: Task, batch: Batch, steps: int = 300) -> Tensor:
    """Minimise the loss of a batch from the baseline outputs (Adam, its rate falling to 0)."""
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


def constant_outputs(task: Task, batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """Yield outputs that ignore the input, and what they are: each class, or the mean of the numbers."""
    shape, targets = output_shape(task, batch), targets_of(task, batch)
    if has_classes(task, batch):
        for label in range(min(max(task.outputs, 2), _MOST_CLASSES)):
            yield f"class {label} always", class_scores(torch.full(shape[:-1], label), task.outputs, 8.0)
        counted = targets[valid_steps(batch)] if task.per_step else targets
        shares = torch.bincount(counted[counted >= 0], minlength=max(task.outputs, 2)).float().clamp(min=0.5).log()
        scores = shares if task.outputs > 1 else shares[1:] - shares[0]
        yield "the share of each class always", scores.expand(shape).contiguous()
    elif targets.is_floating_point() and targets.numel() == math.prod(shape):
        numbers = targets.reshape(shape).float()
        counted = numbers[valid_steps(batch)] if task.per_step else numbers
        yield "the mean of the targets always", counted.nanmean(0).expand(shape).contiguous()
        yield "the median of the targets always", counted.nanmedian(0).values.expand(shape).contiguous()


def wrong_outputs(task: Task, batch: Batch, margin: float) -> list[Tensor]:
    """Return outputs that fit other targets than the batch's: other classes, or numbers too large and too small."""
    shape, targets = output_shape(task, batch), targets_of(task, batch)
    if has_classes(task, batch):
        other = torch.where(targets >= 0, (targets + 1) % max(task.outputs, 2), 0)
        scores = class_scores(other, task.outputs, 1.0)
        return [margin * (scores if task.outputs == 1 else 2 * scores - 1)]
    if not is_class(targets) and targets.numel() == math.prod(shape):
        numbers = targets.reshape(shape).float().nan_to_num()
        if bool(((numbers == 0) | (numbers == 1)).all()):
            return [margin * (1 - 2 * numbers)]
        scale = max(1.0, float(numbers.std()))
        return [numbers + margin * scale, numbers - margin * scale]
    found = optimised_outputs(task, batch._replace(targets=other_targets(batch.targets, 0)))
    if float(found.abs().min()) > 1:  # scores, each of which decides between two things
        found = found.sign()
    return [found * (margin / float(found.abs().max().clamp(min=1e-3)))]
