"""How far back the gradient reaches, measured while training goes on."""

import logging
import time
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl

from seqlab import Batch, UserError
from seqlab.recurrence.record import is_recurrent
from seqlab.study.gradient_flow import FlowWriter, read
from seqlab.study.gradient_flow_figure import draw
from seqlab.study.gradient_flow_measure import measure
from seqlab.study.pictures import save

log = logging.getLogger("seqlab")

SHARE = 0.1
"""Of the time of training, what measuring may take unless ``every`` is set."""
_A_DECADE = 2
_FIRST = 10


@final
class GradientFlow(pl.Callback):
    r"""Measures the gradient of the loss to the state, step by step back, at set moments of training.

    A copy of the model reads the same few validation sequences each time, by the loop, in double precision and
    evaluation mode: nothing of the run changes. ``curves/gradient_flow.csv`` and ``curves/saturation.csv`` are its
    results (:mod:`seqlab.study.gradient_flow`), and ``gradient_flow.png`` and ``.svg`` are drawn at the end.

    Args:
        every: steps of training between two moments. 0 takes the beginning, the steps 10, 32, 100, 316, ..., and the
            end; where that would take more than a tenth of the time of training, a moment between the two is left out.
        rows: validation sequences that are read.
        picture: whether to draw; the figures are kept either way, and a report draws them.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(self, every: int = 0, rows: int = 8, *, picture: bool = True) -> None:
        super().__init__()
        for name, value, least in (("every", every, 0), ("rows", rows, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        self.every, self.rows, self.picture, self.read = every, rows, picture, 0
        self._batch: Batch | None = None
        self._writer: FlowWriter | None = None
        self._folder = Path()
        self._last = -1
        self._spent = self._cost = self._paused = 0.0
        self._since = self._stopped = 0.0
        self.figures: list[str] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose the sequences, and measure for the first time; a run that goes on has done so already."""
        module: Any = pl_module
        if not trainer.is_global_zero:
            return
        if not is_recurrent(module.model):
            log.info("callbacks=gradient_flow: the model has no recurrent part; nothing is measured")
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # a trainer with a data module has it
        batch = data.probe(self.rows)
        lengths = None if batch.lengths is None else batch.lengths.to(pl_module.device)
        self._batch = Batch(batch.inputs.to(pl_module.device), lengths, batch.targets.to(pl_module.device))
        self.read = len(batch.inputs)
        self._folder, self._last = Path(trainer.default_root_dir), trainer.global_step
        self._writer = FlowWriter(self._folder, done=trainer.global_step)
        if not trainer.global_step:
            self._measure(0, pl_module)
        self._since, self._paused = time.perf_counter(), 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Measure where it is time to."""
        step = trainer.global_step
        if self._writer is not None and step != self._last and self._is_due(step):
            self._measure(step, pl_module)

    def _is_due(self, step: int) -> bool:
        if self.every:
            return step % self.every == 0
        if not is_moment(step):
            return False
        training = time.perf_counter() - self._since - self._paused
        return self._spent + 2 * self._cost <= SHARE * training  # this time and at the end

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._stopped = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start it again."""
        self._paused += time.perf_counter() - self._stopped

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure for the last time, and draw."""
        if self._writer is None:
            return
        if trainer.global_step != self._last:
            self._measure(trainer.global_step, pl_module)
        self._writer = None
        if self.picture:
            self._draw()

    def _draw(self) -> None:
        flow = read(self._folder)
        if flow is None or not flow.rows:
            return
        figure = draw(flow, f"{self.read} validation sequences")
        for name in ("gradient_flow.png", "gradient_flow.svg"):
            save(figure, self._folder / name)
            self.figures.append(name)
        log.info("gradient flow: %s", self._folder / "gradient_flow.png")

    def _measure(self, step: int, pl_module: pl.LightningModule) -> None:
        assert self._writer is not None
        assert self._batch is not None
        begun = time.perf_counter()
        module: Any = pl_module
        try:
            self._writer.add(*measure(module.model, module.task, self._batch, step))
        except UserError:
            raise
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:  # the run goes on without it
            log.warning("callbacks=gradient_flow stops at step %d: %s: %s", step, type(error).__name__, error)
            self._writer = None
        self._last = step
        self._cost = time.perf_counter() - begun
        self._spent += self._cost
        if self._since:
            self._paused += self._cost


def is_moment(step: int) -> bool:
    """Say whether a step is one of 10, 32, 100, 316, 1000, ..."""
    power = 0
    while (moment := round(_FIRST * 10 ** (power / _A_DECADE))) < step:
        power += 1
    return moment == step
