"""``predict RUN_DIR TEXT...``: predictions of a trained model."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from seqlab.cli.output import Output, progress
from seqlab.cli.parser import Parser, integer, path, utf8
from seqlab.cli.tables import (
    Table,
    add_table_options,
    check_output,
    chunks,
    open_table,
    read_lines,
    table_layout,
    text_columns,
    write_table,
)
from seqlab.contracts.task import label_names
from seqlab.errors import UserError

if TYPE_CHECKING:
    from seqlab.inference import Trained


def main(arguments: list[str]) -> int:
    """Print the most likely answers for each text, or write a table with them."""
    args = _parse(arguments)
    if args.input is not None:
        return _predict_table(args)
    if args.texts == ["-"] or (not args.texts and not sys.stdin.isatty()):
        return _predict_stdin(args)
    if not args.texts:
        raise UserError("there is nothing to predict: give TEXT, --input FILE, or texts on stdin, one per line")
    from seqlab.inference import load

    trained = load(args.run_dir)
    answers = trained.predict(args.texts, top=args.top)
    if args.json or not _has_labels(trained):
        for text, answer in zip(args.texts, answers, strict=True):
            _print_json_line(text, answer)
        return 0
    columns = ["text", *(f"{rank}." for rank in range(1, max(map(len, answers)) + 1))]
    rows = (
        [text, *(f"{each['label']} {each['probability']:.2f}" for each in answer)]
        for text, answer in zip(args.texts, answers, strict=True)
    )
    Output().print_table(columns, rows)
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "predict",
        takes_texts=True,
        description="Predict with a trained model: texts on the command line, texts on stdin (one per line, answered "
        "as they arrive), or a column of a table.",
    )
    parser.add_run_dir()
    parser.add_argument("texts", metavar="TEXT", nargs="*", default=[], type=utf8, help="a text; - reads stdin")
    parser.add_argument("--top", type=integer(1), help="answers for each text (3); a table gets one")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    table = parser.add_argument_group("tables")
    table.add_argument("--input", type=path, metavar="FILE", help="table: .csv, .tsv, .jsonl, .parquet or .xlsx")
    table.add_argument(
        "--column", action="append", help="column of the texts (that of the training); several are joined, in order"
    )
    add_table_options(table)
    table.add_argument("--output", type=path, metavar="FILE", help="table to write, with columns of answers added")
    table.add_argument("--force", action="store_true", help="overwrite the output")
    args = parser.parse(arguments)
    if args.input is None:
        _check_texts(args)
        args.top = args.top or 3
    else:
        _check_table(args)
    return args


def _check_texts(args: argparse.Namespace) -> None:
    """Refuse options of tables."""
    if args.output is not None or args.force:
        raise UserError("--output and --force go with --input FILE")
    if args.column:
        raise UserError("--column goes with --input FILE")
    if (args.quoting, args.header, args.encoding, args.encoding_errors) != ("auto", "auto", "utf-8", "strict"):
        raise UserError("--quoting, --header, --encoding and --encoding-errors go with --input FILE")


def _check_table(args: argparse.Namespace) -> None:
    """Refuse options of texts, and an output that cannot be written or exists."""
    if args.texts:
        raise UserError("give texts or --input FILE, not both")
    if args.top is not None or args.json:
        raise UserError("--top and --json go with texts; a table gets the most likely label in the format of --output")
    if args.output is None:
        raise UserError("--input needs --output FILE, such as answers.csv or answers.jsonl")
    check_output(args.output)
    if args.output.is_dir():
        raise UserError(f"{args.output} is a folder; --output must name a file")
    if args.output.exists() and not args.force:
        raise UserError(f"{args.output} is there already; choose another --output, or add --force to overwrite it")


def _has_labels(trained: "Trained") -> bool:
    return label_names(trained.task) is not None and not trained.task.per_step


def _print_json_line(text: str, answer: Any) -> None:
    print(json.dumps({"text": text, "predictions": answer}, ensure_ascii=False), flush=True)


def _predict_stdin(args: argparse.Namespace) -> int:
    """Print a line for each line: text, label, probability, label, probability, ..., separated by tabs."""
    from seqlab.inference import load

    trained = load(args.run_dir)
    plain = not args.json and _has_labels(trained)
    count = empty = blank = 0
    for lines in read_lines(sys.stdin.buffer, "stdin"):
        full = [line for line in lines if line.strip()]
        blank += len(lines) - len(full)
        for texts in chunks(iter(full), len):
            count += len(texts)
            for text, answer in zip(texts, trained.predict_encoded(trained.encode(texts), args.top), strict=True):
                empty += answer is None
                if plain:
                    cells = [cell for one in answer or () for cell in (one["label"], f"{one['probability']:.4f}")]
                    print(text.replace("\t", " ").replace("\r", " "), *cells, sep="\t")
                else:
                    _print_json_line(text, answer)
            sys.stdout.flush()
    if not count:
        raise UserError("stdin has no text; write one per line")
    _note("blank lines skipped", blank)
    _note("empty texts after preprocessing, without a label", empty)
    return 0


def _note(what: str, count: int) -> None:
    if count:
        print(f"{what}: {count:,}", file=sys.stderr)


def _predict_table(args: argparse.Namespace) -> int:
    """Add the most likely label and its probability to each row of a table."""
    layout = table_layout(args)
    column = text_columns(args.column, args.run_dir, args.input, layout)
    table = open_table(args.input, layout, text=column)
    for note in table.notes:
        print(f"{table.path}: {note}", file=sys.stderr)
    from seqlab.inference import load

    trained = load(args.run_dir)
    if not _has_labels(trained):
        raise UserError(f"{args.run_dir}: its task has no labels, so there is no column to add to a table")
    added = _new_columns(table)
    counts = Counter[str]()
    rows = _answered(trained, table, column, added, counts)
    tabs = check_output(args.output) in (".tsv", ".tab")
    write_table(args.output, [*table.columns, *added], rows, quotes=not (tabs and table.plain))
    if tabs and not table.plain:
        print(f"{args.output}: texts with tabs or line ends are in quotes, as in CSV", file=sys.stderr)
    elif tabs:
        _note(
            f"{args.output}: read it without quoting (csv.QUOTE_NONE); fields that start with a quote", counts["quotes"]
        )
    _note("empty texts after preprocessing, without a label", counts["empty"])
    _note(f"texts cut after {trained.longest or 0:,} tokens (task.sequence_length)", counts["cut"])
    print(f"{args.output}: {table.count:,} rows, with the columns {added[0]} and {added[1]} added")
    return 0


def _new_columns(table: Table) -> tuple[str, str]:
    """Return names for the new columns that the table does not have."""
    for names in (("label", "probability"), ("predicted_label", "predicted_probability")):
        if not set(names) & set(table.columns):
            if names[0] != "label":
                line = f"{table.path} has a column label or probability; the new columns are {', '.join(names)}"
                print(line, file=sys.stderr)
            return names
    raise UserError(
        f"{table.path} has the columns label or probability, and predicted_label or predicted_probability; rename them"
    )


def _answered(
    trained: "Trained", table: Table, column: tuple[str, ...], added: tuple[str, str], counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows with their answers; count empty texts, cut texts and fields that start with a quote."""
    with progress("rows", table.count) as bar:
        for part in chunks(table.texts(column), lambda pair: len(pair[0])):
            encoded = trained.encode([text for text, _ in part])
            if trained.longest is not None:
                counts["cut"] += int((encoded.lengths > trained.longest).sum())
            for (_, row), answer in zip(part, trained.predict_encoded(encoded, top=1), strict=True):
                counts["empty"] += answer is None
                counts["quotes"] += sum(isinstance(value, str) and value[:1] == '"' for value in row.values())
                label, probability = (
                    (answer[0]["label"], round(answer[0]["probability"], 6)) if answer else (None, None)
                )
                yield {**row, added[0]: label, added[1]: probability}
            bar.advance(bar.task_ids[0], len(part))
