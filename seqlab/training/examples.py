"""Predictions for single examples of a classification: their file in the run folder, intervals, confident errors."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from seqlab.contracts import Batch, ClassificationTask, Task
from seqlab.distributed.collectives import all_gather
from seqlab.runs.intervals import bootstrap_intervals, wilson_interval
from seqlab.runs.results import metric_ranges
from seqlab.runs.run_folder import PREDICTIONS, write_weights

_MOST_OUTPUTS = 20_000_000
"""Number of outputs of a split up to which they are kept."""
_ERRORS, _CHARACTERS = 20, 300
"""Number of confident errors, and characters of each text, in ``results.json``."""


@final
class ExampleOutputs:
    """Outputs of a classification for each example of a split, in the order of the split."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []
        self.found: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, loader: Any, outputs: Tensor, batch: Batch) -> None:
        """Keep the outputs of the batch that a loader yielded last."""
        rows = loader.rows
        if rows is not None and len(loader.targets) * outputs.shape[-1] <= _MOST_OUTPUTS:
            self._parts.append((rows, outputs.detach().float().cpu(), batch.targets.cpu()))

    def close(self, split: str) -> None:
        """Join the batches of a split, of all ranks."""
        parts = [part for rank in all_gather(self._parts) for part in rank]
        self._parts = []
        if parts:
            rows, outputs, targets = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
            order = rows.argsort()
            self.found[split] = outputs[order], targets[order]


def has_examples(task: Task) -> bool:
    """Return whether each example has one output and one label."""
    return isinstance(task, ClassificationTask) and not task.per_step


def write_predictions(folder: Path, found: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Write label, prediction, confidence and cross-entropy of each example of validation and test."""
    tensors: dict[str, Tensor] = {}
    for split, (outputs, targets) in found.items():
        logs = outputs.log_softmax(1)
        confidence, predicted = logs.max(1)
        tensors |= {
            f"{split}.target": targets,
            f"{split}.predicted": predicted,
            f"{split}.confidence": confidence.exp(),
            f"{split}.loss": -logs.gather(1, targets.unsqueeze(1)).squeeze(1),
        }
    if tensors:
        write_weights(folder / PREDICTIONS, tensors)


def metric_intervals(
    task: Task, values: Mapping[str, float], found: tuple[Tensor, Tensor] | None
) -> dict[str, list[float] | None]:
    """Return the 95 % interval of each test metric.

    It is Wilson's for a share of the examples, ``interval()`` of a metric that has the method, else the bootstrap's.

    Args:
        task: of the run.
        values: the metrics of the test split.
        found: outputs and targets of its examples; ``None`` where they are not known.

    Returns:
        ``None`` for a metric without an interval: the examples are unknown, or its value is not finite.
    """
    none: dict[str, list[float] | None] = dict.fromkeys(values)
    if found is None or len(found[1]) < 2:
        return none
    outputs, targets = found
    examples, hits = len(targets), int((outputs.argmax(1) == targets).sum())
    metrics, known = task.metrics(), dict[str, list[float] | None]()
    for name, value in values.items():
        if abs(value - hits / examples) < 1e-6 and metric_ranges(metrics, [name])[name] == [0, 1]:
            known[name] = list(wilson_interval(hits, examples))
        elif name in metrics and np.isfinite(value) and (own := getattr(metrics[name], "interval", None)) is not None:
            metrics[name].reset()
            metrics[name].update(outputs, targets)
            known[name] = list(own())
    if rest := [str(name) for name in metrics if name in values and name not in known]:
        limits, resampled = metric_ranges(metrics, rest), partial(_resampled, metrics, rest, outputs, targets)
        ends = bootstrap_intervals(resampled, {name: values[name] for name in rest}, examples, limits)
        known |= {name: list(each) for name, each in ends.items()}
    return {**none, **known}


def _resampled(
    metrics: MetricCollection, names: Sequence[str], outputs: Tensor, targets: Tensor, sets: Any
) -> dict[str, Any]:
    """Return the values of metrics for each resampled set of rows."""
    alone = len(names) == 1
    wanted: Any = metrics[names[0]] if alone else MetricCollection({name: metrics[name] for name in names})
    update, compute = wanted.update, wanted.compute
    if alone:  # without torchmetrics' wrappers, which take longer than the metric
        update, compute = (partial(getattr(type(wanted), name), wanted) for name in ("update", "compute"))
    values: dict[str, list[float]] = {name: [] for name in names}
    for rows in torch.from_numpy(sets):
        wanted.reset()
        update(outputs[rows], targets[rows])
        found = compute()
        for name in names:
            values[name].append(float(found if alone else found[name]))
    return {name: np.array(each) for name, each in values.items()}


def confident_errors(
    labels: Sequence[str], found: tuple[Tensor, Tensor] | None, texts: Sequence[str] | None
) -> dict[str, list[dict[str, Any]]]:
    """Return the table of the wrong predictions of greatest confidence in the test split, with their texts."""
    if found is None or texts is None or len(texts) != len(found[1]):
        return {}
    outputs, targets = found
    confidence, predicted = outputs.softmax(1).max(1)
    wrong = (predicted != targets).nonzero().squeeze(1)
    worst = wrong[confidence[wrong].argsort(descending=True, stable=True)[:_ERRORS]]
    rows = [
        {
            "text": " ".join(texts[row].split())[:_CHARACTERS],
            "true": labels[int(targets[row])],
            "predicted": labels[int(predicted[row])],
            "confidence": float(confidence[row]),
        }
        for row in worst.tolist()
    ]
    return {"confident_errors": rows} if rows else {}
