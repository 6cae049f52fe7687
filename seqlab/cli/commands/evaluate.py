"""``evaluate RUN_DIR --data FILE``: scores of a trained model on new labelled texts, or on pairs of texts."""

import argparse
import heapq
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from seqlab.cli.commands.pairs import COLUMNS, score_pairs
from seqlab.cli.output import Output, print_json, progress, shorten, show_classes, show_scores
from seqlab.cli.parser import Parser, integer, path
from seqlab.cli.tables import (
    add_table_options,
    chunks,
    is_empty,
    open_table,
    table_layout,
    text_columns,
    trained_columns,
)
from seqlab.contracts.task import class_of, label_names
from seqlab.errors import UserError, one_line
from seqlab.io.tables import Layout, class_files, column_names, label_of, read_texts, similar_to
from seqlab.runs.scores import class_rows

if TYPE_CHECKING:
    from seqlab.inference import Trained

_WORST = 10
Pairs = Callable[[], Iterator[tuple[str, str]]]
"""Starts to read texts and their labels at each call."""


@final
@dataclass
class Scores:
    """Metrics of a model and of the input-independent baseline, scores by class, and errors of the highest probability.

    Of the ``rows`` that were scored, ``empty`` are those without symbols after preprocessing, ``cut`` the truncated
    ones. Notes are warnings of the metrics, such as that one needs a label that does not occur.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    rows: int = 0
    empty: int = 0
    cut: int = 0
    classes: list[dict[str, Any]] = field(default_factory=list)
    worst: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def main(arguments: list[str]) -> int:
    """Print the metrics and the worst errors."""
    args = _parse(arguments)
    _refuse_ignored(args)
    if args.pairs is not None:
        return score_pairs(args)
    written, notes = _read(args)
    for note in notes:
        print(f"{args.data}: {note}", file=sys.stderr)
    from seqlab.inference import load

    trained = load(args.run_dir)
    known = label_names(trained.task)
    if known is None or trained.task.per_step:
        raise UserError(f"{args.run_dir}: its task has no labels, so there is nothing to compare with")

    def pairs() -> Iterator[tuple[str, str]]:
        return ((text, class_of(trained.task, label)) for text, label in written())

    counts = Counter(label for _, label in pairs())
    if not counts:
        raise UserError(f"{args.data} has no texts; all its lines are empty")
    unknown = _checked_labels(args, counts, known)
    scores = score(trained, pairs, counts.total() - unknown.total(), _WORST if args.worst is None else args.worst)
    if args.json:
        print_json({
            "run": str(args.run_dir),
            "data": str(args.data),
            "skipped": dict(unknown),
            **{"chance" if key == "baseline" else key: value for key, value in vars(scores).items()},
            "notes": [*notes, *scores.notes],
        })  # fmt: skip
    else:
        show(scores, str(args.data), trained, Output())
    return 0


def _checked_labels(args: argparse.Namespace, counts: Counter[str], known: Sequence[str]) -> Counter[str]:
    """Return the counts of labels that the model does not have, whose rows are skipped if that was asked for."""
    unknown = Counter({label: count for label, count in counts.items() if label not in known})
    if unknown:
        line = _unknown_labels(args.data, unknown, known)
        if not args.skip_unknown:
            raise UserError(f"{line}; add --skip-unknown to skip these rows")
        if unknown.total() == counts.total():
            raise UserError(f"{line}; no row is left to score")
        print(f"{line}; these rows are skipped", file=sys.stderr)
    return unknown


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "evaluate",
        description="Score a trained model on new labelled texts: metrics of the task and of the input-independent "
        "baseline, and the errors of the highest probability. Or score a language model on minimal pairs: the share of "
        "pairs whose grammatical member has the higher probability, with a 95 % interval.",
    )
    parser.add_run_dir()
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--data",
        type=path,
        metavar="FILE",
        help="table (.csv, .tsv, .jsonl, .parquet, .xlsx), or a folder of texts by class",
    )
    given.add_argument("--pairs", type=path, metavar="FILE", help=".csv, .tsv or .jsonl with a pair of texts a row")
    parser.add_argument(
        "--pair-columns",
        nargs=2,
        metavar=("BETTER", "WORSE"),
        help=f"columns of --pairs ({' '.join(COLUMNS)})",
    )
    parser.add_argument(
        "--output", type=path, metavar="FILE", help="table of --pairs to write, with the log-probabilities"
    )
    parser.add_argument("--force", action="store_true", help="overwrite the output")
    parser.add_argument(
        "--text-column",
        action="append",
        metavar="NAME",
        help="column of the texts (that of the training); several are joined, in order",
    )
    parser.add_argument("--label-column", metavar="NAME", help="column of the labels (that of the training)")
    add_table_options(parser)
    parser.add_argument("--worst", type=integer(0), metavar="N", help=f"number of errors to list ({_WORST})")
    parser.add_argument("--skip-unknown", action="store_true", help="skip rows whose label the model does not have")
    parser.add_json()
    return parser.parse(arguments)


def _refuse_ignored(args: argparse.Namespace) -> None:
    """Raise :class:`UserError` for an option that means nothing with ``--data`` or ``--pairs``."""
    columns = {"--text-column": args.text_column, "--label-column": args.label_column}
    of_data = {**columns, "--worst": args.worst, "--skip-unknown": args.skip_unknown or None}
    if args.pairs is not None:
        if name := _given(of_data):
            raise UserError(f"{name} goes with --data FILE; with --pairs, use --pair-columns BETTER WORSE or --output")
        if args.force and args.output is None:
            raise UserError("--force goes with --output FILE")
        return
    if args.output is not None:
        raise UserError("--output is the table of --pairs FILE; with --data, use --json")
    if args.force:
        raise UserError("--force goes with --pairs FILE --output FILE")
    if args.pair_columns is not None:
        raise UserError("--pair-columns goes with --pairs FILE; with --data, use --text-column and --label-column")
    if args.data.is_dir() and (name := _given(columns)):
        raise UserError(f"{name} goes with a table, but --data={args.data} is a folder of texts by class")


def _given(options: Mapping[str, Any]) -> str | None:
    """Return the first option that was given."""
    return next((name for name, value in options.items() if value is not None), None)


def _read(args: argparse.Namespace) -> tuple[Pairs, Sequence[str]]:
    """Read the texts and labels, of the columns that the run was trained on where the user names none."""
    data, layout = args.data, table_layout(args)
    if data.is_dir():
        return labelled_texts(data, "text", "label", layout)
    text = text_columns(args.text_column, args.run_dir, data, layout)
    return labelled_texts(data, text, args.label_column or label_column(args.run_dir, data, layout), layout)


def label_column(run_dir: Path, data: Path, layout: Layout) -> str:
    """Return the column of the labels that a run was trained on, or ``label`` if the table has only that."""
    (trained,) = trained_columns(run_dir, "label_column")
    if trained == "label" or not data.is_file():
        return trained
    there = open_table(data, layout).columns
    return "label" if "label" in there and trained not in there else trained


def labelled_texts(
    data: Path,
    text_column: str | Sequence[str],
    label_column: str,
    layout: Layout = Layout(command_line=True),  # noqa: B008  # frozen
) -> tuple[Pairs, Sequence[str]]:
    """Read texts and labels of a table, or of a folder with a folder or a file of lines for each label."""
    if data.is_dir():
        if (layout.quoting, layout.header) != ("auto", "auto"):
            raise UserError(f"{data} is a folder of texts; --quoting and --header are for tables")
        return _folders(data, layout)
    table = open_table(data, layout, text_column, label_column, "--text-column")

    def pairs() -> Iterator[tuple[str, str]]:
        for text, row in table.texts(column_names(text_column)):
            yield text, _label(row.get(label_column))

    return pairs, table.notes


def _folders(folder: Path, layout: Layout) -> tuple[Pairs, Sequence[str]]:
    """Read the texts once, to find errors and notes before a model is loaded, and again at each call."""
    notes: list[str] = []

    def pairs() -> Iterator[tuple[str, str]]:
        return read_texts(files, str(folder), layout, [])

    try:
        files = class_files(folder, str(folder), needs_texts=False)
        for _ in read_texts(files, str(folder), layout, notes):
            pass
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    if not files:
        raise UserError(f"{folder} has no texts; it must have a folder for each label, with .txt files in it")
    return pairs, notes


def _label(value: Any) -> str:
    return "" if is_empty(value) else label_of(value)


def _unknown_labels(data: Path, unknown: Counter[str], known: Sequence[str]) -> str:
    """Return a message that counts and names the labels that a model does not have."""
    named = [f"{_named(label, known)} ({count:,})" for label, count in unknown.most_common(10)]
    more = f" and {len(unknown) - 10:,} more" if len(unknown) > 10 else ""
    there = f"{', '.join(known[:20])}{' ...' if len(known) > 20 else ''}"
    what = "1 label" if len(unknown) == 1 else f"{len(unknown):,} labels"
    where = f"{data}: {what} in {unknown.total():,} rows that the model does not have"
    return f"{where}: {', '.join(named)}{more}; it has {there}"


def _named(label: str, known: Sequence[str]) -> str:
    """Name an unknown label; where a known one looks the same, write both as Python does."""
    near = similar_to(label, known)
    return (label or "(empty)") if near is None else f"{label!r}, where the model has {near!r}"


def score(trained: "Trained", pairs: Pairs, count: int, worst: int = 10) -> Scores:
    """Score a model on ``count`` texts whose labels it has; skip other texts and keep the ``worst`` errors."""
    import torch

    task = trained.task
    index = {name: target for target, name in enumerate(label_names(task) or ())}
    metrics, baseline, scores = task.metrics(), task.metrics(), Scores()
    worst_errors: list[tuple[float, int, dict[str, Any]]] = []
    counts = Counter[tuple[str, str]]()
    known = (pair for pair in pairs() if pair[1] in index)
    with warnings.catch_warnings(record=True) as warned, progress("rows", count) as bar:
        warnings.simplefilter("always")
        for part in chunks(known, lambda pair: len(pair[0])):
            encoded = trained.encode([text for text, _ in part])
            targets = torch.tensor([index[label] for _, label in part])
            scores.empty += int((encoded.lengths == 0).sum())
            scores.cut += 0 if trained.longest is None else int((encoded.lengths > trained.longest).sum())
            for rows, batch, outputs in trained.outputs(encoded):
                metrics.update(outputs, targets[rows])
                baseline.update(task.baseline_outputs(batch), targets[rows])
                answers, places = task.decode(outputs, 1), rows.tolist()
                counts.update((part[row][1], best["label"]) for row, (best, *_) in zip(places, answers, strict=True))
                worst_errors += _errors(part, places, answers, scores.rows)
            worst_errors = heapq.nlargest(worst, worst_errors, key=lambda entry: entry[:2])
            scores.rows += len(part)
            bar.advance(bar.task_ids[0], len(part))
        scores.metrics = {name: float(value) for name, value in metrics.compute().items()}
        scores.baseline = {name: float(value) for name, value in baseline.compute().items()}
    scores.classes = class_rows(counts, list(index))
    scores.worst = [error for _, _, error in worst_errors]
    scores.notes = list(dict.fromkeys(one_line(warning.message) for warning in warned))
    return scores


def _errors(
    part: Sequence[tuple[str, str]], rows: Sequence[int], answers: Sequence[Sequence[Mapping[str, Any]]], before: int
) -> Iterator[tuple[float, int, dict[str, Any]]]:
    """Yield wrong answers: their probability, the place of the row to break ties, and a record."""
    for row, (answer, *_) in zip(rows, answers, strict=True):
        text, label = part[row]
        if answer["label"] != label:
            probability = answer["probability"]
            error = {"text": text, "label": label, "predicted": answer["label"], "probability": round(probability, 6)}
            yield probability, -before - row, error


def show(scores: Scores, data: str, trained: "Trained", out: Output) -> None:
    """Print metrics beside the baseline, classes and the worst errors."""
    show_scores("score", scores.metrics, scores.baseline, trained.task.monitor, f"{scores.rows:,} rows of {data}", out)
    if scores.classes:
        show_classes(scores.classes, out, "the output of --json")
    if scores.empty:
        out.print_line(f"empty texts after preprocessing, included in the scores: {scores.empty:,}")
    if scores.cut:
        out.print_line(f"texts cut after {trained.longest or 0:,} tokens (task.sequence_length): {scores.cut:,}")
    for note in scores.notes:
        out.print_line(note, "dim")
    if scores.worst:
        errors = (
            (*(shorten(error[name]) for name in ("text", "label", "predicted")), f"{error['probability']:.2f}")
            for error in scores.worst
        )
        headings = ("text", "label", "predicted", "probability")
        out.print_table(headings, errors, right=headings[3:], title="Errors of the highest probability")
