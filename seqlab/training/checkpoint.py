"""Checkpoints: files written whole or not at all, the best weights, and the state to resume from."""

import logging
import math
import os
import random
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

from seqlab.contracts import UserError
from seqlab.distributed.collectives import RankConsensus, all_gather
from seqlab.distributed.signals import StoppedError, StopRequest
from seqlab.errors import one_line
from seqlab.io.atomic import replacing, write_atomically
from seqlab.io.formatting import relative_path
from seqlab.io.safe_io import check_within, open_regular
from seqlab.io.tensors import check_archive, check_values
from seqlab.runs.run_folder import BEST, MODEL, RESUME, write_weights
from seqlab.training.module import SequenceModule

_NEEDED = ("state_dict", "callbacks", "loops", "optimizer_states", "epoch", "global_step")
"""What Lightning writes into every checkpoint."""


@final
class AtomicCheckpointIO(CheckpointIO):
    """Writes to a temporary file, syncs and renames; reads tensors and plain values only, never code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the file, or leave the old one as it was."""
        write_atomically(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read the file with ``weights_only=True``, whatever is asked for."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the file."""
        Path(path).unlink(missing_ok=True)


def checkpoint_path(asked: str | None, folder: Path) -> Path | None:
    """Find the checkpoint that ``ckpt_path`` names.

    Args:
        asked: ``None``, ``last`` or ``best`` (of this run folder) or a file.
        folder: the run folder.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    if asked is None:
        return None
    named = {"last": RESUME, "best": BEST}
    path = folder / named[asked] if asked in named else Path(asked)
    if path.is_dir():
        raise UserError(
            f"ckpt_path={asked}: {relative_path(path)} is a folder; name a file, such as {relative_path(path / RESUME)}"
        )
    if not path.is_file():
        hint = f"; hydra.run.dir=RUN_DIR says whose {asked} checkpoint is meant" if asked in named else ""
        raise UserError(f"ckpt_path={asked}: there is no {relative_path(path)}{hint}")
    if asked in named:
        check_within(folder, path)
    try:
        read_checkpoint(path)
    except UserError as error:
        raise UserError(f"ckpt_path={asked}: {error}") from error
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint: tensors and plain values, no code, and no more of them than the file has bytes.

    Raises:
        UserError: it is none, or it has something else in it.
    """
    try:
        with warnings.catch_warnings(), open_regular(path) as file:
            warnings.simplefilter("ignore")  # torch warns of odd archives before it refuses them
            check_archive(file)
            loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=False)
            check_values(loaded, os.fstat(file.fileno()).st_size)
    except Exception as error:
        raise UserError(f"{relative_path(path)} cannot be read: {one_line(error)[:200]}") from error
    if not isinstance(loaded, dict) or (lacking := [key for key in _NEEDED if key not in loaded]):
        what = ", ".join(lacking) if isinstance(loaded, dict) else "keys"
        raise UserError(f"{relative_path(path)} is no checkpoint of a run: it has no {what}")
    return loaded


log = logging.getLogger("seqlab")

_SAVE = 1
"""What a process asks for when it is time to save; the number of a signal, always greater, asks for an end."""


@final
class RunCheckpoint(Checkpoint):
    """Keeps the weights of the best epoch in ``model.safetensors`` and everything else in ``resume.ckpt``.

    Both are written at the end of an epoch, and ``resume.ckpt`` every few minutes within it, always after a step of
    the optimiser. The states of all random generators go along, so that a resumed run draws what the uninterrupted
    one would have drawn. ``best.ckpt`` is the ``resume.ckpt`` of the best epoch.

    A signal that asks for an end is honoured after the step at hand. Where it comes between an epoch's last step and
    the end of its validation, the epoch is ended first, if that takes no longer than ``grace`` seconds. On several
    devices, all stop after the same step, whichever of them was asked.

    Where ``max_steps`` ends training within an epoch, ``resume.ckpt`` is written before the validation that this adds,
    so that a run with a larger ``max_steps`` goes on as one that never stopped; the choice of the best weights is added
    to it afterwards.

    Args:
        folder: the run folder.
        monitor: the metric that chooses, ``valid/<name>``.
        mode: whether larger (``max``) or smaller (``min``) is better.
        stop: what signals ask.
        minutes: work that can be lost, at most.
        grace: seconds of validation that a stopped run may still take.
        until: the step of the optimiser after which to save and stop, for a run that is replayed in parts.

    Attributes:
        best, best_epoch, best_step, best_metrics: of the weights that were chosen.
        validated: the step of the optimiser after which validation was last.
        record: goes into each checkpoint under its key, given whole epochs and steps done.
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
    ) -> None:
        self.folder, self.monitor, self.mode = folder, monitor, mode
        self.stop, self.seconds, self.grace, self.until = stop, 60 * minutes, grace, until
        self.record: tuple[str, Callable[[int, int], dict[str, Any]]] | None = None
        self.best: float | None = None
        self.best_epoch = self.best_step = self.validated = -1
        self.best_metrics: dict[str, float] = {}
        self.began = False
        self._rng: list[dict[str, Any]] = []
        self._forgets = False
        self._saved, self._is_asked, self._ended = time.monotonic(), False, False
        self._agreement = RankConsensus()

    def start_with(self, weights: Mapping[str, torch.Tensor] | None) -> None:
        """Go on from another folder's checkpoint: take over the weights that it chose, or choose anew without them."""
        if weights is None:
            self._forgets = True
            log.warning("ckpt_path: the weights that validation chose before are not beside it; it chooses anew")
        else:
            write_weights(self.folder / MODEL, weights)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Save when it is time, or when a signal came; an epoch's last step waits for validation."""
        done = trainer.fit_loop.epoch_loop.batch_idx + 1
        if done % trainer.accumulate_grad_batches or done >= trainer.num_training_batches:
            return
        if trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step:
            self._save(trainer)
            self._ended = True
            trainer.should_stop = True  # so that Lightning validates here
            return
        if self.until == trainer.global_step:
            self._save(trainer)
            raise ReachedError
        it_is_time = time.monotonic() - self._saved >= self.seconds and not self._is_asked
        self._is_asked |= it_is_time
        asked = self._agreement.ask(self.stop.by or _SAVE * it_is_time)
        if asked:
            self._save(trainer)
        _stop_if(asked)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """End a validation for which there is no time left."""
        late = self.stop.by if self.stop.overdue(self.grace) else None
        _stop_if(self._agreement.ask(late or 0))

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.folder / RESUME)
        self._saved, self._is_asked = time.monotonic(), False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what this epoch changed."""
        assert isinstance(pl_module, SequenceModule)
        metrics = _validation_metrics(trainer)
        if self.monitor.partition("/")[2] not in metrics:
            raise UserError(f"the task monitors {self.monitor}, but validation gave {', '.join(metrics) or 'nothing'}")
        self._consider(metrics, trainer, pl_module)
        if self._ended:
            self._add_choice(trainer)
        else:
            self._save(trainer)
        if trainer.is_global_zero and self.best_epoch == trainer.current_epoch:
            _also(self.folder / RESUME, self.folder / BEST)
        if not trainer.should_stop and trainer.current_epoch + 1 != trainer.max_epochs:
            if self.until == trainer.global_step:
                raise ReachedError
            _stop_if(self._agreement.settle(self.stop.by or 0))

    def _add_choice(self, trainer: pl.Trainer) -> None:
        """Add to ``resume.ckpt``, which stands before the last validation, what that chose."""
        if not trainer.is_global_zero:
            return
        saved = read_checkpoint(self.folder / RESUME)
        saved["callbacks"][self.state_key] |= self._choice()
        write_atomically(self.folder / RESUME, lambda file: torch.save(saved, file))

    def keep(self, trainer: pl.Trainer, module: SequenceModule) -> None:
        """Keep a model that was validated outside training."""
        metrics = _validation_metrics(trainer)
        self._consider(metrics, trainer, module)

    def _consider(self, metrics: dict[str, float], trainer: pl.Trainer, module: SequenceModule) -> None:
        score = metrics[self.monitor.partition("/")[2]]
        self.validated = trainer.global_step
        if self._better(score):
            self.best, self.best_metrics = score, metrics
            self.best_epoch, self.best_step = trainer.current_epoch, trainer.global_step
            if trainer.is_global_zero:
                write_weights(self.folder / MODEL, module.model.state_dict())

    def _better(self, score: float) -> bool:
        if self.best is None or math.isnan(self.best):  # with which no later score compares as better
            return self.best is None or not math.isnan(score)
        return score > self.best if self.mode == "max" else score < self.best

    def state_dict(self) -> dict[str, Any]:
        """Remember the best epoch and the random generators."""
        return {**self._choice(), "rng": all_gather(rng_state())}

    def _choice(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_step": self.best_step,
            "best_metrics": self.best_metrics,
            "validated": self.validated,
        }

    def chosen(self) -> dict[str, Any]:
        """Return when validation chose the weights, and by which value of the metric, for the record."""
        step = None if self.best_step < 0 else self.best_step  # which an earlier release did not keep
        return {"epoch": self.best_epoch, "step": step, "valid": self.best}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Record what the run was trained with so far."""
        if self.record is not None:
            key, state = self.record
            checkpoint[key] = state(*progress_of(trainer))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back; the generators wait until training starts, since building the model drew from them."""
        self._rng = state_dict["rng"]
        if self._forgets:
            return
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self.best_metrics = state_dict["best_metrics"]
        # A release before these were kept validated at the end of epochs alone.
        self.best_step, self.validated = state_dict.get("best_step", -1), state_dict.get("validated", -1)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the generators to where the checkpoint left them."""
        self.stop.listen_again()
        self._saved = time.monotonic()
        if trainer.global_rank < len(self._rng):
            set_rng_state(self._rng[trainer.global_rank])
        self._rng, self.began = [], True


@final
class ReachedError(Exception):
    """A run stopped after the step that it was to stop after."""


def progress_of(trainer: pl.Trainer) -> tuple[int, int]:
    """Return how many whole epochs and how many steps of the optimiser are done."""
    loop: Any = trainer.fit_loop
    batches = loop.epoch_loop.batch_progress.current.ready
    is_partial = bool(batches) and batches < trainer.num_training_batches
    processed = loop.epoch_progress.current.processed
    is_ended = processed == loop.epoch_progress.current.ready  # as the loop has it, where max_steps ends an epoch
    return processed - (is_partial and is_ended), trainer.global_step


def _validation_metrics(trainer: pl.Trainer) -> dict[str, float]:
    found = trainer.callback_metrics.items()
    return {name.partition("/")[2]: float(value) for name, value in found if name.startswith("valid/")}


def _stop_if(asked: int) -> None:
    """End what can be continued, where a signal asked for it."""
    if asked > _SAVE:
        raise StoppedError(signal.Signals(asked))


def _also(path: Path, name: Path) -> None:
    """Give a file a second name, by a link where there are links."""
    with replacing(name) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def rng_state() -> dict[str, Any]:
    """Gather the states of the random generators as tensors and plain values."""
    version, internal, gauss = random.getstate()
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": [version, list(internal), gauss]}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the random generators where :func:`rng_state` found them."""
    torch.set_rng_state(state["torch"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    for device, generator in zip(range(torch.cuda.device_count()), state.get("cuda", ()), strict=False):
        torch.cuda.set_rng_state(generator, device)  # there may be fewer devices than there were, or more
