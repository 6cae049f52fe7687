"""Checkpoints: atomic writing, safe reading, the best weights, and the state to resume from."""

import logging
import math
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from pytorch_lightning.callbacks import Checkpoint
from torch.utils._pytree import tree_map_only

from seqlab.contracts import UserError
from seqlab.data.lengths import LengthSchedule
from seqlab.distributed.collectives import RankConsensus, all_gather
from seqlab.distributed.signals import StoppedError, StopRequest
from seqlab.errors import one_line
from seqlab.io.atomic import replacing, write_atomically
from seqlab.io.formatting import relative_path
from seqlab.io.safe_io import check_within, open_regular
from seqlab.io.tensors import check_archive, check_values
from seqlab.runs.run_folder import BEST, MODEL, RESUME, write_weights
from seqlab.training.module import SequenceModule
from seqlab.training.process_state import rng_state, set_rng_state

log = logging.getLogger("seqlab")

_REQUIRED = ("state_dict", "callbacks", "loops", "optimizer_states", "epoch", "global_step")
"""Keys that Lightning writes into every checkpoint."""
_SAVE = 1
"""A rank's request to save; the number of a signal, always greater, is a request to stop."""
_PLAIN = (str, int, float)
"""Types of most values of a checkpoint; torch's functions for trees take a third of the time of saving."""
_PAUSE, _SMALL = 1.0, 2**20
"""Seconds between the checkpoints of two epochs, at least, of a model with so many parameters at most."""


@final
class StepReachedError(Exception):
    """The run stopped after the step ``until``."""


@final
class AtomicCheckpointIO(CheckpointIO):
    """Write to a temporary file and rename it; read tensors and plain values only, never code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the file; an error leaves the old one as it was."""
        whole = _mapped(_without_storage, checkpoint)  # a view would bring all of its storage
        write_atomically(Path(path), lambda file: torch.save(whole, file))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read the file with ``weights_only=True``, whatever the argument."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the file."""
        Path(path).unlink(missing_ok=True)


def _without_storage(value: torch.Tensor) -> torch.Tensor:
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()


def _mapped(change: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """Return a copy of nested containers with changed tensors."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if type(value) is dict:
        return {key: _mapped(change, each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_mapped(change, each) for each in value)
    if value is None or isinstance(value, _PLAIN):
        return value
    return tree_map_only(torch.Tensor, change, value)


@final
class Held:
    """Checkpoints that wait in memory to be written, as an epoch of a small model takes no longer than writing one.

    Attributes:
        last: of the last epoch; ``None`` if it is written.
        best: of the best epoch, with its weights; ``None`` if they are written.
    """

    last: dict[str, Any] | None = None
    best: tuple[dict[str, Any], dict[str, torch.Tensor]] | None = None

    def hold(self, checkpoint: Mapping[str, Any], model: torch.nn.Module | None) -> None:
        """Take the checkpoint of an epoch, and the weights if they are the best."""
        copies: dict[Any, torch.Tensor] = {}

        def copied(value: torch.Tensor) -> torch.Tensor:
            place = value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride(), value.dtype
            if place not in copies:  # tied weights stay tied
                copies[place] = value.detach().clone()
            return copies[place]

        last, best = _mapped(copied, checkpoint), self.best
        if model is not None:
            best = last, _mapped(copied, dict(model.state_dict()))
        self.last, self.best = last, best  # both or, where taking them fails, neither

    def write(self, folder: Path) -> None:
        """Write them into the run folder, the weights first, as everywhere."""
        last, best, self.last, self.best = self.last, self.best, None, None
        if best is not None:
            write_weights(folder / MODEL, best[1])
        if last is not None:
            write_atomically(folder / RESUME, lambda file: torch.save(last, file))
        if best is not None and best[0] is last:
            _link_or_copy(folder / RESUME, folder / BEST)
        elif best is not None:
            write_atomically(folder / BEST, lambda file: torch.save(best[0], file))


def checkpoint_path(ckpt_path: str | None, folder: Path) -> Path | None:
    """Return the file that ``ckpt_path`` names.

    Args:
        ckpt_path: ``None``, ``last`` or ``best`` (of this run folder) or a file.
        folder: the run folder.

    Raises:
        UserError: there is no such file.
    """
    if ckpt_path is None:
        return None
    named = {"last": RESUME, "best": BEST}
    path = folder / named[ckpt_path] if ckpt_path in named else Path(ckpt_path)
    if path.is_dir():
        example = relative_path(path / RESUME)
        raise UserError(f"ckpt_path={ckpt_path}: {relative_path(path)} is a folder; name a file, such as {example}")
    if not path.is_file():
        hint = "; name the run folder with hydra.run.dir=RUN_DIR" if ckpt_path in named else ""
        raise UserError(f"ckpt_path={ckpt_path}: there is no {relative_path(path)}{hint}")
    if ckpt_path in named:
        check_within(folder, path)
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint: tensors and plain values, no code, and no more of them than the file has bytes.

    Raises:
        UserError: it is no checkpoint, or it holds anything else.
    """
    try:
        with warnings.catch_warnings(), open_regular(path) as file:
            warnings.simplefilter("ignore")  # torch warns of odd archives before it refuses them
            check_archive(file)
            loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=False)
            check_values(loaded, os.fstat(file.fileno()).st_size)
    except Exception as error:
        raise UserError(f"{relative_path(path)} cannot be read: {one_line(error)[:200]}") from error
    if not isinstance(loaded, dict) or (missing := [key for key in _REQUIRED if key not in loaded]):
        what = ", ".join(missing) if isinstance(loaded, dict) else "keys"
        raise UserError(f"{relative_path(path)} is no checkpoint of a run: it has no {what}")
    return loaded


@final
class RunCheckpoint(Checkpoint):
    """Save the weights of the best epoch in ``model.safetensors`` and everything else in ``resume.ckpt``.

    Both are written at the end of an epoch, and ``resume.ckpt`` every few minutes within it, always after an optimiser
    step. Of a small model whose epochs take less than a second, they are written once a second and when training ends
    or fails. The states of all random generators are saved, so that a resumed run draws what the uninterrupted one
    would have drawn. ``best.ckpt`` is the ``resume.ckpt`` of the best epoch.

    After a signal, training stops after the current step. If it arrives between an epoch's last step and the end of
    its validation, validation is finished first if that takes at most ``grace`` seconds. On several devices all ranks
    stop after the same step, whichever of them received the signal.

    Where ``max_steps`` ends training within an epoch, ``resume.ckpt`` is written before the validation that this adds,
    so that a run with a larger ``max_steps`` continues like one that never stopped; the best score is added to it
    afterwards.

    Of a curriculum, the best epoch is that of the largest length whose validation solves the task, then of the best
    score at it.

    Args:
        folder: the run folder.
        monitor: the metric by which the best epoch is chosen, ``valid/<name>``.
        mode: whether larger (``max``) or smaller (``min``) is better.
        stop: the signals that arrived.
        minutes: between two checkpoints, at most.
        grace: seconds that validation may still take after a signal.
        until: the optimiser step after which to save and stop, for a run that is reproduced in segments.
        schedule: lengths of the training sequences, if they are generated.

    Attributes:
        best, best_epoch, best_step, best_metrics: of the best weights.
        best_length: of a curriculum, the length that the best weights solve; 0 where there is none.
        validated: the optimiser step after which validation last ran.
        record: a key of each checkpoint, and the function of whole epochs and steps that returns its value.
        random_state: returns the states of the random generators to save.
        has_started: whether training started, so that the checkpoint to resume from was loaded.
    """

    def __init__(
        self,
        folder: Path,
        monitor: str,
        mode: str,
        stop: StopRequest,
        minutes: float = 5.0,
        grace: float = 20.0,
        until: int | None = None,
        schedule: LengthSchedule | None = None,
    ) -> None:
        self.folder, self.monitor, self.mode = folder, monitor, mode
        self.stop, self.seconds, self.grace, self.until = stop, 60 * minutes, grace, until
        self.record: tuple[str, Callable[[int, int], dict[str, Any]]] | None = None
        self.best: float | None = None
        self.best_epoch = self.best_step = self.validated = -1
        self.best_metrics: dict[str, float] = {}
        self._schedule, self.best_length = schedule, 0
        self.has_started = False
        self._rng: list[dict[str, Any]] = []
        self.random_state = rng_state
        self._ignores_best, self._may_hold, self._is_first, self._held = False, False, True, Held()
        self._last_saved, self._has_requested, self._saved_before_validation = time.monotonic(), False, False
        self._consensus = RankConsensus()

    def adopt_best(self, weights: Mapping[str, torch.Tensor] | None) -> None:
        """Take over the best weights of another folder's checkpoint; without them, the best score is reset."""
        if weights is None:
            self._ignores_best = True
            log.warning("ckpt_path: the best weights so far are not beside the checkpoint; only later epochs count")
        else:
            write_weights(self.folder / MODEL, weights)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the random generators to their state in the checkpoint."""
        self.stop.reinstall_handlers()
        self._last_saved, self._is_first = time.monotonic(), True
        size = sum(parameter.numel() for parameter in pl_module.parameters())
        self._may_hold = trainer.world_size == 1 and size <= _SMALL
        if trainer.global_rank < len(self._rng):
            set_rng_state(self._rng[trainer.global_rank])
        self._rng, self.has_started = [], True

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Save after some minutes or a signal; an epoch's last step waits for validation."""
        done = trainer.fit_loop.epoch_loop.batch_idx + 1
        if done % trainer.accumulate_grad_batches or done >= trainer.num_training_batches:
            return
        if trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step:
            self._save(trainer)
            self._saved_before_validation = True
            trainer.should_stop = True  # so that Lightning validates here
            return
        if self.until == trainer.global_step:
            self._save(trainer)
            raise StepReachedError
        passed = time.monotonic() - self._last_saved
        if passed >= _PAUSE and self._held.last is not None:
            self._write_held()
        is_due = passed >= self.seconds and not self._has_requested
        self._has_requested |= is_due
        requested = self._consensus.delayed_max(self.stop.by or _SAVE * is_due)
        if requested:
            self._save(trainer)
        _raise_if_stopped(requested)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Stop a validation that takes longer than the grace period."""
        late = self.stop.by if self.stop.is_older_than(self.grace) else None
        _raise_if_stopped(self._consensus.delayed_max(late or 0))

    def _save(self, trainer: pl.Trainer) -> None:
        self._held.last = None
        self._held.write(self.folder)
        trainer.save_checkpoint(self.folder / RESUME)
        self._last_saved, self._has_requested, self._is_first = time.monotonic(), False, False

    def _write_held(self) -> None:
        if self._held.last is not None or self._held.best is not None:
            self._held.write(self.folder)
            self._last_saved = time.monotonic()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what waits in memory."""
        self._write_held()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write what waits in memory."""
        self._write_held()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the best weights if they changed, and the state to resume from."""
        assert isinstance(pl_module, SequenceModule)
        metrics = validation_metrics(trainer)
        if self.monitor.partition("/")[2] not in metrics:
            logged = ", ".join(metrics) or "nothing"
            raise UserError(f"the task monitors {self.monitor}, but validation logged {logged}")
        waits = self._may_hold and not self._is_first and not self._saved_before_validation
        waits = waits and time.monotonic() - self._last_saved < min(_PAUSE, self.seconds)
        is_best = self.update_best(trainer, pl_module, write=not waits)
        if is_best and not waits:  # its weights are written
            self._held.best = self._held.last = None
        if waits:
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            self._held.hold(checkpoint, pl_module.model if is_best else None)
        elif self._saved_before_validation:
            self._write_held()
            self._add_best(trainer)
        else:
            self._save(trainer)
        if trainer.is_global_zero and self.best_epoch == trainer.current_epoch and not waits:
            _link_or_copy(self.folder / RESUME, self.folder / BEST)
        if not trainer.should_stop and trainer.current_epoch + 1 != trainer.max_epochs:
            if self.until == trainer.global_step:
                raise StepReachedError
            _raise_if_stopped(self._consensus.all_reduce_max(self.stop.by or 0))

    def _add_best(self, trainer: pl.Trainer) -> None:
        """Add the best score to ``resume.ckpt``, which was written before the last validation."""
        if not trainer.is_global_zero:
            return
        saved = read_checkpoint(self.folder / RESUME)
        saved["callbacks"][self.state_key] |= self._best_state()
        write_atomically(self.folder / RESUME, lambda file: torch.save(saved, file))

    def update_best(self, trainer: pl.Trainer, module: SequenceModule, *, write: bool = True) -> bool:
        """Save the weights if the last validation is the best so far; return whether it is.

        Args:
            trainer: of the run.
            module: with the weights.
            write: whether to write them.
        """
        metrics = validation_metrics(trainer)
        score = metrics[self.monitor.partition("/")[2]]
        self.validated = trainer.global_step
        length = 0
        if self._schedule is not None and self._schedule.is_curriculum and (last := self._schedule.last) is not None:
            length = last.length if last.passed else 0
        if length > self.best_length or (length == self.best_length and self._is_better(score)):
            self.best_length, self.best, self.best_metrics = length, score, metrics
            self.best_epoch, self.best_step = trainer.current_epoch, trainer.global_step
            if trainer.is_global_zero and write:
                write_weights(self.folder / MODEL, module.model.state_dict())
            return True
        return False

    def _is_better(self, score: float) -> bool:
        if self.best is None or math.isnan(self.best):  # no score compares as better than NaN
            return self.best is None or not math.isnan(score)
        return score > self.best if self.mode == "max" else score < self.best

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the record of the run so far."""
        if self.record is not None:
            key, state = self.record
            checkpoint[key] = state(*training_progress(trainer))

    def state_dict(self) -> dict[str, Any]:
        """Return the best score and the states of the random generators of all ranks."""
        return {**self._best_state(), "rng": all_gather(self.random_state())}

    def _best_state(self) -> dict[str, Any]:
        names = ("best", "best_epoch", "best_step", "best_metrics", "validated", "best_length")
        reached = None if self._schedule is None else self._schedule.reached
        return {**{name: getattr(self, name) for name in names}, "reached": reached}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score; the generators follow when training starts, as building the model draws from them."""
        self._rng = state_dict["rng"]
        if self._ignores_best:
            return
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self.best_metrics = state_dict["best_metrics"]
        # Earlier releases did not save these two, and validated at the end of epochs only.
        self.best_step, self.validated = state_dict.get("best_step", -1), state_dict.get("validated", -1)
        self.best_length = state_dict.get("best_length", 0)
        if self._schedule is not None:
            self._schedule.reached = state_dict.get("reached")

    def best_record(self) -> dict[str, Any]:
        """Return epoch, step and score of the best weights, for ``results.json``."""
        step = None if self.best_step < 0 else self.best_step  # earlier releases did not save it
        return {"epoch": self.best_epoch, "step": step, "valid": self.best}


def training_progress(trainer: pl.Trainer) -> tuple[int, int]:
    """Return the number of whole epochs and of optimiser steps that are done."""
    loop: Any = trainer.fit_loop
    batches = loop.epoch_loop.batch_progress.current.ready
    is_partial = bool(batches) and batches < trainer.num_training_batches
    processed = loop.epoch_progress.current.processed
    is_ended = processed == loop.epoch_progress.current.ready  # as the loop counts where max_steps ends an epoch
    return processed - (is_partial and is_ended), trainer.global_step


def validation_metrics(trainer: pl.Trainer) -> dict[str, float]:
    """Return the metrics that the last validation logged as ``valid/<name>``, by name."""
    logged = trainer.callback_metrics.items()
    return {name.removeprefix("valid/"): float(value) for name, value in logged if name.startswith("valid/")}


def _raise_if_stopped(requested: int) -> None:
    if requested > _SAVE:
        raise StoppedError(signal.Signals(requested))


def _link_or_copy(path: Path, name: Path) -> None:
    """Give a file a second name, by a hard link where the file system has them."""
    with replacing(name) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
