"""Training loop of an epoch with little overhead for the plain case; every other case is Lightning's."""

from typing import Any, final

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.loops.fetchers import _DataFetcher
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from seqlab.contracts import Batch
from seqlab.training.callbacks import TimeBudget
from seqlab.training.checkpoint import RunCheckpoint
from seqlab.training.curriculum import LengthTracker
from seqlab.training.optimizers import NonMonotonicAveraging
from seqlab.training.steps.evaluation import use_evaluation_loops
from seqlab.training.steps.plain import is_plain, overrides
from seqlab.training.steps.threads import MeasuredThreads

_HOOKS = (
    "on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step",
)  # fmt: skip
"""Hooks of callbacks within a step."""
_LOG_NOTHING = (TimeBudget, RunCheckpoint, LengthTracker, NonMonotonicAveraging, MeasuredThreads, RichProgressBar)
"""Callbacks that need no more of a step than the call of ``on_train_batch_end``."""


@final
class EpochLoop(_TrainingEpochLoop):
    """Lightning's loop over the batches of an epoch, without what a plain step does not need.

    A step is plain on one CPU in full precision, without accumulation of gradients, schedulers or profiler of
    Lightning, and with no callback but those of the core within it. Lightning's loop spends about 1 ms on each step:
    profiler contexts, hooks that nothing implements, results that nothing was logged to. The operations on tensors are
    the same in the same order, so are counters and checkpoints.
    """

    _is_plain = False
    _callbacks: tuple[pl.Callback, ...] = ()

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        """Decide whether the steps of this epoch are plain."""
        super().on_run_start(data_fetcher)
        trainer = self.trainer
        within = [each for each in trainer.callbacks if any(overrides(each, hook) for hook in _HOOKS)]
        self._callbacks = tuple(within)
        self._is_plain = (
            is_plain(trainer, data_fetcher)
            and trainer.accumulate_grad_batches == 1
            and len(trainer.optimizers) == 1
            and not trainer.lr_scheduler_configs
            and all(type(each) in _LOG_NOTHING for each in within)
        )

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Train on a batch."""
        if not self._is_plain or self._restarting:
            super().advance(data_fetcher)
            return
        if self.val_loop._restarting:
            self.val_loop.restarting = False
        trainer, progress = self.trainer, self.batch_progress
        batch, index = next(data_fetcher)[0], progress.current.ready
        progress.is_last_batch = data_fetcher.done
        progress.increment_ready()
        if trainer._logger_connector._first_loop_iter is None:  # it ignores what is logged before the first batch
            trainer._logger_connector.on_batch_start(None)
        progress.increment_started()
        loss = self._step(batch, index)
        progress.increment_processed()
        outputs: Any = {} if loss is None else {"loss": loss.detach()}
        for callback in self._callbacks:
            callback.on_train_batch_end(trainer, trainer.lightning_module, outputs, batch, index)
        progress.increment_completed()

    def _step(self, batch: Batch, index: int) -> Tensor | None:
        """Compute loss and gradients, and change the weights; return the loss."""
        trainer, progress = self.trainer, self.automatic_optimization.optim_progress.optimizer
        module, optimizer = trainer.lightning_module, trainer.optimizers[0]
        progress.step.increment_ready()
        loss: Any = module.training_step(batch, index)
        progress.zero_grad.increment_ready()
        progress.zero_grad.increment_started()
        optimizer.zero_grad()
        progress.zero_grad.increment_completed()
        if loss is not None:
            loss.backward()
        module.on_before_optimizer_step(optimizer)
        module.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
        optimizer.step()
        progress.step.increment_completed()
        return loss  # type: ignore[no-any-return]  # a hook's result

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        """Validate at the end of an epoch, or where the run stops."""
        if not self._is_plain or self._skip_next_val or self.trainer.should_stop or self._must_check(data_fetcher):
            super().on_advance_end(data_fetcher)
            return
        self._batches_that_stepped += 1
        if self.trainer.received_sigterm:
            raise SIGTERMException

    def _must_check(self, data_fetcher: _DataFetcher) -> bool:
        """Return whether Lightning decides on validation, as it may follow this batch."""
        trainer, done = self.trainer, self.batch_progress.current.ready
        return data_fetcher.done or done % trainer.val_check_batch == 0


def use_epoch_loop(trainer: pl.Trainer) -> None:
    """Replace a trainer's loops over the batches of an epoch and of an evaluation."""
    loop = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = EpochLoop(trainer, min_steps=loop.min_steps, max_steps=loop.max_steps)
    use_evaluation_loops(trainer)
