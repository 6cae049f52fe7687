"""How a run shows that it moves: bars in a terminal, a line an epoch elsewhere."""

import logging
import sys
import time
from typing import final

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar

from seqlab.contracts import UserError
from seqlab.io.formatting import format_metric

log = logging.getLogger("seqlab")


def progress_callbacks(asked: object, monitor: str) -> list[pl.Callback]:
    """Choose by ``trainer.progress``: ``auto``, true or false.

    Raises:
        UserError: it is something else.
    """
    if asked not in ("auto", True, False):
        raise UserError(f"trainer.progress is {asked}; it must be auto, true or false")
    bars = sys.stderr.isatty() and sys.stdout.isatty() if asked == "auto" else bool(asked)
    if bars:
        return [RichProgressBar(refresh_rate=20), EpochLines(monitor, to_file_only=True)]
    return [EpochLines(monitor, to_file_only=asked is False)]


@final
class EpochLines(pl.Callback):
    """One line an epoch: training loss, monitored metric, seconds.

    Args:
        monitor: the metric to show, ``valid/<name>``.
        to_file_only: whether the lines go to the run's log file but not to the screen.
    """

    def __init__(self, monitor: str, *, to_file_only: bool = False) -> None:
        self.monitor = monitor
        self.level = logging.DEBUG if to_file_only else logging.INFO
        self._since = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock where a run goes on within an epoch."""
        self._since = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the line."""
        metrics = trainer.callback_metrics
        parts = [_place(trainer)]
        parts += [
            f"{name} {format_metric(float(metrics[name]))}" for name in ("train/loss", self.monitor) if name in metrics
        ]
        parts.append(f"{time.perf_counter() - self._since:.1f} s")
        log.log(self.level, "  ".join(parts))


def _place(trainer: pl.Trainer) -> str:
    """Say which epoch has ended, by how many steps where these end the run, and how much of it was trained."""
    line = f"epoch {trainer.current_epoch + 1}"
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        line += f"/{trainer.max_epochs}"
    if trainer.max_steps > 0:
        line += f"  step {trainer.global_step:,}/{trainer.max_steps:,}"
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    if batches < trainer.num_training_batches:
        line += f"  ({batches} of {trainer.num_training_batches} batches)"
    return line
