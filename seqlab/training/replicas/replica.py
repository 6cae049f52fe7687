"""One replica: a run in Lightning's trainer whose optimiser steps its group takes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import pytorch_lightning as pl
import torch
from torch import Tensor

from seqlab.contracts import Batch, StatefulTask
from seqlab.distributed.signals import StopRequest
from seqlab.runs.ownership import logging_for
from seqlab.training.callbacks import Cost, TimeBudget
from seqlab.training.replicas import rules
from seqlab.training.replicas.stack import Member
from seqlab.training.replicas.turns import Turn, on_trainer

log = logging.getLogger("seqlab")

_STEP_HOOKS = (
    "on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step",
)  # fmt: skip
"""Hooks of callbacks within a step, which see one model's gradients."""


@final
class Replica:
    """A run whose training steps are taken by a group.

    Everything else (data, validation, checkpoints, callbacks, results) is done by the run's own session and trainer, in
    the turn of this replica: a checkpoint is that of a run by itself, and resumes alone or in a group.

    Args:
        run: the whole run.
        enter: called in its thread at the start of each turn.
        request: the signals that arrived, which the main thread alone can handle.

    Attributes:
        waits: whether it waits for its group's steps.
        is_checked: whether its loss in the group was compared with that of its own model.
        alone: why it trains by itself; ``None`` in a group.
        failure: the exception that ended its last step, to be raised in its turn.
        result: what ``run`` returned.
    """

    session: Any
    trainer: pl.Trainer
    module: Any

    def __init__(
        self, run: Callable[[], Any], enter: Callable[[], None] = lambda: None, request: StopRequest | None = None
    ) -> None:
        self._run, self.turn, self._request = run, Turn(self._begin, enter), request or StopRequest()
        self.waits, self.is_checked, self.result = False, False, None
        self.alone: str | None = None
        self.failure: BaseException | None = None
        self._batch: Batch | None = None

    def _begin(self) -> None:
        on_trainer.set(self._attach)
        self.result = self._run()

    def _attach(self, session: Any, trainer: pl.Trainer) -> None:
        """Take Lightning's place in advancing through the batches of an epoch."""
        self.session, self.trainer, self.module = session, trainer, session.module
        session.stop = session.checkpoints.stop = self._request  # also in validation, and where it trains by itself
        session.checkpoints.random_state = self.turn.random_state
        self.loop: Any = trainer.fit_loop.epoch_loop
        self._advance_alone = self.loop.advance
        attributes: dict[str, Any] = self.loop.__dict__
        attributes["advance"] = self._advance
        if (reason := _refusal(session, trainer)) is not None:
            self.train_alone(reason)
        on_cpu, precision = trainer.strategy.root_device.type == "cpu", session.config["trainer"]["precision"]
        self._keeps_batches = on_cpu and precision == "32-true"
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # a trainer has them
        self._callbacks = [each for each in callbacks if _overrides(each, "on_train_batch_end")]

    def _advance(self, fetcher: Any) -> None:
        """Wait until the group has taken the steps up to the next validation or to the end of training."""
        ends_epoch = self.loop.restarting and self.loop._should_check_val_fx(fetcher)
        if self.alone is None and not ends_epoch:
            self._fetcher, self.loop.val_loop.restarting = fetcher, False
            cost: Cost = self.session.cost
            budget: TimeBudget = self.session.budget
            cost.pause()
            budget.pause()
            self.waits = True
            try:
                self.turn.pause()
            finally:
                self.waits = False
                cost.resume()
                budget.resume()
            if self.alone is None:
                return
        self._advance_alone(fetcher)

    @property
    def member(self) -> Member:
        """The model and its optimiser."""
        return Member(self.session.model, self.trainer.optimizers[0])

    def resume(self) -> None:
        """Give it a turn, with the failure of its last step if there is one."""
        failure, self.failure = self.failure, None
        self.turn.resume(failure)

    def train_alone(self, reason: str) -> None:
        """Leave its steps to Lightning's loop, and log why."""
        self.alone = reason
        with logging_for(self.turn.thread):
            log.info("replicas: %s trains by itself: %s", self.session.folder.name, reason)

    def fetch(self) -> Batch:
        """Return the batch of the next step."""
        if self._batch is None:
            if self.is_checked:  # past the step that may be returned; Lightning's layers take longer than the loader
                fetcher = self._fetcher
                batch: Batch = next(fetcher.combined_loader._iterator.iterators[0])
                fetcher.fetched += 1
                fetcher.done = fetcher.fetched >= fetcher.length
            else:
                self._item = next(self._fetcher)
                batch = self._item[0]
            if not self._keeps_batches:
                batch = self.trainer.precision_plugin.convert_input(batch)
                batch = self.trainer.strategy.batch_to_device(batch)
            self._batch = batch
        return self._batch

    def return_batch(self) -> None:
        """Put the fetched batch back, for a step that is not taken in the group."""
        if self._batch is not None:
            self._fetcher.iterator = _preceded(self._item, self._fetcher.iterator)
            self._fetcher.fetched -= 1
            self._fetcher.done, self._batch = False, None

    def begin_step(self) -> None:
        """Count the batch, and set the learning rate of the step."""
        progress, optimizer = self.loop.batch_progress, self.loop.automatic_optimization.optim_progress.optimizer
        progress.is_last_batch = self._fetcher.done
        progress.increment_ready()
        progress.increment_started()
        optimizer.step.increment_ready()
        optimizer.zero_grad.increment_ready()
        optimizer.zero_grad.increment_started()
        optimizer.zero_grad.increment_completed()
        if self.module._guard is not None:
            self.module._guard.start_step(self._batch, None)
        self.module.on_before_optimizer_step(self.trainer.optimizers[0])

    def accepts(self, check: str, value: Any) -> bool:
        """Return whether the ``loss`` or ``gradient`` of the step is finite or fails the run."""
        guard = self.module._guard
        if guard is None or self.failure is not None:
            return self.failure is None
        accept = guard.accepts_loss if check == "loss" else guard.accepts_gradient
        try:
            with logging_for(self.turn.thread):
                return bool(accept(value, self.session.model, self.trainer.global_step, self.trainer.current_epoch))
        except Exception as error:
            self.failure = error
            return False

    def end_step(self, loss: Tensor | None) -> bool:
        """Count the step and call what callbacks do after it; return whether its turn has come.

        Args:
            loss: of the batch; ``None`` if the step was skipped for it.
        """
        batch, self._batch = self._batch, None
        loop, progress = self.loop, self.loop.batch_progress
        if self.failure is not None:
            return True
        if loss is not None:
            self.module.count(loss, batch)
        loop.automatic_optimization.optim_progress.optimizer.step.increment_completed()
        progress.increment_processed()
        try:
            with logging_for(self.turn.thread):
                self._call_callbacks(batch, loss)
        except BaseException as error:
            self.failure = error
            return True
        progress.increment_completed()
        if loop._is_training_done or self.trainer.should_stop:
            self.trainer._logger_connector.on_batch_start(batch)  # which the trainer's own loop does at every step
            self.trainer._logger_connector.on_batch_end()
            return True
        loop._batches_that_stepped += 1
        loop.on_iteration_done()
        return False

    def _call_callbacks(self, batch: Any, loss: Tensor | None) -> None:
        trainer, module, output = self.trainer, self.module, {} if loss is None else {"loss": loss}
        module._current_fx_name = "on_train_batch_end"
        for callback in self._callbacks:
            callback.on_train_batch_end(trainer, module, output, batch, self.loop.batch_idx)
        module._current_fx_name = None


def _preceded(item: Any, iterator: Any) -> Iterator[Any]:
    """Yield an item, then those of an iterator, without starting it again as ``iter`` of Lightning's would."""
    yield item
    while True:
        try:
            yield next(iterator)
        except StopIteration:
            return


def _overrides(callback: pl.Callback, hook: str) -> bool:
    return getattr(type(callback), hook) is not getattr(pl.Callback, hook)


def _refusal(session: Any, trainer: pl.Trainer) -> str | None:
    """Return why the steps of a run cannot be taken together with those of others; ``None`` where they can."""
    config = session.config["trainer"]
    if trainer.world_size > 1:
        return f"it trains on {trainer.world_size} devices"
    for key, needed in (("accumulate_grad_batches", 1), ("profiler", None)):
        if config[key] != needed:
            return f"trainer.{key} is {config[key]}"
    if config["precision"] not in ("32-true", "64-true"):
        return f"trainer.precision is {config['precision']}"
    if session.config["logger"]["name"] == "wandb":
        return "logger=wandb has one run at a time in a process"
    if isinstance(session.task, StatefulTask):
        return f"task={session.config['task']['name']} carries state from batch to batch"
    if any(getattr(part, "skips_parameters", False) for part in session.model.modules()):
        return "some batches use only some of its parameters"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # a trainer has them
        if found := [hook for hook in _STEP_HOOKS if _overrides(callback, hook)]:
            return f"the callback {type(callback).__name__} has {found[0]}"
    return None


def optimizer_refusal(replica: Replica) -> str | None:
    """Return the same for its optimiser, which exists from the first step on."""
    return rules.refusal(replica.trainer.optimizers[0])


def own_loss(replica: Replica, batch: Batch) -> tuple[float, str | None]:
    """Return the loss of a replica's own model on a batch, and why its steps cannot be batched, if they cannot.

    The model is left as it was.
    """
    model = replica.session.model
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    gpus = [batch.inputs.device] if batch.inputs.is_cuda else []
    with torch.no_grad(), torch.random.fork_rng(devices=gpus):
        before = _generators(gpus)
        loss = float(replica.session.task.loss(model(batch, None)[0], batch))
        after = _generators(gpus)
    reason = None
    if not all(map(torch.equal, before, after)):
        reason = "its model draws random numbers in training"
    for name, value in model.named_buffers():
        if not torch.equal(value, buffers[name]):
            value.copy_(buffers[name])
            reason = f"training changes its buffer {name}"
    return loss, reason


def _generators(gpus: Sequence[torch.device]) -> list[Tensor]:
    return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, gpus)]
