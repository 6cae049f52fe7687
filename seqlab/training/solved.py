"""An end to training once the task is solved."""

from typing import Any, final

import pytorch_lightning as pl

from seqlab.contracts import Task, UserError


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
        self.in_a_row = self.in_a_row + 1 if self.task.solved(metrics) else 0
        if self.in_a_row >= self.epochs:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Remember the count."""
        return {"in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.in_a_row = state_dict["in_a_row"]
