"""What the checks of a task compare: splits, scores, reports, and inputs and targets that are changed on purpose."""

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from seqlab.contracts import Batch, Examples, Ragged, Report, Task
from seqlab.testing.guesses import is_class, output_shape
from seqlab.testing.plain import written
from seqlab.testing.suite import agree, demand


def check_tensors(name: str, inputs: Ragged, train: Ragged) -> None:
    """Check a split's token ids or features against those of the training split."""
    values = inputs.values
    demand(
        values.dtype == train.values.dtype, f"{name}: inputs are {values.dtype}, those of train {train.values.dtype}"
    )
    demand(inputs.lengths.dtype == torch.int64, f"{name}: the lengths are {inputs.lengths.dtype}, not torch.int64")
    if values.is_floating_point():
        demand(values.dim() == 2, f"{name}: features have the shape {tuple(values.shape)}, not [steps, features]")
        sizes = (values.shape[1], train.values.shape[1])
        demand(sizes[0] == sizes[1], f"{name}: {sizes[0]} features, and {sizes[1]} in train")
        demand(bool(values.isfinite().all()), f"{name}: {int((~values.isfinite()).sum())} features are not finite")
        return
    demand(values.dtype == torch.int64, f"{name}: token ids are {values.dtype}, not torch.int64")
    demand(values.dim() == 1, f"{name}: token ids have the shape {tuple(values.shape)}, not [steps]")
    least, most, known = int(values.min()), int(values.max()), int(train.values.max())
    demand(least >= 1, f"{name}: a token id is {least}; 0 is padding, and the least id is 1")
    demand(most <= known, f"{name}: a token id is {most}, beyond the largest of train, {known}, which sizes the model")


def check_targets(name: str, targets: Tensor, task: Task) -> None:
    """Check that targets are finite numbers, or classes that the outputs have."""
    if not is_class(targets):
        odd = 0 if targets.dtype == torch.bool else int((~targets.isfinite()).sum())
        demand(not odd, f"{name}: {odd} of {targets.numel()} targets are not finite")
        return
    demand(targets.dtype == torch.int64, f"{name}: classes are {targets.dtype}, not torch.int64")
    negative = sorted(set(targets[targets < 0].tolist()))
    demand(not negative or task.per_step, f"{name}: a target is {negative[:1]}; classes begin at 0")
    demand(len(negative) <= 1, f"{name}: targets are {negative}; one negative number at most marks what does not count")
    demand(len(targets[targets >= 0]), f"{name}: no target counts")


def check_more_classes(task: Task, batch: Batch) -> None:
    """Demand of targets beyond the outputs, as those of ordinal regression are, that the loss takes them."""
    most, outputs = int(batch.targets.max()), task.outputs
    if most < max(outputs, 2):  # one output tells two classes apart
        return
    try:
        loss = task.loss(torch.zeros(output_shape(task, batch)), batch)
        fault = "" if loss.isfinite() else f"the loss is {loss.item():g}"
    except Exception as error:
        fault = f"the loss fails: {error}".splitlines()[0]
    demand(not fault, f"a target is {most} and outputs is {outputs}, so that classes go to {outputs - 1}; {fault}")


def check_report(report: Report, folder: Path) -> None:
    """Check that tables are plain, notes texts, and figures files in the folder."""
    demand(isinstance(report, Report), f"report gives a {type(report).__name__}, and no seqlab.Report")
    written("the report's tables", report.tables, nan=True)
    for name, rows in report.tables.items():
        plain = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
        demand(plain, f"the table {name} is no list of rows, each a dict")
    demand(all(isinstance(note, str) for note in report.notes), "a note is no text")
    for figure in report.figures:
        path = (folder / figure).resolve()
        demand(path.is_relative_to(folder), f"the figure {figure} is not in the report's folder")
        demand(path.is_file() and path.stat().st_size, f"the figure {figure} is not there, or empty")


def row_keys(inputs: Sequence[str] | Ragged) -> Iterator[str | bytes]:
    """Give what tells an input from all others, for each: the text, or the tensor's bytes."""
    if not isinstance(inputs, Ragged):
        yield from inputs
        return
    for part in torch.split(inputs.values, inputs.lengths.tolist()):
        yield part.contiguous().numpy().tobytes()


def difference(actual: Examples, expected: Examples) -> str:
    """Say how two splits differ; empty if they do not."""
    if len(actual) != len(expected):
        return f"{len(actual)} examples, and {len(expected)} before"
    pairs = zip(row_keys(actual.inputs), row_keys(expected.inputs), strict=True)
    if wrong := sum(one != other for one, other in pairs):
        return f"{wrong} of {len(actual)} inputs differ"
    here, there = actual.targets, expected.targets
    if here.shape != there.shape or here.dtype != there.dtype or not torch.equal(here.nan_to_num(), there.nan_to_num()):
        return "the targets differ"
    return ""


def alike(actual: Any, expected: Any) -> bool:
    """Say whether two JSON values are the same, numbers to a part in 10,000."""
    if isinstance(actual, float) and isinstance(expected, float):
        return abs(actual - expected) <= 1e-4 * max(1.0, abs(expected))
    if isinstance(actual, dict) and isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(alike(actual[key], expected[key]) for key in actual)
    if isinstance(actual, list) and isinstance(expected, list):
        return len(actual) == len(expected) and all(map(alike, actual, expected))
    return bool(actual == expected)


def agree_scores(what: str, actual: Mapping[str, float], expected: Mapping[str, float]) -> None:
    """Check that scores are the same, but for rounding."""
    for name, value in expected.items():
        agree(f"{name} {what}", torch.tensor(actual[name]), torch.tensor(value), 1e-4)


def updated(metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> MetricCollection:
    """Show outputs to metrics, and give them back."""
    metrics.update(outputs, targets)
    return metrics


def values_of(metrics: MetricCollection) -> dict[str, float]:
    """Compute metrics as plain numbers."""
    return {name: float(value) for name, value in metrics.compute().items()}


def other_inputs(inputs: Tensor) -> Tensor:
    """Change all that is no padding: features, or token ids within their range."""
    if inputs.is_floating_point():
        return 1 - 2 * inputs
    return torch.where(inputs > 0, int(inputs.max()) + 1 - inputs, inputs)


def other_targets(targets: Tensor, outputs: int) -> Tensor:
    """Change all targets but the marks of what does not count."""
    if targets.dtype == torch.bool:
        return ~targets
    if targets.is_floating_point():
        return 1 - 2 * targets
    classes = max(outputs, 2, int(targets.max()) + 1 if targets.numel() else 0)
    return torch.where(targets >= 0, (targets + 1) % classes, targets)


@contextmanager
def random_numbers(seed: int) -> Iterator[None]:
    """Seed the random numbers of torch, NumPy and Python for a while."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Change the working folder for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
