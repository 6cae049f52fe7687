"""How a search ends: its table, and the report."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqlab.errors import UserError
from seqlab.study.horizon.record import FILE, read
from seqlab.study.report import write
from seqlab.study.report.horizons import interval
from seqlab.training.runfolder import relative

if TYPE_CHECKING:
    from seqlab.study.horizon.conduct import Conductor


def ended(conductor: "Conductor") -> None:
    """Show the table, and write the report."""
    console = Console(highlight=False)
    show(read(conductor.folder), console)
    console.print(f"search        {relative(conductor.folder / FILE)}", soft_wrap=True)
    try:
        write([conductor.folder], conductor.folder / "report")
    except UserError as error:  # the search stands, whatever becomes of its report
        console.print(f"no report: {error}", soft_wrap=True)
    else:
        console.print(f"report        {relative(conductor.folder / 'report')}", soft_wrap=True)


def show(record: dict[str, Any], console: Console) -> None:
    """Print what ``horizon.json`` says: a table, and for each row its cause and what to try."""
    grid = record["grid_runs"]
    share = f", {record['runs'] / grid:.0%} of the {grid:,} of the full grid" if grid else ""
    table = Table(title=f"horizon: {record['runs']:,} runs{share}", title_justify="left")
    for column in ("task", "row", "horizon", "all to none", "learning rate", "parameters", "cause"):
        table.add_column(column, justify="right" if column in ("horizon", "all to none", "parameters") else "left")
    for row in record["rows"]:
        table.add_row(
            escape(row["task"]),
            escape(row["label"]),
            _horizon(row),
            interval(row),
            _or(row["learning_rate"], ""),
            f"{row['parameters']:,}" if row["parameters"] else "",
            f"{row['cause']}{', budget-limited' if row['budget_limited'] else ''}",
        )
    console.print(table)
    for row in record["rows"]:
        line = f"{row['task']}, {row['label']}: {row['because']}"
        if row["intervention"]:
            line += f"; try {row['intervention']['text']}:\n  {row['intervention']['command']}"
        console.print(escape(line), soft_wrap=True)


def _horizon(row: dict[str, Any]) -> str:
    text = _or(row["horizon"], "none")
    return text if row["finished"] else f"{text} so far"


def _or(value: Any, otherwise: str) -> str:
    return otherwise if value is None else f"{value:g}"
