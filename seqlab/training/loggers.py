"""Loggers of curves: CSV, TensorBoard, Weights & Biases."""

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from seqlab.contracts import UserError
from seqlab.io.atomic import write_text
from seqlab.io.safe_io import read_bytes
from seqlab.runs.curves import CurvesLogger

_WANDB_ID = "wandb.id"
_NAMES = ("csv", "none", "tensorboard", "wandb")


@contextmanager
def open_logger(config: Mapping[str, Any], folder: Path) -> Iterator[Logger | None]:
    """Build the configured logger, log the config, and close it at the end, so that the next run starts its own.

    Args:
        config: of the run.
        folder: the run folder.
    """
    logger, failed = make_logger(config["logger"], folder), True
    try:
        if logger is not None:
            logger.log_hyperparams({**config, "folder": str(folder)})
        yield logger
        failed = False
    finally:
        if isinstance(logger, WandbLogger):
            import wandb

            wandb.finish(exit_code=int(failed))


def make_logger(config: Mapping[str, Any], folder: Path) -> Logger | None:
    """Build the configured logger; its files are in the run folder.

    Args:
        config: the node ``logger``.
        folder: the run folder.

    Raises:
        UserError: the name is unknown, or the logger is not installed.
    """
    name = config["name"]
    if name == "none":
        return None
    if name == "csv":
        return CurvesLogger(folder)
    if name == "tensorboard":
        try:
            return TensorBoardLogger(folder, name="tensorboard", default_hp_metric=False)
        except ModuleNotFoundError as error:
            raise UserError('logger=tensorboard: it is not installed; `pip install "seqlab[tb]"`') from error
    if name == "wandb":
        return _wandb(config, folder)
    raise UserError(f"logger.name must be one of {', '.join(_NAMES)}, got {name}")


def _wandb(config: Mapping[str, Any], folder: Path) -> Logger:
    offline = config["offline"]
    if offline is None:
        offline = os.environ.get("WANDB_MODE") == "offline" or not _logged_in()
    is_rank_0 = getattr(rank_zero_only, "rank", 0) == 0
    return WandbLogger(
        id=run_id(folder) if is_rank_0 else None,
        resume="allow",
        name=folder.name,
        save_dir=folder,
        project=config["project"],
        entity=config["entity"],
        group=config["group"],
        tags=list(config["tags"]),
        offline=offline,
    )


def run_id(folder: Path) -> str:
    """Return a run's id at Weights & Biases, which is kept in its folder for when the run resumes."""
    path = folder / _WANDB_ID
    if not path.exists() or not read_bytes(path, 1_000).strip():
        write_text(path, uuid.uuid4().hex[:12] + "\n")
    return read_bytes(path, 1_000).decode("utf-8").strip()


def _logged_in() -> bool:
    import wandb

    return wandb.Api is not None and wandb.setup().settings.api_key is not None
