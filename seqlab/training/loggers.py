"""Where curves go: CSV, TensorBoard, Weights & Biases."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from seqlab.contracts import UserError

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
        return CSVLogger(folder, name="curves", flush_logs_every_n_steps=1000)
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
    return WandbLogger(
        name=folder.name,
        save_dir=folder,
        project=config["project"],
        entity=config["entity"],
        group=config["group"],
        tags=list(config["tags"]),
        offline=offline,
    )


def _logged_in() -> bool:
    import wandb

    return wandb.Api is not None and wandb.setup().settings.api_key is not None


def close(logger: Logger | None, failed: bool) -> None:
    """End a logger's run, so that the next one in this process starts its own."""
    if isinstance(logger, WandbLogger):
        import wandb

        wandb.finish(exit_code=int(failed))
