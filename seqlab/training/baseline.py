"""Validation score of the input-independent baseline."""

from collections.abc import Mapping
from typing import Any, final

import pytorch_lightning as pl

from seqlab.contracts import Batch, Task


@final
class ValidationBaseline(pl.Callback):
    """Score the predictor that ignores its input on the validation split, in the first validation of a run.

    What decides compares a validation score with this one, so that it need not read the test split.

    Attributes:
        values: its metrics; empty before the first validation has ended.

    Args:
        task: gives the baseline's outputs and the metrics.
        statistics: what is known of the validation split.
    """

    def __init__(self, task: Task, statistics: Mapping[str, Any]) -> None:
        self.task, self.values = task, dict[str, float]()
        self._statistics, self._metrics = statistics, task.metrics()

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the metrics, on the model's device."""
        self._metrics.to(pl_module.device).reset()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        """Score a batch, unless it was done before or belongs to another process."""
        loader: Any = trainer.val_dataloaders
        if not self.values and loader.weight:
            self._metrics.update(self.task.blind_outputs(batch), batch.targets)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute the metrics over all processes."""
        if not self.values:
            values = {name: float(value) for name, value in self._metrics.compute().items()}
            self.values = values | self.task.derived(values, self._statistics)

    def state_dict(self) -> dict[str, Any]:
        """Return the values, which a run that goes on keeps."""
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self.values = dict(state_dict["values"])
