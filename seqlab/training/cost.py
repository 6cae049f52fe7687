"""What training costs, measured as it runs."""

import time
from typing import Any, final

import pytorch_lightning as pl

from seqlab.contracts import Batch


@final
class Cost(pl.Callback):
    """Counts seconds, examples and steps of training; validation and checkpoints are not in the seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.examples = 0
        self.steps = 0
        self.batches = 0
        self.epochs = 0
        self._since: float | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count a batch."""
        rows, time_steps = batch.inputs.shape[:2]
        self.examples += rows
        self.steps += rows * time_steps if batch.lengths is None else int(batch.lengths.sum())
        self.batches += 1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._stop()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start it again."""
        self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._stop()
        self.epochs += 1

    def _stop(self) -> None:
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
            self._since = None

    def report(self) -> dict[str, Any]:
        """Give the counts and the rates."""
        seconds = max(self.seconds, 1e-9)
        return {
            "training_seconds": self.seconds,
            "epochs": self.epochs,
            "batches": self.batches,
            "examples": self.examples,
            "examples_per_second": self.examples / seconds,
            "tokens_per_second": self.steps / seconds,
        }
