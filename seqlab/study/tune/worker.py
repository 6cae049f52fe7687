"""Process of a search: trains one trial after another, and reports each epoch to the process that started it."""

import logging
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, final

import pytorch_lightning as pl

from seqlab.config.compose import Composer
from seqlab.distributed.signals import StoppedError
from seqlab.errors import UserError, one_line
from seqlab.io.formatting import shell_command
from seqlab.plugins.hydra_source import Sources, sources, using_sources
from seqlab.runs.ownership import OwnedError, owned_folder
from seqlab.runs.run_folder import BEST, RESULTS, RESUME
from seqlab.sweeps.ledger import run_status
from seqlab.training.checkpoint import validation_metrics

SILENT = "trainer.progress=false"
"""Override of every run that does not change its key."""
_GRACE = 60.0
"""Seconds in which a process may save its run after its parent ended, and another waits for it."""


@final
@dataclass(frozen=True)
class Job:
    """What a process does next.

    Attributes:
        number: of the trial.
        words: overrides of its run.
        run: name of its run folder.
        kind: ``train`` without a score of the test split, or ``finish``, which trains what is left and scores it.
    """

    number: int
    words: tuple[str, ...]
    run: str
    kind: Literal["train", "finish"] = "train"


@final
@dataclass(frozen=True)
class Epoch:
    """Validation of a trial.

    Attributes:
        percent: of the updates that are done.
        value: of the metric that is searched.
    """

    percent: int
    value: float


@final
@dataclass(frozen=True)
class End:
    """End of a job.

    Attributes:
        state: how it ended; ``stopped`` by a signal.
        metrics: of validation.
        seconds: in this process.
        cause: of a failure.
    """

    state: Literal["complete", "pruned", "failed", "stopped"]
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    cause: str | None = None


@final
class Reporter(pl.Callback):
    """Report each validation, and stop the run where the answer is to stop it."""

    def __init__(self, connection: Connection, metric: str) -> None:
        self.connection, self.metric, self.is_pruned = connection, metric, False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Send the metric, and wait for the answer."""
        value = validation_metrics(trainer).get(self.metric, math.nan)
        if math.isfinite(value):
            percent = int(100 * trainer.global_step / max(1, trainer.estimated_stepping_batches))
            self.connection.send(Epoch(percent, value))
            if self.connection.recv():
                self.is_pruned = trainer.should_stop = True


def work(connection: Connection, folder: Path, metric: str, chosen: Sources) -> None:
    """Do jobs until there is none; the target of a process.

    Args:
        connection: receives each :class:`Job`, ``None`` at the end; sends :class:`Epoch` and :class:`End`.
        folder: of the search.
        metric: of validation that is searched.
        chosen: sources of the configs.
    """
    _follow_parent()
    composer = Composer()
    try:
        with using_sources(chosen):
            while (job := connection.recv()) is not None:
                connection.send(_done(job, folder, metric, composer, connection))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):  # the parent ended
        return


def _done(job: Job, folder: Path, metric: str, composer: Composer, connection: Connection) -> End:
    began = time.monotonic()
    try:
        config = composer.checked([*job.words, SILENT])
        place = folder / job.run
        with ExitStack() as owner:
            _own(place, owner)
            record = owner.enter_context(run_status(place, job.words))
            if job.kind == "finish":
                metrics = _finish(config, place, job.words)
                record.update(state="done", objective=metrics.pop("objective"))
                return End("complete", metrics, time.monotonic() - began)
            is_pruned, metrics = _train(config, place, Reporter(connection, metric))
            what = "stopped early" if is_pruned else "trained"
            for name in (RESUME, BEST) if is_pruned else ():
                (place / name).unlink(missing_ok=True)  # the larger part of the folder
            record["cause"] = f"trial {job.number}: {what}; the test split is not scored"
        return End("pruned" if is_pruned else "complete", metrics, time.monotonic() - began)
    except StoppedError:
        return End("stopped", {}, time.monotonic() - began)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        kind = "" if isinstance(error, UserError | ValueError) else f"{type(error).__name__}: "
        return End("failed", {}, time.monotonic() - began, (kind + one_line(error))[:300])


def _train(config: Any, place: Path, reporter: Reporter) -> tuple[bool, dict[str, float]]:
    from seqlab.training.run import train

    if (place / RESUME).exists():
        config.ckpt_path = "last"
    metrics = train(config, place, [reporter])
    return reporter.is_pruned, metrics


def _finish(config: Any, place: Path, words: Sequence[str]) -> dict[str, float]:
    """Score the test split, unless that is done; return the best validation value as ``objective``."""
    from seqlab.runs.run_folder import read_json
    from seqlab.training.run import run

    if (place / RESULTS).is_file():
        return {"objective": float(read_json(place / RESULTS)["best"]["valid"])}
    if (place / RESUME).exists():
        config.ckpt_path = "last"
    return {"objective": run(config, place, shell_command(*sources().arguments, *words)).objective}


def _own(place: Path, owner: ExitStack) -> None:
    """Own a run folder; wait for the process of a search that was killed, which ends soon."""
    end = time.monotonic() + _GRACE
    while True:
        try:
            owner.enter_context(owned_folder(place))
        except OwnedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return


def _follow_parent() -> None:
    """Stop with the parent; Ctrl-C arrives through it alone."""
    import torch

    os.setpgid(0, 0)
    torch.set_num_threads(1)
    logging.getLogger("seqlab").setLevel(logging.ERROR)
    logging.raiseExceptions = False
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)  # a run in training saves its checkpoint
            time.sleep(_GRACE)
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
