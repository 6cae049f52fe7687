"""Output of the commands: lines, tables, JSON, progress bars, and the scores of a run."""

import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from seqlab.io.atomic import finite
from seqlab.io.formatting import format_metric
from seqlab.runs.scores import class_column, class_table, classes_to_show, linear_verdict, rarest_class, shorten_label

if TYPE_CHECKING:
    from seqlab.runs.results import Result

_MANY = 2_000
"""Number of items from which on a progress bar is shown."""


@final
class Output(Console):
    """Console that prints text as it is: no markup, no highlighting, no wrapping of lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, **options)

    def print_line(self, text: str, style: str | None = None) -> None:
        """Print a line."""
        self.print(text, style=style, markup=False, soft_wrap=True)

    def print_table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str | Text]],
        *,
        right: Collection[str] = (),
        title: str | None = None,
        caption: str | None = None,
    ) -> None:
        """Print a table; ``right`` are the headings of the columns that are aligned to the right."""
        table = Table(title=title and escape(title), title_justify="left", caption=caption and escape(caption))
        for name in columns:
            table.add_column(Text(name), justify="right" if name in right else "left")
        for row in rows:
            table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
        self.print(table)


def print_json(value: Any) -> None:
    """Print a value as JSON; numbers that are not finite become null."""
    print(json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False))


def progress(label: str, total: int | None = None) -> Progress:
    """Return a progress bar on stderr with one task; it is hidden in a pipe and for small totals."""
    columns = TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    hidden = not sys.stderr.isatty() or (total is not None and total < _MANY)
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden)
    bar.add_task(label, total=total)
    return bar


def shorten(text: str, most: int = 120) -> str:
    """Put a text into one printable line of at most ``most`` characters."""
    line = "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 3]}..."


def show_scores(
    heading: str, scores: Mapping[str, float], baseline: Mapping[str, float], monitor: str, title: str, out: Output
) -> None:
    """Print each metric under a heading, with the baseline beside it."""
    columns = ("metric", heading, "baseline")
    rows = (
        (Text(name, "bold" * (name == monitor)), format_metric(value), Text(format_metric(baseline[name]), "dim"))
        for name, value in scores.items()
    )
    out.print_table(columns, rows, right=columns[1:], title=title)


def show_columns(
    columns: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Any], monitor: str, title: str, out: Output
) -> None:
    """Print each metric of several predictors, the model last, and the 95 % interval of the model's.

    Args:
        columns: metrics by heading.
        intervals: ends by metric, or ``None``.
        monitor: the metric that is bold.
        title: of the table.
        out: where to print.
    """
    *others, model = columns
    rows = []
    for name, value in columns[model].items():
        row = [Text(name, "bold" * (name == monitor), no_wrap=True)]
        row += [Text(_figure(columns[other].get(name)), "dim") for other in others]
        ends = intervals.get(name)
        row += [Text(format_metric(value)), Text("-".join(f"{end:.3f}" for end in ends or ()), no_wrap=True)]
        rows.append(row)
    # In two lines, so that no name of a metric is cut off in 80 columns.
    heads = ["\n".join(head.rsplit(" ", 1)) for head in ("metric", *columns, "95 % interval")]
    out.print_table(heads, rows, right=heads[1:], title=title)


def _figure(value: float | None) -> str:
    return "" if value is None else format_metric(value)


def show_classes(rows: Sequence[Mapping[str, Any]], out: Output, rest: str) -> None:
    """Print a row for each class that :func:`classes_to_show` chooses."""
    shown = classes_to_show(rows)
    if len(shown) < len(rows):
        out.print_line(f"{len(shown)} of {len(rows)} classes, those of lowest F1 first; all are in {rest}:")
    noun = class_column(rows[0])
    columns = (noun, "precision", "recall", "F1", "support")
    table = (
        (
            shorten_label(str(row[noun])),
            *("-" if row[name] is None else f"{row[name]:.3f}" for name in ("precision", "recall", "f1")),
            f"{row['examples']:,}",
        )
        for row in shown
    )
    out.print_table(columns, table, right=columns[1:])


def show_results(result: "Result", out: Output) -> None:
    """Print the tables that end a run: every metric with the baseline beside it, and results by class."""
    record, cost = result.record, result.cost
    title = f"{record['title']}: {result.verdict}"
    _show_test(result, title, out)
    if (classes := class_table(record["tables"])) is not None:
        show_classes(classes[1], out, f"results.json, tables.{classes[0]}")
    for row in record["tables"].get("further_tests", []):
        values = ", ".join(f"{name} {row[name]:.4f} ({row[f'chance_{name}']:.4f})" for name in result.metrics)
        out.print_line(f"{row['split']}: {values}")
    lengths = record["lengths"] or {}
    if lengths.get("protocol") == "curriculum":
        reached = "no length" if lengths["reached"] is None else f"length {lengths['reached']:,}"
        out.print_line(f"solved {reached}, ceiling {lengths['ceiling']:,}; tested at {lengths['test']:,}")
    devices = f" on {cost['devices']} devices" if cost["devices"] > 1 else ""
    out.print_line(f"{cost['parameters']:,} parameters{devices}; {_duration(result)}")
    if record["kernel"]:
        out.print_line(f"kernel {record['kernel']['kernel']}: {record['kernel']['reason']}")
    if cost["compilations"]:
        out.print_line(f"{cost['compilations']} graphs compiled in {cost['compile_seconds']:.0f} s")
    for note in record["notes"]:
        out.print_line(note, "dim")
    if classes is not None and (row := rarest_class(classes[1])) is not None:
        label = shorten_label(str(row[class_column(row)]))
        out.print_line(f"rarest class {label}: recall {row['recall']:.3f} of {row['examples']:,} test examples")


def show_linear_verdict(result: "Result", out: Output) -> None:
    """Print a line if the linear baseline scores better than the model."""
    if (line := linear_verdict(result.record)) is not None:
        out.print_line(line, "bold")


def _show_test(result: "Result", title: str, out: Output) -> None:
    """Print the metrics of the test split."""
    record = result.record
    if record["fingerprint"]["labels"] is None:
        show_scores("test", result.metrics, result.chance, result.monitor, title, out)
        return
    linear = {} if record["linear"] is None else {"linear baseline": record["linear"]["test"]}
    columns = {"majority class": result.chance, **linear, "this model": result.metrics}
    show_columns(columns, record["intervals"]["test"], result.monitor, f"{title} (test split)", out)


def _duration(result: "Result") -> str:
    cost, best = result.cost, result.record["best"]
    if not cost["batches"]:
        return f"prepared, not trained, in {cost['training_seconds']:.1f} s; {cost['wall_seconds']:.1f} s in all"
    done = f"{cost['epochs']} epochs, the best was {best['epoch'] + 1}"
    if best["epoch"] >= cost["epochs"] or result.record["config"]["trainer"]["max_steps"] > 0:
        chosen = f"in epoch {best['epoch'] + 1}" if best["step"] is None else f"after {best['step']:,}"
        done = f"{cost['steps']:,} steps ({cost['epochs']} whole epochs), the best was {chosen}"
    return (
        f"{done}; "
        f"{cost['training_seconds']:.1f} s of training, {cost['wall_seconds']:.1f} s in all; "
        f"{cost['examples_per_second']:,.0f} examples/s, {cost['tokens_per_second']:,.0f} steps/s"
    )
