"""Learning curves in ``curves/metrics.csv``: a row for each step at which something was measured."""

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from seqlab.io.atomic import reported_write_errors, write_text
from seqlab.io.curves import read_curves
from seqlab.runs.run_folder import METRICS

__all__ = ["CurvesLogger", "read_curves"]


@final
class CurvesLogger(Logger):
    """Logger that writes each row at once, so that a killed run has all rows but the last.

    A resumed run appends to the same file, and replaces rows of steps that it repeats: those written after the
    checkpoint.

    Args:
        folder: the run folder.
    """

    name = "curves"
    version = ""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.path = folder, folder / METRICS
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
            with reported_write_errors(self.path), self.path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)
        else:
            self._columns = self._rewrite([*read_curves(self.path), row], [*self._columns, *row])

    def _resume(self, step: float) -> list[str]:
        """Remove the rows from ``step`` on, and one that was cut; return the columns."""
        rows = read_curves(self.path)
        columns = list(rows[0]) if rows else []
        kept = [row for row in rows if float(row["step"]) < step]
        if len(kept) < len(rows) or (self.path.exists() and not self.path.read_bytes().endswith(b"\n")):
            return self._rewrite(kept, columns)
        return columns

    def _rewrite(self, rows: list[dict[str, Any]], columns: list[str]) -> list[str]:
        """Replace the file atomically; return its columns."""
        columns = list(dict.fromkeys(columns))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, text.getvalue())
        return columns
