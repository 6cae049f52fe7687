"""Gradient-flow files of a run, ``curves/gradient_flow.csv`` and ``curves/saturation.csv``: format, reader, writer."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, final

from seqlab.io.atomic import append_text, write_text
from seqlab.io.csv_files import read_csv
from seqlab.io.safe_io import read_bytes

FLOW = Path("curves") / "gradient_flow.csv"
SATURATION = Path("curves") / "saturation.csv"


@final
@dataclass(frozen=True)
class FlowRow:
    r"""Gradient of the loss to one state tensor at one distance, averaged over the measured sequences.

    Attributes:
        step: optimiser steps done.
        layer: from 0.
        direction: ``forward`` or ``backward``.
        state: name of the state tensor, such as ``h`` or ``c``.
        distance: steps back from the last valid step in reading order.
        norm: :math:`\|∂L/∂s_t\|_2`, by autograd through the loop.
        product: :math:`\|∂L/∂s_T \prod_{j>t} J_j\|`, by the cell's own Jacobians; ``None`` if the cell has none.
        bound: :math:`\|∂L/∂s_T\| \prod_{j>t} \max φ'_j σ_{\max}(U)`, of an RNN.
        forget: :math:`\|∂L/∂c_T \prod_{j>t} f_j\|`, the product of the forget gates.
        terms: the same with the Jacobian of the state tensor alone; of an LSTM the one with four terms.
    """

    step: int
    layer: int
    direction: str
    state: str
    distance: int
    norm: float
    product: float | None = None
    bound: float | None = None
    forget: float | None = None
    terms: float | None = None


@final
@dataclass(frozen=True)
class SaturationRow:
    """Shares of a gate's activations at the ends of its range (:meth:`seqlab.contracts.cell.Gate.saturated`).

    Attributes:
        step, layer, direction: as in :class:`FlowRow`.
        gate: its name.
        low, high: share at each end.
    """

    step: int
    layer: int
    direction: str
    gate: str
    low: float
    high: float


Row = TypeVar("Row", FlowRow, SaturationRow)


@final
@dataclass(frozen=True)
class GradientFlow:
    """All measurements of a run."""

    rows: tuple[FlowRow, ...]
    saturation: tuple[SaturationRow, ...] = ()

    @property
    def steps(self) -> list[int]:
        """Training steps at which gradients were measured, ascending."""
        return sorted({row.step for row in self.rows})

    @property
    def places(self) -> list[tuple[int, str, str]]:
        """Layer, direction and state tensor of every curve, in order."""
        return list(dict.fromkeys((row.layer, row.direction, row.state) for row in self.rows))

    def curve(self, step: int, layer: int = 0, direction: str = "forward", state: str = "h") -> list[FlowRow]:
        """Return the rows of one curve by ascending distance."""
        wanted = (step, layer, direction, state)
        found = [row for row in self.rows if (row.step, row.layer, row.direction, row.state) == wanted]
        return sorted(found, key=lambda row: row.distance)

    def gates(self, step: int, layer: int = 0, direction: str = "forward") -> list[SaturationRow]:
        """Return the saturation of each gate at one step."""
        wanted = (step, layer, direction)
        return [row for row in self.saturation if (row.step, row.layer, row.direction) == wanted]


def read(run_dir: str | Path) -> GradientFlow | None:
    """Read the measurements of a run; ``None`` if there are none. Damaged lines are skipped."""
    folder = Path(run_dir)
    if not (folder / FLOW).is_file():
        return None
    return GradientFlow(tuple(read_rows(folder / FLOW, FlowRow)), tuple(read_rows(folder / SATURATION, SaturationRow)))


def read_rows(path: Path, kind: type[Row], *, strict: bool = False) -> list[Row]:
    """Read the rows of a file; a last line that a crash cut off is skipped.

    Args:
        path: one of the two files; without it there are no rows.
        kind: the row type of that file.
        strict: reject damaged lines instead of skipping them.
    """
    if not path.is_file():
        return []
    types = {field.name: str(field.type) for field in fields(kind)}
    if strict:
        check_columns(path, types)
    found: list[Row] = []
    for number, line in enumerate(read_csv(path, errors="strict" if strict else "replace", damaged=strict), start=2):
        try:
            found.append(kind(**{name: _parse(line[name], of) for name, of in types.items()}))
        except (KeyError, TypeError, ValueError) as error:  # a crash damaged the line
            if strict and None not in line.values():
                raise ValueError(f"line {number:,}: {error}") from error
    return found


def check_columns(path: Path, columns: Iterable[str]) -> None:
    """Check that the header of a CSV file names some columns; an empty file has none to name."""
    header = read_bytes(path).decode("utf-8", "replace").partition("\n")[0]
    present = next(csv.reader([header]), []) if header.isprintable() else []
    if header and (missing := [name for name in columns if name not in present]):
        raise ValueError(f"it has no column {missing[0]}")


def _parse(text: str, of: str) -> Any:
    if of == str(str):
        return text
    if of == str(int):
        return int(text)
    return None if not text and of != str(float) else float(text)


@final
class FlowWriter:
    """Writer of the two files, which appends the rows of each measurement as it is made.

    Rows of steps after ``done``, which a resumed run repeats, are dropped.
    """

    def __init__(self, folder: Path, done: int = 0) -> None:
        self.folder = folder
        self._start(FLOW, FlowRow, done)
        self._start(SATURATION, SaturationRow, done)

    def _start(self, name: Path, kind: type[Row], done: int) -> None:
        path = self.folder / name
        kept = [row for row in read_rows(path, kind) if row.step <= done] if done else []
        write_text(path, ",".join(field.name for field in fields(kind)) + "\n" + _lines(kept))

    def add(self, rows: Sequence[FlowRow], saturation: Sequence[SaturationRow]) -> None:
        """Append one measurement."""
        for name, lines in ((FLOW, _lines(rows)), (SATURATION, _lines(saturation))):
            append_text(self.folder / name, lines)


def _lines(rows: Iterable[FlowRow] | Iterable[SaturationRow]) -> str:
    values = (("" if each is None else each for each in astuple(row)) for row in rows)
    return "".join(",".join(f"{v:.10g}" if isinstance(v, float) else str(v) for v in row) + "\n" for row in values)


def slack(rows: Sequence[FlowRow], column: str) -> tuple[int, float] | None:
    """Compare a column with the norm at the largest distance at which both are positive and finite.

    Args:
        rows: one curve.
        column: ``bound``, ``forget``, ``terms`` or ``product``.

    Returns:
        Distance, and log10 of the ratio of the column to the norm.
    """
    for row in sorted(rows, key=lambda row: -row.distance):
        value = getattr(row, column)
        if value is not None and value > 0 and row.norm > 0 and math.isfinite(value) and math.isfinite(row.norm):
            return row.distance, math.log10(value) - math.log10(row.norm)
    return None
