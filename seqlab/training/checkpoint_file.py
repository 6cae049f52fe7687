"""Checkpoint files: written whole or not at all, read without running code."""

import os
import warnings
from pathlib import Path
from typing import Any, final

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO

from seqlab.bounded import open_regular, within
from seqlab.contracts import UserError
from seqlab.discovery.registry import one_line
from seqlab.training.archive import check_archive, check_values
from seqlab.training.runfolder import BEST, RESUME, relative, write_atomically

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
            f"ckpt_path={asked}: {relative(path)} is a folder; name a file, such as {relative(path / RESUME)}"
        )
    if not path.is_file():
        hint = f"; hydra.run.dir=RUN_DIR says whose {asked} checkpoint is meant" if asked in named else ""
        raise UserError(f"ckpt_path={asked}: there is no {relative(path)}{hint}")
    if asked in named:
        within(folder, path)
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
        raise UserError(f"{relative(path)} cannot be read: {one_line(error)[:200]}") from error
    if not isinstance(loaded, dict) or (lacking := [key for key in _NEEDED if key not in loaded]):
        what = ", ".join(lacking) if isinstance(loaded, dict) else "keys"
        raise UserError(f"{relative(path)} is no checkpoint of a run: it has no {what}")
    return loaded
