"""Callbacks of a run: early stopping, cost, the baseline's validation score, progress."""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, final

import pytorch_lightning as pl
from pytorch_lightning import callbacks
from pytorch_lightning.callbacks import RichProgressBar

from seqlab.contracts import Batch, Task, UserError
from seqlab.contracts.task import derived_metrics, is_solved
from seqlab.data.lengths import LengthSchedule
from seqlab.distributed.collectives import RankConsensus
from seqlab.io.formatting import format_metric
from seqlab.recurrence.graphs import compilations
from seqlab.training.checkpoint import training_progress, validation_metrics
from seqlab.training.module import CEILING, SequenceModule

log = logging.getLogger("seqlab")


@final
class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's early stopping; a resumed run keeps the patience of its config, not that of the checkpoint."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score and the number of epochs since."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train no further where the checkpoint is of a run that stopped early."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


@final
class StopWhenSolved(pl.Callback):
    """Stop after a number of epochs in a row whose validation solves the task, by the task's own criterion.

    A single epoch just above the criterion may be luck, and the test split then falls below it. Of a curriculum, the
    validations at ``task.sequence_length`` count.
    """

    def __init__(self, task: Task, epochs: int, schedule: LengthSchedule | None = None) -> None:
        self.task, self.epochs, self.in_a_row, self._schedule = task, epochs, 0, schedule

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train no further where the checkpoint is of a run that stopped so."""
        if self.in_a_row >= self.epochs:
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the epoch."""
        metrics = validation_metrics(trainer)
        if self.task.monitor not in metrics:
            logged = ", ".join(trainer.callback_metrics) or "nothing"
            raise UserError(f"StopWhenSolved needs the logged metric valid/{self.task.monitor}, but {logged} is logged")
        curriculum = self._schedule is not None and self._schedule.is_curriculum
        solved = self._schedule.is_finished if curriculum and self._schedule else is_solved(self.task, metrics)
        self.in_a_row = self.in_a_row + 1 if solved else 0
        if self.in_a_row >= self.epochs:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return the count."""
        return {"in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count."""
        self.in_a_row = state_dict["in_a_row"]


@final
class Cost(pl.Callback):
    """Seconds of training, without validation and checkpoints; number of whole epochs and of optimiser steps.

    Attributes:
        replicas: most runs that trained together with this one, itself included.
        together: number of runs that train together now.
    """

    clock: Callable[[], float] = staticmethod(time.perf_counter)
    """What measures the seconds."""

    def __init__(self) -> None:
        self.seconds, self.replicas, self.together = 0.0, 1, 1
        self.epochs = self.steps = 0
        self._since: float | None = None
        self._compiled = compilations.count, compilations.seconds

    def resume(self) -> None:
        """Start the clock."""
        self._since = self.clock()

    def pause(self) -> None:
        """Stop the clock."""
        if self._since is not None:
            self.seconds += self.clock() - self._since
            self._since = None

    def _start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.resume()

    def _stop(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.pause()

    on_train_start = on_train_epoch_start = on_validation_end = _start  # a run may resume within an epoch
    on_validation_start = on_train_epoch_end = _stop

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count epochs and steps, also where the checkpoint left nothing to do."""
        self.epochs, self.steps = training_progress(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far, and the number of replicas."""
        running = 0.0 if self._since is None else self.clock() - self._since
        return {"seconds": self.seconds + running, "replicas": self.replicas}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self.seconds = state_dict["seconds"]
        self.replicas = max(self.replicas, state_dict.get("replicas", 1))  # earlier releases did not save it

    def report(self, module: SequenceModule) -> dict[str, Any]:
        """Return counts and rates."""
        seconds = max(self.seconds, 1e-9)
        return {
            "training_seconds": self.seconds,
            "replicas": self.replicas,
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
class TimeBudget(pl.Callback):
    """Stop training after a number of minutes of wall-clock time, validation included.

    A resumed run counts the time used before; of runs that train together, each counts its share. The step after which
    to stop depends on the machine.

    Args:
        minutes: the budget; ``None`` only measures.
    """

    def __init__(self, minutes: float | None) -> None:
        self.minutes = minutes
        self._used, self._since = 0.0, time.perf_counter()
        self._is_running, self._consensus = False, RankConsensus()

    @property
    def seconds(self) -> float:
        """Seconds used."""
        return self._used + (time.perf_counter() - self._since if self._is_running else 0)

    def resume(self) -> None:
        """Start the clock."""
        self._since, self._is_running = time.perf_counter(), True

    def pause(self, seconds: float = 0.0) -> None:
        """Stop the clock, and count so many seconds more."""
        self._used, self._is_running = self.seconds + seconds, False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; train no further where the checkpoint is of a run that used its time."""
        self.resume()
        if self.minutes is not None and self._used >= 60 * self.minutes:
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Stop after an optimiser step, on all ranks after the same one."""
        done = trainer.fit_loop.epoch_loop.batch_idx + 1
        if self.minutes is None or done % trainer.accumulate_grad_batches:
            return
        if self._consensus.delayed_max(int(self.seconds >= 60 * self.minutes)):
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self.pause()

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds used."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self._used = state_dict["seconds"]


@final
class ValidationBaseline(pl.Callback):
    """Validation metrics of the input-independent baseline, computed in the first validation at each length.

    A choice between runs compares validation scores with these, so that it need not read the test split.
    """

    def __init__(self, task: Task, statistics: Mapping[str, Any], schedule: LengthSchedule | None = None) -> None:
        self.task, self._by_length, self._schedule = task, dict[int, dict[str, float]](), schedule
        self._statistics, self._metrics, self._length = statistics, task.metrics(), 0

    @property
    def values(self) -> dict[str, float]:
        """The metrics of the last validation; empty before the first."""
        return self.values_at(self._length)

    def values_at(self, length: int) -> dict[str, float]:
        """Return the metrics at a length of a curriculum; of other runs, those of the split."""
        curriculum = self._schedule is not None and self._schedule.is_curriculum
        return self._by_length.get(length if curriculum else 0, {})

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the metrics, on the model's device."""
        self._length = self._schedule.ceiling if self._schedule is not None and self._schedule.is_curriculum else 0
        self._metrics.to(pl_module.device).reset()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        """Score a batch, unless the values are known or the batch only fills up this rank's share."""
        loader: Any = trainer.val_dataloaders
        if not self.values and loader.weight:
            self._metrics.update(self.task.baseline_outputs(batch), batch.targets)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute the metrics over all ranks."""
        if not self.values:
            values = {name: float(value) for name, value in self._metrics.compute().items()}
            self._by_length[self._length] = values | derived_metrics(self.task, values, self._statistics)

    def state_dict(self) -> dict[str, Any]:
        """Return the values."""
        return {"values": self.values, "by_length": self._by_length, "length": self._length}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the values."""
        self._by_length = {0: dict(state_dict["values"]), **state_dict.get("by_length", {})}
        self._length = state_dict.get("length", 0)


def progress_callbacks(asked: object, monitor: str) -> list[pl.Callback]:
    """Return the callbacks of ``trainer.progress``: ``auto`` (bars in a terminal), true or false."""
    bars = sys.stderr.isatty() and sys.stdout.isatty() if asked == "auto" else bool(asked)
    if bars:
        return [RichProgressBar(refresh_rate=20), EpochLines(monitor, to_file_only=True)]
    return [EpochLines(monitor, to_file_only=asked is False)]


@final
class EpochLines(pl.Callback):
    """Log a line for each epoch: training loss, monitored metric, seconds; ``to_file_only`` keeps it off the screen."""

    def __init__(self, monitor: str, *, to_file_only: bool = False) -> None:
        self.monitor = monitor
        self.level = logging.DEBUG if to_file_only else logging.INFO
        self._since = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    on_train_start = on_train_epoch_start  # a run may resume within an epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the line."""
        metrics = trainer.callback_metrics
        names = [name for name in ("train/loss", self.monitor) if name in metrics]
        values = [f"{name} {format_metric(float(metrics[name]))}" for name in names]
        if CEILING in metrics:
            values.append(f"{CEILING} {float(metrics[CEILING]):,.0f}")
        seconds = f"{time.perf_counter() - self._since:.1f} s"
        log.log(self.level, "  ".join([_position(trainer), *values, seconds]))


def _position(trainer: pl.Trainer) -> str:
    """Return the epoch that ended, the steps where they end the run, and the batches of an incomplete epoch."""
    line = f"epoch {trainer.current_epoch + 1}"
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        line += f"/{trainer.max_epochs}"
    if trainer.max_steps > 0:
        line += f"  step {trainer.global_step:,}/{trainer.max_steps:,}"
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    if batches < trainer.num_training_batches:
        line += f"  ({batches} of {trainer.num_training_batches} batches)"
    return line
