"""``predict RUN_DIR TEXT...``: ask a trained model."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Grid

from seqlab.cli.parser import Parser, typed_text
from seqlab.cli.tables import (
    Table,
    add_table_options,
    chunks,
    kind_of,
    lines_as_they_come,
    open_table,
    table_layout,
    write_table,
)
from seqlab.contracts.task import label_names
from seqlab.errors import UserError

if TYPE_CHECKING:
    from seqlab.inference.loading import Trained

_MANY = 2_000
"""Rows from which on progress is worth showing."""


def main(arguments: list[str]) -> int:
    """Print the likeliest answers for each text, or write a table with them."""
    asked = _asked(arguments)
    if asked.input is not None:
        return _table(asked)
    if asked.texts == ["-"] or (not asked.texts and not sys.stdin.isatty()):
        return _stdin(asked)
    if not asked.texts:
        raise UserError("there is nothing to predict: give TEXT, --input FILE, or texts from a pipe, one a line")
    from seqlab.inference.loading import load

    asked.texts = [typed_text(text, f"text {number}") for number, text in enumerate(asked.texts, start=1)]
    trained = load(asked.run_dir)
    answers = trained.predict(asked.texts, top=asked.top)
    if asked.json or not _labelled(trained):
        for text, answer in zip(asked.texts, answers, strict=True):
            _print_json(text, answer)
        return 0
    most = max(map(len, answers))
    grid = Grid("text", *(f"{place}." for place in range(1, most + 1)))
    for text, answer in zip(asked.texts, answers, strict=True):
        grid.add_row(escape(text), *(f"{escape(str(a['label']))} {a['probability']:.2f}" for a in answer))
    Console().print(grid)
    return 0


def _asked(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "predict",
        texts="a text",
        description="Predict with a trained model: for texts on the command line, texts from stdin (one a line; "
        "answered as they come), or a column of a table.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the folder that a run wrote")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="a text; - reads stdin")
    parser.add_argument("--top", type=int, help="answers for each text (3); a table gets one")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    table = parser.add_argument_group("tables")
    table.add_argument("--input", type=Path, metavar="FILE", help="a table: .csv, .tsv or .jsonl")
    table.add_argument("--column", default="text", help="the column with the texts (text)")
    add_table_options(table)
    table.add_argument("--output", type=Path, metavar="FILE", help="where the table goes, with the answers added")
    table.add_argument("--force", action="store_true", help="overwrite the output if it is there")
    asked = parser.parse_intermixed_args(arguments)
    if asked.input is None:
        if asked.output is not None or asked.force:
            raise UserError("--output and --force go with --input FILE")
        if (asked.quoting, asked.header, asked.encoding) != ("auto", "auto", "utf-8"):
            raise UserError("--quoting, --header and --encoding go with --input FILE")
        asked.top = 3 if asked.top is None else asked.top
        if asked.top < 1:
            raise UserError(f"--top is {asked.top}; it must be at least 1")
        return asked
    if asked.texts:
        raise UserError("give texts or --input FILE, not both")
    if asked.top is not None or asked.json:
        raise UserError("--top and --json go with texts; a table gets the likeliest label, and --output says its kind")
    if asked.output is None:
        raise UserError("--input needs --output FILE; its ending says the kind of table, such as .csv or .jsonl")
    kind_of(asked.output)
    if asked.output.is_dir():
        raise UserError(f"{asked.output} is a folder; --output must name a file")
    if asked.output.exists() and not asked.force:
        raise UserError(f"{asked.output} is there already; choose another --output, or add --force to overwrite it")
    return asked


def _labelled(trained: "Trained") -> bool:
    return label_names(trained.task) is not None and not trained.task.per_step


def _print_json(text: str, answer: Any) -> None:
    print(json.dumps({"text": text, "predictions": answer}, ensure_ascii=False), flush=True)


def _stdin(asked: argparse.Namespace) -> int:
    """Answer each line: text, label, probability, label, probability, ..., with tabs between them."""
    from seqlab.inference.loading import load

    trained = load(asked.run_dir)
    plain = not asked.json and _labelled(trained)
    seen = unread = blank = 0
    for lines in lines_as_they_come(sys.stdin.buffer, "stdin"):
        full = [line for line in lines if line.strip()]
        blank += len(lines) - len(full)
        for texts in chunks(iter(full), len):
            seen += len(texts)
            for text, answer in zip(texts, trained.answers(trained.encode(texts), asked.top), strict=True):
                unread += answer is None
                if plain:
                    cells = [cell for one in answer or () for cell in (one["label"], f"{one['probability']:.4f}")]
                    print(text.replace("\t", " ").replace("\r", " "), *cells, sep="\t")
                else:
                    _print_json(text, answer)
            sys.stdout.flush()
    if not seen:
        raise UserError("stdin has no text in it; write one a line")
    if blank:
        print(f"blank lines, which got no answer: {blank:,}", file=sys.stderr)
    _tell_unread(unread)
    return 0


def _table(asked: argparse.Namespace) -> int:
    """Add the likeliest label and its probability to each row of a table."""
    table = open_table(asked.input, table_layout(asked), text=asked.column)
    for note in table.notes:
        print(f"{table.path}: {note}", file=sys.stderr)
    from seqlab.inference.loading import load

    trained = load(asked.run_dir)
    if not _labelled(trained):
        raise UserError(f"{asked.run_dir}: its task puts no label on a text, so there is nothing to add to a table")
    added = _added(table)
    adding = _Adding(trained, table, asked.column, added)
    tabs = kind_of(asked.output) in (".tsv", ".tab")
    write_table(asked.output, [*table.columns, *added], adding.rows(), quotes=not (tabs and table.found.plain))
    if tabs and not table.found.plain:
        print(f"{asked.output}: texts with tabs or line ends are in quotes, as in CSV", file=sys.stderr)
    elif tabs and adding.opening:
        said = f"{asked.output}: fields that begin with a quote stand as they are"
        print(f"{said}; read them without quoting (csv.QUOTE_NONE): {adding.opening:,}", file=sys.stderr)
    _tell_unread(adding.unread)
    if adding.cut:
        longest = f"{trained.longest:,} tokens (task.sequence_length)"
        print(f"texts longer than {longest}, of which the rest was not read: {adding.cut:,}", file=sys.stderr)
    print(f"{asked.output}: {table.count:,} rows, with the columns {added[0]} and {added[1]} added")
    return 0


def _added(table: Table) -> tuple[str, str]:
    """Name the new columns; the table's own keep their names."""
    for names in (("label", "probability"), ("predicted_label", "predicted_probability")):
        if not set(names) & set(table.columns):
            if names[0] != "label":
                line = f"{table.path} has a column label or probability; the new ones are called {', '.join(names)}"
                print(line, file=sys.stderr)
            return names
    raise UserError(f"{table.path} has columns label and predicted_label, or probabilities so named; rename them")


class _Adding:
    def __init__(self, trained: "Trained", table: Table, column: str, added: Sequence[str]) -> None:
        self.trained, self.table, self.column, self.added = trained, table, column, added
        self.unread = self.cut = self.opening = 0

    def rows(self) -> Iterator[dict[str, Any]]:
        label, probability = self.added
        with progress(self.table.count) as bar:
            for part in chunks(self.table.texts(self.column), lambda pair: len(pair[0])):
                encoded = self.trained.encode([text for text, _ in part])
                if self.trained.longest is not None:
                    self.cut += int((encoded.lengths > self.trained.longest).sum())
                for (_, row), answer in zip(part, self.trained.answers(encoded, top=1), strict=True):
                    self.unread += answer is None
                    self.opening += sum(isinstance(value, str) and value[:1] == '"' for value in row.values())
                    best = answer[0] if answer else {"label": None, "probability": None}
                    yield {**row, label: best["label"], probability: _rounded(best["probability"])}
                bar.advance(bar.task_ids[0], len(part))


def progress(count: int) -> Progress:
    """Make a bar on stderr that counts rows; it shows in a terminal, and where there are many."""
    columns = TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    shown = count >= _MANY and sys.stderr.isatty()
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown)
    bar.add_task("rows", total=count)
    return bar


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _tell_unread(count: int) -> None:
    if count:
        print(f"texts with nothing in them to read, which got no label: {count:,}", file=sys.stderr)
