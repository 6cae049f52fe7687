"""Learning curves in ``curves/metrics.csv``: a row for each step at which something was measured."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from seqlab.io.atomic import append_text, write_text
from seqlab.io.csv_files import csv_text, read_csv
from seqlab.runs.run_folder import METRICS


@final
class CurvesLogger(Logger):
    """Logger that writes each row at once, so that a killed run has all rows but the last.

    A resumed run appends to the same file, and replaces rows of steps that it repeats: those written after the
    checkpoint.

    Args:
        folder: the run folder.
        file: the file in it.
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
