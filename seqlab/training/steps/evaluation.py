"""Evaluation loop with little overhead for the plain case; every other case is Lightning's."""

from functools import partial
from typing import Any, final

import pytorch_lightning as pl
import torch
from pytorch_lightning.loops.evaluation_loop import _EvaluationLoop
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultCollection, _ResultMetric
from pytorch_lightning.utilities.exceptions import SIGTERMException

from seqlab.training.callbacks import ValidationBaseline
from seqlab.training.checkpoint import RunCheckpoint
from seqlab.training.steps.plain import is_plain, overrides

_LOG_NOTHING = (ValidationBaseline, RunCheckpoint)
"""Callbacks that need no more of a batch than the call of their hook after it."""


@final
class EvaluationLoop(_EvaluationLoop):
    """Lightning's loop over the batches of a validation or a test, without what a plain batch does not need.

    A batch is plain on one CPU in full precision, of one loader, without profiler, and with no callback but those of
    the core. Lightning's loop spends as much time on it as a small model: hooks that nothing implements, a search for
    tensors to move, results that nothing was logged to.

    Args:
        trainer: whose loop it is.
        loop: the loop to replace.
    """

    _is_plain = False
    _callbacks: tuple[pl.Callback, ...] = ()

    def __init__(self, trainer: pl.Trainer, loop: _EvaluationLoop) -> None:
        super().__init__(trainer, loop._trainer_fn, loop._stage, loop.verbose, loop.inference_mode)
        self._results = LoggedMetrics(training=False)

    @property
    def _hooks(self) -> tuple[str, str]:
        """Names of the callbacks' hooks before and after a batch."""
        name = "test" if self.trainer.testing else "validation"
        return f"on_{name}_batch_start", f"on_{name}_batch_end"

    def on_run_start(self) -> None:
        """Decide whether the batches are plain."""
        super().on_run_start()
        trainer: Any = self.trainer
        within = [each for each in trainer.callbacks if any(overrides(each, hook) for hook in self._hooks)]
        self._callbacks = tuple(within)
        self._is_plain = (
            is_plain(trainer, self._data_fetcher)
            and self.num_dataloaders == 1
            and all(type(each) in _LOG_NOTHING for each in within)
        )

    def _verify_dataloader_idx_requirement(self) -> None:
        """Do nothing: the steps of :class:`.SequenceModule` take the number of the loader where there are several."""

    def _evaluation_step(self, batch: Any, batch_idx: int, dataloader_idx: int, dataloader_iter: Any) -> None:
        if not self._is_plain:
            super()._evaluation_step(batch, batch_idx, dataloader_idx, dataloader_iter)
            return
        trainer, progress = self.trainer, self.batch_progress
        module: Any = trainer.lightning_module
        progress.increment_ready()
        trainer._logger_connector.on_batch_start(batch)
        progress.increment_started()
        step = module.test_step if trainer.testing else module.validation_step
        step(batch, batch_idx)
        progress.increment_processed()
        _, after = self._hooks
        for callback in self._callbacks:
            getattr(callback, after)(trainer, module, None, batch, batch_idx)
        trainer._logger_connector.on_batch_end()
        progress.increment_completed()
        self._has_run = True
        self._seen_batches_per_dataloader[dataloader_idx] += 1
        if not progress.is_last_batch and trainer.received_sigterm:
            raise SIGTERMException


@final
class LoggedMetrics(_ResultCollection):
    """Metrics that a loop logs, each on its device already.

    Lightning moves a metric to its device whenever it is logged, which takes most of the time of logging.
    """

    def __setitem__(self, key: str, metric: _ResultMetric) -> None:
        """Store a metric."""
        vars(metric)["to"] = partial(_moved, metric)
        super().__setitem__(key, metric)


def _moved(metric: _ResultMetric, device: torch.device | str) -> _ResultMetric:
    known = metric.is_tensor and metric.value.device == torch.device(device)
    return metric if known else _ResultMetric.to(metric, device)


def use_evaluation_loops(trainer: pl.Trainer) -> None:
    """Replace a trainer's loops over the batches of its evaluations."""
    trainer.fit_loop.epoch_loop.val_loop = EvaluationLoop(trainer, trainer.fit_loop.epoch_loop.val_loop)
    trainer.validate_loop = EvaluationLoop(trainer, trainer.validate_loop)
    trainer.test_loop = EvaluationLoop(trainer, trainer.test_loop)
