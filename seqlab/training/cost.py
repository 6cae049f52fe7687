"""What training costs, measured as it runs."""

import time
from typing import Any, final

import pytorch_lightning as pl

from seqlab.recurrence.compilations import compilations
from seqlab.training.checkpoint import progress_of
from seqlab.training.module import SequenceModule


@final
class Cost(pl.Callback):
    """Measures the seconds of training, without validation and checkpoints; counts whole epochs and steps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.epochs = self.steps = 0
        self._since: float | None = None
        self._compiled = compilations.count, compilations.seconds

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._stop()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start it again."""
        self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._stop()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count what is done, also where the checkpoint left nothing to do."""
        self.epochs, self.steps = progress_of(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock where a run goes on within an epoch, which begins no epoch."""
        self._since = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Remember what was measured."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return {"seconds": self.seconds + running}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.seconds = state_dict["seconds"]

    def _stop(self) -> None:
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
            self._since = None

    def report(self, module: SequenceModule) -> dict[str, Any]:
        """Give the counts and the rates."""
        seconds = max(self.seconds, 1e-9)
        return {
            "training_seconds": self.seconds,
            "compilations": compilations.count - self._compiled[0],
            "compile_seconds": compilations.seconds - self._compiled[1],
            "epochs": self.epochs,
            "steps": self.steps,
            "batches": module.trainer.fit_loop.total_batch_idx + 1,
            "examples": module.examples,
            "examples_per_second": module.examples / seconds,
            "tokens_per_second": module.steps / seconds,
        }
