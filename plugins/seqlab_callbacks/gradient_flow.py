"""How far back the gradient reaches, measured while training goes on."""

import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from seqlab import UserError
from seqlab.errors import check_range
from seqlab.recurrence.recording import is_recurrent
from seqlab.study.gradient_flow import FlowWriter, read
from seqlab.study.gradient_flow_figure import draw_flow
from seqlab.study.gradient_flow_measure import measure, measure_step
from seqlab.study.plotting import save_figure

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

    In a trainer of your own it takes any LightningModule with a :class:`seqlab.Recurrent` in it: the loss is that of
    its ``training_step`` on the first batch of the validation loader (of the training loader, where there is none),
    and the files go into the trainer's ``default_root_dir``.

    Args:
        every: steps of training between two moments. 0 takes the beginning, the steps 10, 32, 100, 316, ..., and the
            end; where that would take more than a tenth of the time of training, a moment between the two is left out.
        rows: validation sequences that are read; a LightningModule of your own reads a whole batch.
        picture: whether to draw; the figures are kept either way, and a report draws them.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(self, every: int = 0, rows: int = 8, *, picture: bool = True) -> None:
        super().__init__()
        check_range(at_least=0, every=every)
        check_range(at_least=1, rows=rows)
        self.every, self.rows, self.picture, self.read = every, rows, picture, 0
        self._batch: Any = None
        self._writer: FlowWriter | None = None
        self._folder = Path()
        self._last = -1
        self._spent = self._cost = self._paused = 0.0
        self._since = self._stopped = 0.0
        self.figures: list[str] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose the sequences, and measure for the first time; a run that goes on has done so already."""
        if not trainer.is_global_zero:
            return
        if not is_recurrent(pl_module):
            log.info("callbacks=gradient_flow: the model has no recurrent part; nothing is measured")
            return
        batch = trainer.datamodule.probe(self.rows) if _is_ours(trainer) else _first_batch(trainer)  # type: ignore[attr-defined]  # a trainer has it
        self._batch = pl_module.transfer_batch_to_device(batch, pl_module.device, 0)
        self.read = len(batch.inputs) if _is_ours(trainer) else 0
        self._folder, self._last = Path(trainer.default_root_dir), trainer.global_step
        self._writer = FlowWriter(self._folder, done=trainer.global_step)
        if not trainer.global_step:
            self._measure(0, trainer, pl_module)
        self._since, self._paused = time.perf_counter(), 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Measure where it is time to."""
        step = trainer.global_step
        if self._writer is not None and step != self._last and self._is_due(step):
            self._measure(step, trainer, pl_module)

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
            self._measure(trainer.global_step, trainer, pl_module)
        self._writer = None
        if self.picture:
            self._draw()

    def _draw(self) -> None:
        flow = read(self._folder)
        if flow is None or not flow.rows:
            return
        figure = draw_flow(flow, f"{self.read} validation sequences" if self.read else "one batch")
        for name in ("gradient_flow.png", "gradient_flow.svg"):
            save_figure(figure, self._folder / name)
            self.figures.append(name)
        log.info("gradient flow: %s", self._folder / "gradient_flow.png")

    def _measure(self, step: int, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self._writer is not None
        begun = time.perf_counter()
        module: Any = pl_module
        try:
            if _is_ours(trainer):
                found = measure(module.model, module.task, self._batch, step)
            else:
                found = measure_step(pl_module, self._batch, step)
            self._writer.add(*found)
        except UserError:
            raise
        except Exception as error:  # the run goes on without it
            log.warning("callbacks=gradient_flow stops at step %d: %s: %s", step, type(error).__name__, error)
            self._writer = None
        self._last = step
        self._cost = time.perf_counter() - begun
        self._spent += self._cost
        if self._since:
            self._paused += self._cost


def _is_ours(trainer: pl.Trainer) -> bool:
    """Whether a run of seqlab trains, whose data, model and task are known."""
    return hasattr(getattr(trainer, "datamodule", None), "probe")


def _first_batch(trainer: pl.Trainer) -> Any:
    """Take the first batch of the validation loader, or else of the training loader; random generators stay."""
    with suppress(MisconfigurationException):  # it validates nothing
        trainer.fit_loop.epoch_loop.val_loop.setup_data()  # Lightning does this only before the first validation
    loaders: Any = trainer.val_dataloaders or trainer.train_dataloader
    loader = loaders[0] if isinstance(loaders, list) else loaders
    with torch.random.fork_rng(devices=[]):  # a loader seeds its workers from torch's generator
        return next(iter(loader))


def is_moment(step: int) -> bool:
    """Say whether a step is one of 10, 32, 100, 316, 1000, ..."""
    power = 0
    while (moment := round(_FIRST * 10 ** (power / _A_DECADE))) < step:
        power += 1
    return moment == step
