"""Callbacks of a run: early stopping, stop when solved, cost, score of the baseline."""

import time
from collections.abc import Mapping
from typing import Any, final

import pytorch_lightning as pl
from pytorch_lightning import callbacks

from seqlab.contracts import Batch, Task, UserError
from seqlab.contracts.task import derived_metrics, is_solved
from seqlab.recurrence.graphs import compilations
from seqlab.training.checkpoint import progress_of
from seqlab.training.module import SequenceModule


@final
class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's early stopping, with the patience of the config where a run goes on, not that of the checkpoint."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what was seen so far."""
        super().load_state_dict({**state_dict, "patience": self.patience})


@final
class StopWhenSolved(pl.Callback):
    """Stops after some epochs in a row whose validation solves the task, by the task's own line.

    One epoch that ends just above the line may be luck, and the test split then falls below it.

    Args:
        task: says what solves it; without a line nothing does.
        epochs: in a row; at least 1.

    Raises:
        UserError: the task's metrics are not logged as ``valid/<name>``.
    """

    def __init__(self, task: Task, epochs: int) -> None:
        self.task, self.epochs, self.in_a_row = task, epochs, 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the epoch."""
        found = trainer.callback_metrics.items()
        metrics = {name.removeprefix("valid/"): float(value) for name, value in found if name.startswith("valid/")}
        if self.task.monitor not in metrics:
            there = ", ".join(trainer.callback_metrics) or "nothing"
            raise UserError(f"StopWhenSolved needs the logged metric valid/{self.task.monitor}, but {there} is logged")
        self.in_a_row = self.in_a_row + 1 if is_solved(self.task, metrics) else 0
        if self.in_a_row >= self.epochs:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Remember the count."""
        return {"in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.in_a_row = state_dict["in_a_row"]


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
            self._metrics.update(self.task.baseline_outputs(batch), batch.targets)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute the metrics over all processes."""
        if not self.values:
            values = {name: float(value) for name, value in self._metrics.compute().items()}
            self.values = values | derived_metrics(self.task, values, self._statistics)

    def state_dict(self) -> dict[str, Any]:
        """Return the values, which a run that goes on keeps."""
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self.values = dict(state_dict["values"])
