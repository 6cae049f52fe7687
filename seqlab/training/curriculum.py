"""Lengths of generated training sequences during a run: checks at the ceiling, curve and figure of a curriculum."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl

from seqlab.contracts import UserError
from seqlab.contracts.task import at_length, is_solved
from seqlab.data.lengths import LengthLoader, LengthSchedule
from seqlab.distributed.collectives import all_gather
from seqlab.io.atomic import write_bytes
from seqlab.io.csv_files import read_csv
from seqlab.runs.run_folder import CURRICULUM
from seqlab.training.callbacks import Cost
from seqlab.training.checkpoint import validation_metrics
from seqlab.training.loggers import CurvesLogger
from seqlab.training.module import CEILING, SequenceModule

FIGURE = "curriculum.png"


@final
class LengthTracker(pl.Callback):
    """Check after each validation whether the task is solved at the ceiling, and let a curriculum grow.

    Attributes:
        figures: the figure of a curriculum, once it is drawn.

    Args:
        schedule: of the lengths; what it holds is saved with the checkpoint.
        cost: counts the seconds of training.
        folder: the run folder, for ``curves/curriculum.csv`` and ``curriculum.png``.
    """

    def __init__(self, schedule: LengthSchedule, cost: Cost, folder: Path) -> None:
        self.schedule, self.cost, self.folder = schedule, cost, folder
        self.figures: list[str] = []
        self._curve = CurvesLogger(folder, CURRICULUM)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the ceiling of a curriculum, for the progress bar."""
        if self.schedule.is_curriculum:
            pl_module.log(CEILING, float(self.schedule.ceiling), prog_bar=True, logger=False)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the length of the batch."""
        loader: Any = trainer.train_dataloader
        self.schedule.count(loader.length(batch_idx) if isinstance(loader, LengthLoader) else self.schedule.target)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell the module the ceiling, for the loggers."""
        assert isinstance(pl_module, SequenceModule)
        if self.schedule.is_curriculum:
            pl_module.ceiling = self.schedule.ceiling

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the ceiling; all ranks have the same metrics, and so the same ceiling."""
        assert isinstance(pl_module, SequenceModule)
        schedule, metrics = self.schedule, validation_metrics(trainer)
        ceiling, task = schedule.ceiling, at_length(schedule.task, schedule.ceiling)
        if task.monitor not in metrics:  # the checkpoint reports it
            return
        schedule.check(passed=bool(is_solved(task, metrics)))
        assert schedule.last is not None
        step, examples = trainer.global_step, sum(all_gather(pl_module.examples))
        done = {"examples": examples, "seconds": self.cost.seconds}
        if schedule.last.passed and ceiling > (schedule.reached or {"length": 0})["length"]:
            schedule.reached = {"length": ceiling, "steps": step, **done}
        if not schedule.is_curriculum:
            return
        row = {**done, "ceiling": ceiling, "score": metrics[task.monitor], "passed": int(schedule.last.passed)}
        self._curve.log_metrics(row, step)
        # The next validation is at another length: Lightning asks for a new loader.
        trainer.fit_loop.epoch_loop.val_loop._combined_loader = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the figure."""
        if self.schedule.is_curriculum and trainer.is_global_zero and self._curve.path.is_file():
            task = self.schedule.task
            draw_curriculum(read_csv(self._curve.path), task.monitor, self.folder / FIGURE)
            self.figures = [FIGURE]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the schedule."""
        return self.schedule.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.schedule.load_state_dict(state_dict)


def check_comparisons(optimizer: Mapping[str, Any]) -> None:
    """Check that no option of the optimiser compares the scores of epochs, which a curriculum takes at several lengths.

    Args:
        optimizer: its config node.

    Raises:
        UserError: one does.
    """
    key, other = ("averaging", "null") if optimizer.get("averaging") is not None else ("schedule", "constant")
    if key == "averaging" or optimizer.get("schedule") == "plateau":
        raise UserError(
            f"optimizer.{key}={optimizer[key]} compares validation scores, which task.lengths=curriculum takes at "
            f"several lengths; set optimizer.{key}={other}, or another value of task.lengths"
        )


def lengths_record(schedule: LengthSchedule, best_length: int) -> dict[str, Any]:
    """Return the entry ``lengths`` of ``results.json``.

    Args:
        schedule: at the end of training.
        best_length: that the best weights of a curriculum solve; 0 where there is none.
    """
    held_out = test_length(schedule, best_length)
    reached = schedule.reached or {}
    return {
        "protocol": schedule.protocol,
        "shortest": schedule.shortest,
        "longest": schedule.longest,
        "reached": reached.get("length"),
        "ceiling": schedule.ceiling,
        "valid": held_out,
        "test": held_out,
        **{name: reached.get(name) for name in ("steps", "examples", "seconds")},
    }


def test_length(schedule: LengthSchedule, best_length: int) -> int:
    """Return the length of the test split: the one that the best weights solve, or the first ceiling."""
    if not schedule.is_curriculum:
        return schedule.target
    return best_length or schedule.task.start_length


def draw_curriculum(rows: list[dict[str, Any]], metric: str, path: Path) -> None:
    """Draw ceiling and validation score against training steps, one above the other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    steps = [float(row["step"]) for row in rows]
    above.step(steps, [float(row["ceiling"]) for row in rows], where="pre", color="#0072b2")
    above.set_yscale("log")
    above.set_ylabel("ceiling (steps)")
    scores = [float(row["score"]) for row in rows]
    below.plot(steps, scores, color="#808080", linewidth=0.8)
    passed = [index for index, row in enumerate(rows) if float(row["passed"])]
    below.plot([steps[i] for i in passed], [scores[i] for i in passed], "o", color="#0072b2", ms=4, label="solved")
    below.set_ylabel(f"validation {metric}")
    below.set_xlabel("training steps")
    if passed:
        below.legend(frameon=False)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, alpha=0.2)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_bytes(path, content.getvalue())
