"""Batch size and epochs by a least number of optimiser updates, and a note on runs with few."""

import copy
import math
from collections.abc import Mapping
from typing import Any

from seqlab.contracts import Task
from seqlab.contracts.task import is_fresh, task_defaults
from seqlab.data.datamodule import SequenceData

AUTO = "auto"
AUTO_KEYS = (("data", "batch_size"), ("trainer", "max_epochs"))
"""Groups and keys whose value may be :data:`AUTO`."""
EXAMPLES, STREAMS = (32, 256), (16, 64)
"""Smallest and largest automatic batch of examples, and of streams of running text."""
MOST_EPOCHS = 10
"""Largest automatic number of epochs, as a multiple of the task's default."""
FEW = 300
"""Updates below which a run says that it has few."""


def choose_updates(config: Mapping[str, Any], task: Task, data: SequenceData) -> dict[str, Any]:
    """Return the config with numbers in place of ``auto``.

    A task has a least number of updates, :attr:`.TaskDefaults.min_updates`. The batch size is halved from the largest
    one until ``epochs * batches`` reaches it, down to the smallest one; then the epochs rise, up to ten times the
    task's default. Values that are set stay; with ``max_steps`` or ``max_minutes`` both keep the default.

    Args:
        config: of the run, with plain values; it is not changed.
        task: its task.
        data: prepared.
    """
    chosen = copy.deepcopy(dict(config))
    trainer, settings, defaults = chosen["trainer"], chosen["data"], task_defaults(task)
    auto_batch, auto_epochs = settings["batch_size"] == AUTO, trainer["max_epochs"] == AUTO
    smallest, largest = STREAMS if data.tokens else EXAMPLES
    if auto_batch:
        settings["batch_size"] = largest
    if auto_epochs:
        trainer["max_epochs"] = defaults.max_epochs
    if not (auto_batch or auto_epochs) or trainer["max_steps"] != -1 or trainer.get("max_minutes") is not None:
        return chosen
    least, epochs = defaults.min_updates, trainer["max_epochs"]
    while auto_batch and settings["batch_size"] > smallest and epochs * _updates(chosen, data) < least:
        settings["batch_size"] //= 2
    if auto_epochs:
        needed = math.ceil(least / _updates(chosen, data))
        trainer["max_epochs"] = max(epochs, min(needed, MOST_EPOCHS * epochs))
    return chosen


def _updates(config: Mapping[str, Any], data: SequenceData) -> int:
    """Return the number of updates of an epoch."""
    batch, rows = config["data"]["batch_size"], data.statistics["train"]["examples"]
    if data.tokens:
        window = data.task.sequence_length or 1
        streams = min(batch, max(1, rows // window))
        batches = math.ceil(rows // streams / window)
    else:
        batches = math.ceil(rows / batch)
    share: float = config["trainer"]["limit_train_batches"]
    each: int = config["trainer"]["accumulate_grad_batches"]
    batches = int(batches * share) if isinstance(share, float) else min(batches, share)
    return max(1, math.ceil(batches / each))


def few_updates(config: Mapping[str, Any], task: Task, data: SequenceData) -> str | None:
    """Return a note if a run has fewer than :data:`FEW` updates; ``None`` if it has more, or ends by time.

    Args:
        config: with numbers, as :func:`choose_updates` returns it.
        task: its task.
        data: prepared.
    """
    trainer = config["trainer"]
    epochs, steps = trainer["max_epochs"], trainer["max_steps"]
    if trainer["overfit_batches"] or data.schedule is not None or is_fresh(task) or (epochs is None and steps == -1):
        return None
    each = _updates(config, data)
    updates = steps if epochs is None else epochs * each if steps == -1 else min(steps, epochs * each)
    if updates >= FEW:
        return None
    line = f"few updates: {updates:,}"
    if steps == updates:
        return f"{line}; raise trainer.max_steps"
    times = f"{epochs} {'epoch' if epochs == 1 else 'epochs'} of {each:,}"
    return f"{line} ({times}); lower data.batch_size={config['data']['batch_size']}, or raise trainer.max_epochs"
