"""``compare A B``: differences between two sets of runs, paired by seed and all other settings."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqlab.cli.parser import Parser
from seqlab.io.formatting import format_metric, relative_path
from seqlab.study.compare import Comparison, compare, read_sides

_MOST = 40


def main(arguments: list[str]) -> int:
    """Print the pairs, what has no partner, and the verdict."""
    parser = Parser(
        "compare",
        description="Compare two sets of runs, paired by seed, by their validation scores; test scores are shown.",
    )
    parser.add_argument("first", metavar="A", help="the folder of a run or a sweep; with --in a label of it")
    parser.add_argument("second", metavar="B", help="the same")
    parser.add_argument("--in", dest="within", metavar="SWEEP_DIR", type=Path, help="A and B are labels of this sweep")
    parser.add_argument("--metric", help="to compare (the one that chose the checkpoints)")
    asked = parser.parse_args(arguments)
    first, second = read_sides(asked.first, asked.second, asked.within)
    found = compare(first, second, asked.metric, within_one=asked.within is not None)
    _show(found, Console(highlight=False))
    return 0


def _show(found: Comparison, console: Console) -> None:
    a, b = found.sides
    for key, values in found.differences.items():
        console.print(escape(f"{key}: A {values[0]}, B {values[1]}"), soft_wrap=True)
    table = Table(title=escape(f"validation {found.metric}: A {a.name}, B {b.name}"), title_justify="left")
    keys = list(dict.fromkeys(key for pair in found.pairs for key in pair.shared))
    for name in keys:
        table.add_column(escape(name), justify="right")
    for name in ("A", "B", "B - A"):
        table.add_column(name, justify="right")
    for pair in found.pairs[:_MOST]:
        figures = (format_metric(pair.values[0]), format_metric(pair.values[1]), format_metric(pair.difference, "+"))
        table.add_row(*(escape(pair.shared.get(key, "")) for key in keys), *figures)
    console.print(table)
    if len(found.pairs) > _MOST:
        console.print(f"and {len(found.pairs) - _MOST:,} pairs more")
    for line in found.unpaired:
        console.print(escape(f"unpaired  {line}"), soft_wrap=True)
    for fault in (*a.faults, *b.faults):
        console.print(escape(f"{fault.kind}  {relative_path(Path(fault.place))}: {fault.cause}"), soft_wrap=True)
    for line in found.below_baseline():
        console.print(escape(line), soft_wrap=True)
    console.print(escape(found.verdict()), soft_wrap=True, style="bold")
    if (tested := found.test_summary()) is not None:
        console.print(escape(tested), soft_wrap=True)
