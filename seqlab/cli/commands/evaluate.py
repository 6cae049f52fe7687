"""``evaluate RUN_DIR --data FILE``: score a trained model on new texts with labels."""

import argparse
import heapq
import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from seqlab.cli.commands.predict import progress
from seqlab.cli.parser import Parser
from seqlab.cli.tables import add_table_options, chunks, is_empty, open_table, read_text, table_layout
from seqlab.contracts.task import label_names
from seqlab.errors import UserError, one_line
from seqlab.io.tables import Layout, label_of, similar_to
from seqlab.runs.scores import class_rows, show_classes

if TYPE_CHECKING:
    from seqlab.inference.loading import Trained

Pairs = Callable[[], Iterator[tuple[str, str]]]
"""Begins to read texts and their labels anew at each call."""


@final
@dataclass
class Scores:
    """What a model scored.

    Attributes:
        metrics: the task's own.
        chance: the same for a predictor that ignores its input.
        rows: texts that were scored.
        empty: those of them with nothing in them to read; they count.
        cut: those of which the end was not read.
        classes: precision, recall, F1 and number of examples of each class that occurs.
        worst: the errors of which the model was the surest, the surest first.
        notes: what the metrics had to say, such as that one of them needs a label that does not occur.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)
    rows: int = 0
    empty: int = 0
    cut: int = 0
    classes: list[dict[str, Any]] = field(default_factory=list)
    worst: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def main(arguments: list[str]) -> int:
    """Print the metrics and the worst errors."""
    asked = _asked(arguments)
    notes: list[str] = []
    pairs = table_columns(asked.data, asked.text_column, asked.label_column, table_layout(asked), notes)
    for note in notes:
        print(f"{asked.data}: {note}", file=sys.stderr)
    found = Counter(label for _, label in pairs())
    from seqlab.inference.loading import load

    trained = load(asked.run_dir)
    known = label_names(trained.task)
    if known is None or trained.task.per_step:
        raise UserError(f"{asked.run_dir}: its task puts no label on a text, so there is nothing to compare with")
    strange = Counter({label: count for label, count in found.items() if label not in known})
    if strange:
        line = _strange(asked.data, strange, known)
        if not asked.skip_unknown:
            raise UserError(f"{line}; --skip-unknown leaves these rows out")
        if strange.total() == found.total():
            raise UserError(f"{line}; no row is left to score")
        print(f"{line}; these rows are left out", file=sys.stderr)
    scores = score(trained, pairs, found.total() - strange.total(), asked.worst)
    if asked.json:
        record = _record(scores, asked, strange, notes)
        print(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
        return 0
    show(scores, str(asked.data), trained, Console(highlight=False))
    return 0


def _record(
    scores: "Scores", asked: argparse.Namespace, strange: Mapping[str, int], notes: list[str]
) -> dict[str, Any]:
    return {
        "run": str(asked.run_dir),
        "data": str(asked.data),
        "rows": scores.rows,
        "skipped": dict(strange),
        "empty": scores.empty,
        "cut": scores.cut,
        "metrics": _plain(scores.metrics),
        "chance": _plain(scores.chance),
        "classes": scores.classes,
        "worst": scores.worst,
        "notes": [*notes, *scores.notes],
    }


def _asked(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "evaluate",
        description="Score a trained model on new texts with labels: the task's own metrics, beside those of a "
        "predictor that ignores its input, and the errors of which the model was the surest.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the folder that a run wrote")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help=".csv, .tsv, .jsonl, or a folder for each label"
    )
    parser.add_argument("--text-column", default="text", metavar="NAME", help="the column with the texts (text)")
    parser.add_argument("--label-column", default="label", metavar="NAME", help="the column with the labels (label)")
    add_table_options(parser)
    parser.add_argument("--worst", type=int, default=10, metavar="N", help="errors to list (10)")
    parser.add_argument("--skip-unknown", action="store_true", help="leave out rows whose label the model lacks")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args(arguments)
    if asked.worst < 0:
        raise UserError(f"--worst is {asked.worst}; it must be at least 0")
    return asked


def table_columns(
    data: Path,
    text_column: str,
    label_column: str,
    layout: Layout = Layout(command_line=True),  # noqa: B008  # frozen
    notes: list[str] | None = None,
) -> Pairs:
    """Say how texts and labels are read from a table, or from a folder that holds one for each label.

    Args:
        data: the table or folder.
        text_column: the column with the texts.
        label_column: the column with the labels.
        layout: how files are written.
        notes: takes what a reader should know of how the table was read.

    Raises:
        UserError, OSError: they cannot be read.
    """
    if data.is_dir():
        if (layout.quoting, layout.header) != ("auto", "auto"):
            raise UserError(f"{data} is a folder of texts; --quoting and --header are for tables")
        return _tree(data, layout)
    table = open_table(data, layout, text_column, label_column)
    if notes is not None:
        notes += table.notes

    def pairs() -> Iterator[tuple[str, str]]:
        for text, row in table.texts(text_column):
            yield text, _label(row.get(label_column))

    return pairs


def _tree(folder: Path, layout: Layout) -> Pairs:
    files = [
        (file, _label(each.name))
        for each in sorted(folder.iterdir())
        if each.is_dir() and not each.name.startswith(".")
        for file in sorted(each.iterdir())
        if file.suffix.lower() == ".txt" and not file.name.startswith(".") and file.is_file()
    ]
    if not files:
        raise UserError(f"{folder} holds no texts; there must be a folder for each label, with .txt files in it")
    return lambda: ((read_text(file, layout), label) for file, label in files)


def _label(value: Any) -> str:
    return "" if is_empty(value) else label_of(value)


def _strange(data: Path, strange: Counter[str], known: Any) -> str:
    """Count and name the labels that a model does not know."""
    named = [f"{_named(label, known)} ({count:,})" for label, count in strange.most_common(10)]
    more = f" and {len(strange) - 10:,} more" if len(strange) > 10 else ""
    there = f"{', '.join(known[:20])}{' ...' if len(known) > 20 else ''}"
    what = "1 label" if len(strange) == 1 else f"{len(strange):,} labels"
    where = f"{data}: {what} in {strange.total():,} rows that the model does not know"
    return f"{where}: {', '.join(named)}{more}; it knows {there}"


def _named(label: str, known: Any) -> str:
    """Name an unknown label; where a known one looks the same, both as Python writes them."""
    near = similar_to(label, known)
    return (label or "(empty)") if near is None else f"{label!r}, where the model has {near!r}"


def score(trained: "Trained", pairs: Pairs, count: int, worst: int = 10) -> Scores:
    """Score a model on texts whose labels it knows; others are left out.

    Args:
        trained: its task names labels.
        pairs: texts and labels.
        count: how many of them there are, for the progress bar.
        worst: errors to keep.
    """
    import torch

    task = trained.task
    index = {name: target for target, name in enumerate(label_names(task) or ())}
    metrics, blind, scores = task.metrics(), task.metrics(), Scores()
    surest: list[tuple[float, int, dict[str, Any]]] = []
    counts = Counter[tuple[str, str]]()
    known = (pair for pair in pairs() if pair[1] in index)
    with warnings.catch_warnings(record=True) as said, progress(count) as bar:
        warnings.simplefilter("always")
        for part in chunks(known, lambda pair: len(pair[0])):
            encoded = trained.encode([text for text, _ in part])
            targets = torch.tensor([index[label] for _, label in part])
            scores.empty += int((encoded.lengths == 0).sum())
            scores.cut += 0 if trained.longest is None else int((encoded.lengths > trained.longest).sum())
            for rows, batch, outputs in trained.outputs(encoded):
                metrics.update(outputs, targets[rows])
                blind.update(task.baseline_outputs(batch), targets[rows])
                answers, places = task.decode(outputs, 1), rows.tolist()
                counts.update((part[row][1], best["label"]) for row, (best, *_) in zip(places, answers, strict=True))
                surest += _errors(part, places, answers, scores.rows)
            surest = heapq.nlargest(worst, surest, key=lambda entry: entry[:2])
            scores.rows += len(part)
            bar.advance(bar.task_ids[0], len(part))
        scores.metrics = {name: float(value) for name, value in metrics.compute().items()}
        scores.chance = {name: float(value) for name, value in blind.compute().items()}
    scores.classes = class_rows(counts, list(index))
    scores.worst = [error for _, _, error in surest]
    scores.notes = list(dict.fromkeys(one_line(warning.message) for warning in said))
    return scores


def _errors(
    part: Sequence[tuple[str, str]], rows: Sequence[int], answers: Sequence[Sequence[Mapping[str, Any]]], before: int
) -> Iterator[tuple[float, int, dict[str, Any]]]:
    """Find the rows that are answered wrongly: how sure the model is, the row's place for ties, what it says."""
    for row, (answer, *_) in zip(rows, answers, strict=True):
        text, label = part[row]
        if answer["label"] != label:
            error = {"text": text, "label": label, "predicted": answer["label"], **_sure(answer)}
            yield answer["probability"], -before - row, error


def _sure(answer: Mapping[str, Any]) -> dict[str, float]:
    return {"probability": round(answer["probability"], 6)}


def show(scores: Scores, data: str, trained: "Trained", console: Console) -> None:
    """Print the metrics with the chance line beside them, and the worst errors."""
    grid = Grid(title=f"{scores.rows:,} rows of {data}", title_justify="left")
    grid.add_column("metric")
    grid.add_column("here", justify="right")
    grid.add_column("ignoring the input", justify="right", style="dim")
    for name, value in scores.metrics.items():
        grid.add_row(
            Text(name, "bold" if name == trained.task.monitor else ""), f"{value:.4f}", f"{scores.chance[name]:.4f}"
        )
    console.print(grid)
    if scores.classes:
        show_classes(scores.classes, console, "the output of --json")
    if scores.empty:
        console.print(f"texts with nothing in them to read, which count all the same: {scores.empty:,}")
    if scores.cut:
        console.print(f"texts longer than {trained.longest:,} tokens, of which the rest was not read: {scores.cut:,}")
    for note in scores.notes:
        console.print(note, style="dim", markup=False)
    if not scores.worst:
        return
    errors = Grid("text", "label", "predicted", title="The errors of which it was the surest", title_justify="left")
    errors.add_column("probability", justify="right")
    for error in scores.worst:
        shown = (Text(_shown(error[name])) for name in ("text", "label", "predicted"))
        errors.add_row(*shown, f"{error['probability']:.2f}")
    console.print(errors)


def _shown(text: str, most: int = 120) -> str:
    """Put a text into one line of what a terminal can show."""
    line = "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if abs(value) < float("inf") else None for name, value in values.items()}
