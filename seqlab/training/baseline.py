"""Linear baseline of a classification task: fitted beside a run, scored on the same validation and test split."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqlab._version import __version__
from seqlab.config.build import build_model, build_preprocessor
from seqlab.contracts import Batch, Examples, InputSpec, Ragged, Task
from seqlab.contracts.task import linear_baseline
from seqlab.data.datamodule import SequenceData
from seqlab.io.cache import cached_arrays
from seqlab.plugins.config import checked_arguments

_LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
_BATCH = 1024
_MOST_CHARACTERS = 100_000_000
"""Characters of the texts beyond which the baseline would take minutes."""


@final
@dataclass(frozen=True)
class LinearBaseline:
    """Scores of the linear baseline.

    Attributes:
        nodes: config nodes of its model and preprocessing.
        outputs: of each held-out split, before softmax, ``[examples, classes]``.
        metrics: the task's metrics of each held-out split.
        seconds: that fitting and scoring took, or reading the result from the cache.
    """

    nodes: Mapping[str, Any]
    outputs: Mapping[str, Tensor]
    metrics: Mapping[str, Mapping[str, float]]
    seconds: float

    def record(self) -> dict[str, Any]:
        """Return the entry of ``results.json``."""
        return {**self.metrics, **self.nodes, "seconds": self.seconds}


def fit_baseline(config: Mapping[str, Any], task: Task, data: SequenceData) -> LinearBaseline | None:
    """Fit the task's linear baseline on the training split, or read its outputs from the cache.

    There is none where the task offers none or the model is the same, and in a run that reads a part of its data.

    Args:
        config: of the run.
        task: of the run.
        data: prepared; with its texts.
    """
    nodes, trainer = linear_baseline(task), config["trainer"]
    if nodes is None or not data.texts or config["model"]["name"] == nodes["model"]["name"]:
        return None
    shares = [trainer.get(key, 1.0) for key in _LIMITS]  # 1 is a batch, 1.0 all of them
    if trainer["overfit_batches"] or any(not isinstance(share, float) or share != 1 for share in shares):
        return None
    if sum(len(text) for texts in data.texts.values() for text in texts) > _MOST_CHARACTERS:
        data.notes.append(f"no linear baseline: the texts have more than {_MOST_CHARACTERS:,} characters")
        return None
    began = time.perf_counter()
    weights = data.fit_weights()
    complete = {kind: checked_arguments(kind, node) for kind, node in nodes.items()}  # so that other defaults count
    key = [__version__, complete, str(torch.get_default_dtype()), _digest(data, weights)]
    arrays = cached_arrays("baselines", key, lambda: _outputs(nodes, task, data, weights))
    outputs = {split: torch.from_numpy(array) for split, array in arrays.items()}
    metrics = {split: _metrics(task, outputs[split], data.encoded[split][1]) for split in outputs}
    return LinearBaseline(nodes, outputs, metrics, time.perf_counter() - began)


def _outputs(
    nodes: Mapping[str, Any], task: Task, data: SequenceData, weights: Tensor | None
) -> dict[str, NDArray[Any]]:
    preprocessor = build_preprocessor(nodes["preprocessing"])
    assert preprocessor is not None
    preprocessor.fit(data.texts["train"])
    inputs = InputSpec("tokens", preprocessor.size, preprocessor.symbols)
    encoded = {split: preprocessor.encode(data.texts[split]) for split in ("train", "valid", "test")}
    with torch.random.fork_rng(devices=[]):
        model = build_model({"model": nodes["model"]}, task, inputs).eval()
    model.prepare(lambda: encoded["train"])
    train, valid = (Examples(encoded[split], data.encoded[split][1]) for split in ("train", "valid"))
    model.fit(train, valid, weights)
    return {split: _predict(model, encoded[split]).numpy() for split in ("valid", "test")}


@torch.inference_mode()
def _predict(model: Any, encoded: Ragged) -> Tensor:
    parts = []
    for rows in torch.split(torch.arange(len(encoded)), _BATCH):
        inputs, lengths = encoded.padded(rows)
        parts.append(model(Batch(inputs, lengths, torch.empty(0)))[0].float())
    return torch.cat(parts)


def _metrics(task: Task, outputs: Tensor, targets: Tensor) -> dict[str, float]:
    metrics = task.metrics()
    metrics.update(outputs, targets)
    return {name: float(value) for name, value in metrics.compute().items()}


def _digest(data: SequenceData, weights: Tensor | None) -> str:
    """Hash texts, targets and weights."""
    found = hashlib.sha256()
    for split in ("train", "valid", "test"):
        for text in data.texts[split]:
            content = text.encode("utf-8", "surrogatepass")
            found.update(len(content).to_bytes(8, "little") + content)
        found.update(np.ascontiguousarray(data.encoded[split][1].numpy()).tobytes())
    if weights is not None:
        found.update(weights.double().numpy().tobytes())
    return found.hexdigest()
