"""Loggers of learning curves: ``curves/metrics.csv``, TensorBoard, Weights & Biases."""

import os
import uuid
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from seqlab.contracts import UserError
from seqlab.io.atomic import append_text, write_text
from seqlab.io.csv_files import csv_text, read_csv
from seqlab.io.safe_io import read_bytes
from seqlab.runs.run_folder import METRICS


@final
class CurvesLogger(Logger):
    """Logger that writes each row at once, so that a killed run has all rows but the last.

    A resumed run appends to the same file, and replaces rows of steps that it repeats: those written after the
    checkpoint.
    """

    name = "curves"
    version = ""

    def __init__(self, folder: Path, file: Path = METRICS) -> None:
        super().__init__()
        self.folder, self.path = folder, folder / file
        self._columns: list[str] | None = None

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Do nothing: the run folder has the config already."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write a row."""
        row = {"step": 0 if step is None else step, **metrics}
        if self._columns is None:
            self._columns = self._resume(row["step"])
        if set(row) <= set(self._columns):
            append_text(self.path, csv_text([row], self._columns, header=False))
        else:
            self._columns = self._rewrite([*read_csv(self.path), row], [*self._columns, *row])

    def _resume(self, step: float) -> list[str]:
        """Remove the rows from ``step`` on, and one that was cut; return the columns."""
        rows = read_csv(self.path)
        columns = list(rows[0]) if rows else []
        kept = [row for row in rows if float(row["step"]) < step]
        if len(kept) < len(rows) or (self.path.exists() and not self.path.read_bytes().endswith(b"\n")):
            return self._rewrite(kept, columns)
        return columns

    def _rewrite(self, rows: list[dict[str, Any]], columns: list[str]) -> list[str]:
        """Replace the file atomically; return its columns."""
        columns = list(dict.fromkeys(columns))
        write_text(self.path, csv_text(rows, columns))
        return columns


_WANDB_ID = "wandb.id"


@contextmanager
def open_logger(config: Mapping[str, Any], folder: Path) -> Iterator[Logger | None]:
    """Build the configured logger, log the config, and close it at the end, so that the next run starts its own."""
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
    """Build the configured logger; its files are in the run folder."""
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
    return _wandb(config, folder)


def _wandb(config: Mapping[str, Any], folder: Path) -> Logger:
    offline = config["offline"]
    if offline is None:
        import wandb

        offline = os.environ.get("WANDB_MODE") == "offline" or wandb.setup().settings.api_key is None
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
