"""Learning curves as CSV: a row for each step at which something was measured."""

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

__all__ = ["CurvesLogger", "read_curves"]


@final
class CurvesLogger(Logger):
    """Writes ``curves/metrics.csv``, each row when it is known, so that a run that is killed has all but the last.

    A run that goes on writes on in the same file. Rows of steps that it does again, since it was killed after they were
    written and before they were saved, are replaced.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.path = folder, folder / "curves" / "metrics.csv"
        self._columns: list[str] = []
        self._begun = False

    @property
    def name(self) -> str:
        """The folder of the curves."""
        return "curves"

    @property
    def version(self) -> str:
        """There is one."""
        return ""

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
        if not self._begun:
            self._begun = True
            self._go_on(row["step"])
        if set(row) <= set(self._columns):
            with reported_write_errors(self.path), self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(_csv([row], self._columns, header=False))
        else:
            self._rewrite([*read_curves(self.path), row])

    def _go_on(self, step: float) -> None:
        earlier = read_curves(self.path)
        kept = [row for row in earlier if float(row["step"]) < step]
        self._columns = list(earlier[0]) if earlier else []
        if len(kept) < len(earlier) or (self.path.exists() and not self.path.read_bytes().endswith(b"\n")):
            self._rewrite(kept)

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        """Write all rows, whole or not at all: a column is new, or rows are taken out."""
        self._columns = list(dict.fromkeys([*self._columns, *(name for row in rows for name in row)]))
        write_text(self.path, _csv(rows, self._columns, header=True))


def _csv(rows: list[dict[str, Any]], columns: list[str], *, header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
