"""Where curves go: CSV, TensorBoard, Weights & Biases."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from seqlab.contracts import UserError
from seqlab.io.atomic import write_text
from seqlab.io.safe_io import read_bytes
from seqlab.runs.curves import CurvesLogger

WANDB_ID = "wandb.id"
_NAMES = ("csv", "none", "tensorboard", "wandb")


def make_logger(config: Mapping[str, Any], folder: Path) -> Logger | None:
    """Make the configured logger; its files are in the run folder.

    Raises:
        UserError: there is none of that name, or it is not installed.
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
    raise UserError(f"logger.name is {name}; it must be one of {', '.join(_NAMES)}")


def _wandb(config: Mapping[str, Any], folder: Path) -> Logger:
    offline = config["offline"]
    if offline is None:
        offline = os.environ.get("WANDB_MODE") == "offline" or not _logged_in()
    first = getattr(rank_zero_only, "rank", 0) == 0  # the only process that tells of the run
    return WandbLogger(
        id=run_id(folder) if first else None,
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
    """Give a run's id at Weights & Biases, kept in its folder: a run that goes on is the same one there."""
    path = folder / WANDB_ID
    if not path.exists() or not read_bytes(path, 1_000).strip():
        write_text(path, uuid.uuid4().hex[:12] + "\n")
    return read_bytes(path, 1_000).decode("utf-8").strip()


def _logged_in() -> bool:
    import wandb

    return wandb.Api is not None and wandb.setup().settings.api_key is not None


def close_logger(logger: Logger | None, failed: bool) -> None:
    """End a logger's run, so that the next one in this process starts its own."""
    if isinstance(logger, WandbLogger):
        import wandb

        wandb.finish(exit_code=int(failed))
