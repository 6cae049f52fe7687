"""Gradient flow, measured during training."""

import logging
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from seqlab import UserError
from seqlab.recurrence.recording import is_recurrent
from seqlab.study.gradient_flow import FlowWriter, read
from seqlab.study.gradient_flow_measure import measure, measure_step
from seqlab.study.plotting import save_figure
from seqlab.study.report.flow import draw_flow

log = logging.getLogger("seqlab")

_SHARE = 0.1
"""Share of the training time that measurements may take by default."""


@final
class GradientFlow(pl.Callback):
    r"""Measure the gradient of the loss to each earlier state.

    At some steps of training, a copy of the model reads the same few validation sequences, with the reference loop in
    float64 and evaluation mode; the run does not change. Results are ``curves/gradient_flow.csv`` and
    ``curves/saturation.csv`` (:mod:`seqlab.study.gradient_flow`), and at the end ``gradient_flow.png`` and ``.svg``.

    In another trainer it measures any LightningModule with a :class:`seqlab.Recurrent`, ``nn.LSTM``, ``nn.GRU`` or
    ``nn.RNN`` inside, whose layers count in the order of their calls: the loss of its ``training_step`` on the first
    batch of the validation loader (else of the training loader), with results in the trainer's ``default_root_dir``.

    Args:
        every: steps between measurements; 0 measures at steps 0, 10, 32, 100, 316, ... and at the end, skipping those
            between that would take more than a tenth of the training time.
        rows: validation sequences to read; in another trainer, a whole batch is read.
        picture: draw the figures; reports do so in any case.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(self, every: int = 0, rows: int = 8, *, picture: bool = True) -> None:
        super().__init__()
        for name, value, least in (("every", every, 0), ("rows", rows, 1)):
            if value < least:
                raise ValueError(f"{name} must be >= {least}, got {value}")
        self.every, self.rows, self.picture = every, rows, picture
        self.figures: list[str] = []
        self._title = "one batch"
        self._batch: Any = None
        self._writer: FlowWriter | None = None
        self._folder = Path()
        self._last_step = -1
        self._spent = self._cost = self._trained = self._since = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose the sequences, and measure unless the run is resumed."""
        if not trainer.is_global_zero:
            return
        if not is_recurrent(pl_module):
            log.info("callbacks=gradient_flow: the model is not recurrent; nothing is measured")
            return
        if _is_own_run(trainer):
            batch = trainer.datamodule.probe(self.rows)  # type: ignore[attr-defined]  # a trainer has it
            self._title = f"{len(batch.inputs)} validation sequences"
        else:
            batch = _first_batch(trainer)
        self._batch = pl_module.transfer_batch_to_device(batch, pl_module.device, 0)
        self._folder, self._last_step = Path(trainer.default_root_dir), trainer.global_step
        self._writer = FlowWriter(self._folder, done=trainer.global_step)
        if not trainer.global_step:
            self._measure(0, trainer, pl_module)
        self._trained, self._since = 0.0, time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Measure at the chosen steps."""
        step = trainer.global_step
        self._count(trainer)
        if self._writer is not None and step != self._last_step and self._is_due(step):
            self._measure(step, trainer, pl_module)

    def _count(self, trainer: pl.Trainer) -> None:
        """Count the time of training since the last call; of runs that train together, the share of this one."""
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # a trainer has them
        counts = (getattr(each, "together", 1) for each in callbacks)  # of seqlab.training's Cost
        now = time.perf_counter()
        self._trained += (now - self._since) / max((each for each in counts if isinstance(each, int)), default=1)
        self._since = now

    def _is_due(self, step: int) -> bool:
        if self.every:
            return step % self.every == 0
        if not is_default_step(step):
            return False
        return self._spent + 2 * self._cost <= _SHARE * self._trained  # now and at the end

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock of training."""
        self._count(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restart the clock of training."""
        self._since = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure and draw."""
        if self._writer is None:
            return
        if trainer.global_step != self._last_step:
            self._measure(trainer.global_step, trainer, pl_module)
        self._writer = None
        if self.picture:
            self._draw()

    def _draw(self) -> None:
        flow = read(self._folder)
        if flow is None or not flow.rows:
            return
        figure = draw_flow(flow, self._title)
        for name in ("gradient_flow.png", "gradient_flow.svg"):
            save_figure(figure, self._folder / name)
            self.figures.append(name)
        log.info("gradient flow: %s", self._folder / "gradient_flow.png")

    def _measure(self, step: int, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self._writer is not None
        begun = time.perf_counter()
        module: Any = pl_module
        try:
            if _is_own_run(trainer):
                found = measure(module.model, module.task, self._batch, step)
            else:
                found = measure_step(pl_module, self._batch, step)
            self._writer.add(*found)
        except UserError:
            raise
        except Exception as error:  # training continues without it
            log.warning("callbacks=gradient_flow stops at step %d: %s: %s", step, type(error).__name__, error)
            self._writer = None
        self._last_step = step
        self._cost = time.perf_counter() - begun
        self._spent += self._cost
        self._since = time.perf_counter()


def _is_own_run(trainer: pl.Trainer) -> bool:
    """Return whether a seqlab run trains, whose data, model and task are known."""
    return hasattr(getattr(trainer, "datamodule", None), "probe")


def _first_batch(trainer: pl.Trainer) -> Any:
    """Return the first batch of the validation loader, else of the training loader; keep the random generators."""
    with suppress(MisconfigurationException):  # there is no validation loader
        trainer.fit_loop.epoch_loop.val_loop.setup_data()  # Lightning does this only before the first validation
    loaders: Any = trainer.val_dataloaders or trainer.train_dataloader
    loader = loaders[0] if isinstance(loaders, list) else loaders
    with torch.random.fork_rng(devices=[]):  # a loader seeds its workers from torch's generator
        return next(iter(loader))


def is_default_step(step: int) -> bool:
    """Return whether a step is one of 10, 32, 100, 316, 1000, ..."""
    half_decades = round(2 * math.log10(max(step, 1)))
    return half_decades >= 2 and step == round(10 ** (half_decades / 2))
