"""Number of CPU threads of a run, measured (``trainer.threads=auto``)."""

import logging
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

import numpy as np
import pytorch_lightning as pl
import torch

from seqlab.data.loaders import widened
from seqlab.distributed.devices import Threads, available_cores
from seqlab.training.module import SequenceModule
from seqlab.training.process_state import rng_state, set_rng_state

log = logging.getLogger("seqlab")

AUTO = "auto"
"""The value of ``trainer.threads`` for which it is measured."""
SECONDS = 1.0
"""Longest time of a measurement."""
SHARE = 0.01
"""Largest share of the training time that a measurement takes, unless its fewest turns take longer."""
TURNS = 3, 20
"""Fewest and most turns."""
FEWEST_STEPS = 160
"""Steps of a run below which the fewest turns would take more than about 5 % of its time."""
GAIN = 0.97
"""Time of a step with all threads, relative to one, up to which all are used: cores that gain little are left free."""
HOPELESS = 2.0
"""Factor by which every step with several threads is slower for the measurement to end after two turns."""
SLOWER = 1.5
"""Factor by which the steps with several threads become slower before the threads are measured again."""
FIRST_CHECK = 30.0
"""Seconds of training after which one thread is measured again; then after twice as many, and so on."""
WINDOW = 5.0
"""Seconds over which the speed of the steps is watched."""

Clock = Callable[[], float]


def time_in_turns(
    step: Callable[[], object], numbers: tuple[int, int], steps: float, clock: Clock
) -> tuple[float, float]:
    """Return the median seconds of a step with each of two numbers of threads, measured in turns.

    Args:
        step: computes a step; called once for each number before anything is measured.
        numbers: of threads.
        steps: of training; the measurement takes at most :data:`SHARE` of their time, and :data:`SECONDS`.
        clock: measures seconds.
    """
    found: tuple[list[float], list[float]] = [], []

    def once(which: int) -> float:
        torch.set_num_threads(numbers[which])
        began = clock()
        step()
        return clock() - began

    once(0)  # it may compile a kernel
    began, limit = clock(), min(SECONDS, SHARE * steps * once(0))
    once(1)  # it starts the threads
    for turn in range(TURNS[1]):
        if turn >= TURNS[0] and clock() - began >= limit:
            break
        for which in (0, 1):
            found[which].append(once(which))
        if turn and min(found[1]) > HOPELESS * max(found[0]):
            break
    return statistics.median(found[0]), statistics.median(found[1])


@final
class MeasuredThreads(pl.Callback):
    """Choose one thread or all by the time of a step, before training and again where it may pay to change.

    A measurement computes the loss and the gradients of one batch, with one thread and with all in turns, and changes
    neither weights nor random numbers. All steps then have the same number of threads, so that a run with this number
    as ``trainer.threads`` gives the same bits. Where the steps with several threads become slower, as when another
    process takes a core, or after a while with one, it is measured again; a change is recorded with its step.

    Args:
        most: the largest number; with 1, nothing is measured, and the number of each part of a resumed run recorded.
        unmeasured: the choice for a run that is not measured, of one core, or of fewer than :data:`FEWEST_STEPS` steps.
        clock: measures seconds.

    Attributes:
        threads: in use, and why.
        history: numbers of threads, each with the optimiser step after which it was used.
    """

    def __init__(self, most: int, unmeasured: Threads, clock: Clock = time.perf_counter) -> None:
        self.all, self.clock, self.threads = min(most, available_cores()), clock, unmeasured
        self.history: list[list[int]] = []
        self._next_check, self._used = FIRST_CHECK, 0.0
        self._since: float | None = None
        self._steps, self._pace = 0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure before the first step."""
        assert isinstance(pl_module, SequenceModule)
        steps = trainer.estimated_stepping_batches - trainer.global_step
        if self.all > 1 and steps >= FEWEST_STEPS:
            self._measure(trainer, pl_module, steps)
        torch.set_num_threads(self.threads.number)
        self._record(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start a window: validation does not count."""
        self._since, self._steps = None, 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Watch the speed of the steps."""
        if self.all == 1:
            return
        now = self.clock()
        if self._since is None:
            self._since = now
            return
        self._steps += 1
        if now - self._since < WINDOW:
            return
        pace, seconds = (now - self._since) / self._steps, now - self._since
        self._since, self._steps, self._used = now, 0, self._used + seconds
        slower = self.threads.number > 1 and 0 < SLOWER * self._pace < pace
        self._pace = pace if not self._pace else min(pace, self._pace)
        if slower or (self.threads.number == 1 and self._used >= self._next_check):
            self._next_check = 2 * max(self._used, FIRST_CHECK)
            assert isinstance(pl_module, SequenceModule)
            self._measure(trainer, pl_module, self._used / pace)
            self._since, self._pace = None, 0.0
            self._record(trainer)

    def _record(self, trainer: pl.Trainer) -> None:
        if not self.history or self.history[-1][1] != self.threads.number:
            self.history.append([trainer.global_step, self.threads.number])
            log.debug("trainer.threads=auto: from step %d on %d, %s", trainer.global_step, *self.threads)

    def _measure(self, trainer: pl.Trainer, module: SequenceModule, steps: float) -> None:
        """Measure and choose.

        Args:
            trainer: of the run.
            module: of the run.
            steps: of which a measurement may take its share of time.
        """
        with _unchanged(module):
            step = one_step(trainer, module)
            one, several = time_in_turns(step, (1, self.all), steps, self.clock)
        number = self.all if several < GAIN * one else 1
        reason = f"measured: {1e3 * one:.3g} ms a step with 1 thread, {1e3 * several:.3g} ms with {self.all}"
        self.threads = Threads(number, reason)
        torch.set_num_threads(number)

    def state_dict(self) -> dict[str, Any]:
        """Return the history."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.history = [list(each) for each in state_dict["history"]]


def one_step(trainer: pl.Trainer, module: SequenceModule) -> Callable[[], object]:
    """Return a function that computes loss and gradients of a batch in the middle of the training data."""
    loader: Any = trainer.train_dataloader
    plan = loader.plan()
    batch = loader.build(plan[len(plan) // 2])
    batch = batch if loader.narrow_tokens else widened(batch)
    batch = trainer.precision_plugin.convert_input(batch)

    def step() -> None:
        with trainer.precision_plugin.train_step_context():
            loss: Any = module.task.loss(module.model(batch)[0], batch)
            loss.backward()
        module.zero_grad(set_to_none=True)

    return step


@contextmanager
def _unchanged(module: SequenceModule) -> Iterator[None]:
    """Restore random generators, gradients and buffers, and the loader's position."""
    generators, numpy = rng_state(), np.random.get_state()
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    gradients = [(each, each.grad) for each in module.parameters()]
    try:
        for each, _ in gradients:
            each.grad = None
        yield
    finally:
        set_rng_state(generators)
        np.random.set_state(numpy)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for each, gradient in gradients:
            each.grad = gradient
