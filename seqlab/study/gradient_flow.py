"""How far back a gradient reaches, as ``callbacks=gradient_flow`` writes it into a run folder and others read it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, final

from seqlab.io.atomic import append_text, write_text
from seqlab.io.csv_files import read_csv

FLOW = Path("curves") / "gradient_flow.csv"
SATURATION = Path("curves") / "saturation.csv"


@final
@dataclass(frozen=True)
class FlowRow:
    r"""The gradient of the loss to one leaf of the state, so many steps back, as the mean over the probe's rows.

    Attributes:
        step: steps of the optimiser that were done.
        layer: counted from 0.
        direction: ``forward`` or ``backward``.
        state: the leaf's name, such as ``h`` or ``c``.
        distance: steps back from the last valid step that this direction reads.
        norm: :math:`\|∂L/∂s_t\|_2`, by autograd through the loop.
        product: :math:`\|∂L/∂s_T \prod_{j>t} J_j\|`, by the cell's own Jacobians; ``None`` where it gives none.
        bound: :math:`\|∂L/∂s_T\| \prod_{j>t} \text{gain}_j`, of an RNN with
            :math:`\text{gain}_j = \max φ'_j σ_{\max}(U)`.
        forget: :math:`\|∂L/∂c_T \prod_{j>t} f_j\|`: what the forget gates alone would leave.
        terms: the same with the Jacobian of the leaf alone; of an LSTM the one with four terms.
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
    """How many activations of a gate lie at the ends of its range (:meth:`seqlab.contracts.probe.Gate.saturated`).

    Attributes:
        step, layer, direction: as in :class:`FlowRow`.
        gate: its name.
        low, high: the share at each end.
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
    """All that a run wrote.

    Attributes:
        rows: of all steps, layers, directions, leaves and distances.
        saturation: of all steps and gates.
    """

    rows: tuple[FlowRow, ...]
    saturation: tuple[SaturationRow, ...]

    @property
    def steps(self) -> list[int]:
        """The moments of training at which it was measured, in order; the first is early, the last is late."""
        return sorted({row.step for row in self.rows})

    @property
    def places(self) -> list[tuple[int, str, str]]:
        """Every layer, direction and leaf, in order."""
        return list(dict.fromkeys((row.layer, row.direction, row.state) for row in self.rows))

    def curve(self, step: int, layer: int = 0, direction: str = "forward", state: str = "h") -> list[FlowRow]:
        """Give one curve, the nearest distance first."""
        wanted = (step, layer, direction, state)
        found = [row for row in self.rows if (row.step, row.layer, row.direction, row.state) == wanted]
        return sorted(found, key=lambda row: row.distance)

    def gates(self, step: int, layer: int = 0, direction: str = "forward") -> list[SaturationRow]:
        """Give the shares of one moment."""
        wanted = (step, layer, direction)
        return [row for row in self.saturation if (row.step, row.layer, row.direction) == wanted]


def read(run_dir: str | Path) -> GradientFlow | None:
    """Read what a run wrote; ``None`` where it measured nothing. A last line that a crash cut off is left out."""
    folder = Path(run_dir)
    if not (folder / FLOW).is_file():
        return None
    return GradientFlow(tuple(read_rows(folder / FLOW, FlowRow)), tuple(read_rows(folder / SATURATION, SaturationRow)))


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Read the whole and sound lines of a file; none of one that is not there."""
    names = {field.name: field.type for field in fields(kind)}
    found: list[Row] = []
    for line in read_csv(path, errors="replace"):
        try:
            found.append(kind(**{name: _value(line[name], str(of)) for name, of in names.items()}))
        except (KeyError, TypeError, ValueError):  # of a line that a crash damaged
            continue
    return found


def _value(text: str, of: Any) -> Any:
    if of == str(str):
        return text
    if of == str(int):
        return int(text)
    if not text and of == str(float):
        raise ValueError("a number is missing")
    return float(text) if text else None


@final
class FlowWriter:
    """Writes the two files, some rows at each moment; a run that is killed has all but the last.

    Args:
        folder: the run folder.
        done: steps that the run did before; rows of later ones, which it does again, are taken out.
    """

    def __init__(self, folder: Path, done: int = 0) -> None:
        self.folder = folder
        self._begin(FLOW, FlowRow, done)
        self._begin(SATURATION, SaturationRow, done)

    def _begin(self, name: Path, kind: type[Row], done: int) -> None:
        path = self.folder / name
        kept = [row for row in read_rows(path, kind) if row.step <= done] if done else []
        header = ",".join(field.name for field in fields(kind)) + "\n"
        write_text(path, header + _lines(kept))

    def add(self, rows: Sequence[FlowRow], saturation: Sequence[SaturationRow]) -> None:
        """Append what was measured at one moment.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        for name, lines in ((FLOW, _lines(rows)), (SATURATION, _lines(saturation))):
            append_text(self.folder / name, lines)


def _lines(rows: Iterable[FlowRow] | Iterable[SaturationRow]) -> str:
    return "".join(",".join(_text(getattr(row, field.name)) for field in fields(row)) + "\n" for row in rows)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def slack(rows: Sequence[FlowRow], column: str) -> tuple[int, float] | None:
    """Compare a column with the norm, at the furthest distance at which both are positive and finite.

    Args:
        rows: one curve.
        column: ``bound``, ``forget``, ``terms`` or ``product``.

    Returns:
        The distance, and the logarithm to base 10 of how many times the norm the column is.
    """
    for row in sorted(rows, key=lambda row: -row.distance):
        value = getattr(row, column)
        if value is not None and value > 0 and row.norm > 0 and math.isfinite(value) and math.isfinite(row.norm):
            return row.distance, math.log10(value) - math.log10(row.norm)
    return None
