"""``inspect RUN_DIR TEXT``: see what a trained recurrent model does along a text."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from seqlab.cli.parser import Parser, typed_text
from seqlab.errors import UserError

if TYPE_CHECKING:
    from seqlab.study.context import Context
    from seqlab.study.inspection import Inspection, LayerView


_MOST_ROWS = 40
"""Rows of the table; of a longer text, those of the symbols that the answer hangs on most."""


def inspect_text(arguments: list[str]) -> int:
    """Draw the picture, and print a table and where the picture is."""
    asked = _asked(arguments)
    asked.text = typed_text(asked.text, "TEXT")
    from seqlab.inference.loading import load
    from seqlab.io.formatting import relative_path
    from seqlab.study.inspection import draw_inspection, inspect
    from seqlab.study.plotting import KINDS, save_figure

    out = asked.out or Path(asked.run_dir) / f"inspect-{_name(asked.text)}.png"
    if out.suffix.lower() not in KINDS:
        raise UserError(f"--out {out}: a picture's name ends in one of {', '.join(KINDS)}")
    trained = load(asked.run_dir)
    seen = inspect(trained, asked.text)
    layers = _layers(seen, asked.layer)
    who = f"{trained.nodes['cell']['name']} on {trained.nodes['task']['name']}"
    save_figure(draw_inspection(seen, layers, f"{_short(asked.text)}  ({who})"), out)
    console = Console(highlight=False)
    _show(seen, console)
    console.print(f"picture  {relative_path(out.absolute())}", soft_wrap=True, markup=False)
    return 0


def _asked(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "inspect",
        texts="a text",
        description="Draw what a trained recurrent model does along a text: gates and state at each symbol, what it "
        "would answer there, and how much the answer hangs on each input.",
        epilog="example: seqlab inspect RUN_DIR Satoshi",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the folder that a run wrote")
    parser.add_argument("text", metavar="TEXT", help="what is read")
    parser.add_argument("--out", type=Path, metavar="FILE", help=".png, .svg or .pdf (a .png in RUN_DIR)")
    parser.add_argument("--layer", default="last", metavar="N", help="the layer to show, from 0, or all (the last)")
    asked = parser.parse_args(arguments)
    if asked.layer not in ("last", "all") and not asked.layer.isdecimal():
        raise UserError(f"--layer is {asked.layer}; it must be a number from 0, last or all")
    return asked


def _layers(seen: "Inspection", asked: str) -> "list[LayerView]":
    last = seen.layers[-1].layer
    if asked == "all":
        return seen.layers
    chosen = last if asked == "last" else int(asked)
    if chosen > last:
        raise UserError(f"--layer is {asked}; the model has the layers 0 to {last}")
    return [view for view in seen.layers if view.layer == chosen]


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].rstrip("-") or "text"


def _short(text: str, most: int = 100) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _show(seen: "Inspection", console: Console) -> None:
    grid = Table("step", "symbol", "next, most likely" if seen.is_next else "answer, if it ended here")
    for name in ("second", "gradient"):
        grid.add_column(name, justify="left" if name == "second" else "right")
    steps: Sequence[int] = range(len(seen.symbols))
    if len(steps) > _MOST_ROWS:
        steps = sorted(sorted(steps, key=lambda step: -seen.gradients[step])[:_MOST_ROWS])
    for step in steps:
        answer = [f"{_visible(str(one['label']))} {one['probability']:.2f}" for one in seen.predictions[step][:2]]
        first, second = [*answer, ""][:2]
        row = (str(step + 1), _visible(seen.symbols[step]), first, second, f"{seen.gradients[step]:.3g}")
        grid.add_row(*map(Text, row))
    console.print(grid)
    if len(steps) < len(seen.symbols):
        console.print(f"the {len(steps)} of {len(seen.symbols)} symbols that the answer hangs on most")
    if seen.cut:
        console.print(f"the last {seen.cut:,} symbols were not read (task.sequence_length)")
    console.print(f"answer   {_visible(seen.prediction)} {seen.probability:.2f}", markup=False)


def _visible(symbol: str) -> str:
    return symbol if symbol.isprintable() and symbol.strip() else repr(symbol)[1:-1].replace(" ", "\u2423")


def context(arguments: list[str]) -> int:
    """Measure, write ``context.csv`` and ``context.png``, and print the table."""
    asked = _context_arguments(arguments)
    from seqlab.inference.loading import load
    from seqlab.io.formatting import relative_path
    from seqlab.study.context import LENGTHS, ContextStudy, draw_context, encode_test_split, write_context
    from seqlab.study.plotting import save_figure

    trained = load(asked.run_dir)
    lengths = asked.lengths or LENGTHS
    tokens = encode_test_split(trained)
    with _progress() as bar:
        study = ContextStudy(
            trained, tokens, count=asked.tokens, lengths=lengths, limit=asked.limit, seed=asked.seed,
            on_progress=lambda steps: bar.advance(bar.task_ids[0], steps),
        )  # fmt: skip
        bar.update(bar.task_ids[0], total=study.steps)
        found = study.run()
    folder = Path(asked.run_dir)
    names = {kind: trained.nodes[kind]["name"] for kind in ("model", "cell", "task")}
    who = names["cell"] if trained.model.uses_cell else names["model"]
    write_context(found, folder / "context.csv")
    save_figure(draw_context(found, f"Context of {who} on {names['task']}"), folder / "context.png")
    console = Console(highlight=False)
    _show_context(found, console)
    for name in ("context.csv", "context.png"):
        console.print(f"written  {relative_path((folder / name).absolute())}", soft_wrap=True, markup=False)
    return 0


def _context_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "context",
        description="Measure how much of its context a trained language model uses (Khandelwal et al. 2018, arXiv "
        "1805.04623): its loss on the test split where it reads only the last n tokens, and where those before them "
        "are shuffled.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the folder that a run of task=lm wrote")
    parser.add_argument("--lengths", type=_lengths, metavar="N,...", help="tokens of context (5,10,20,50,...,500)")
    parser.add_argument("--tokens", type=int, default=2_000, metavar="N", help="tokens to predict (%(default)s)")
    parser.add_argument(
        "--limit", type=int, default=200_000, metavar="N", help="tokens of the text to use (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the shuffling (%(default)s)")
    asked = parser.parse_args(arguments)
    for name in ("tokens", "limit"):
        if getattr(asked, name) < 2:
            raise UserError(f"--{name} is {getattr(asked, name)}; it must be at least 2")
    return asked


def _lengths(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) for word in words):
        raise UserError(f"--lengths is {text}; it must be numbers of at least 1 with commas between them")
    return [int(word) for word in words]


def _progress() -> Progress:
    columns = TextColumn("steps of reading"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    bar.add_task("steps", total=None)
    return bar


def _show_context(found: "Context", console: Console) -> None:
    title = f"{found.tokens:,} tokens of the test split; bits a token"
    grid = Table("context", title=title, title_justify="left")
    for name in ("tokens", "bits", "± se", "more than whole", "± se"):
        grid.add_column(name, justify="right")
    for row in found.rows:
        more = f"{row.difference:+.4f}", f"{row.difference_error:.4f}"
        grid.add_row(row.kind, f"{row.context:,}", f"{row.bits:.4f}", f"{row.standard_error:.4f}", *more)
    grid.add_row("whole", "", f"{found.bits:.4f}", f"{found.standard_error:.4f}", "", "")
    console.print(grid)
    longest = max(row.context for row in found.rows)
    for line in (
        f"the whole context is {found.whole}; shuffled rows are compared with {found.shuffled_to:,} tokens in order",
        f"effective context: {_said(found.effective, longest)} (the least within 1 % of the whole)",
        f"reach: {_said(found.reach, longest)} (beyond it no prediction changes)",
        f"order matters within at most: {_said(found.ordered, longest)} (shuffled beyond, the loss is within 1 %)",
    ):
        console.print(line, markup=False)


def _said(length: int | None, longest: int) -> str:
    if length is None:
        return f"more than {longest:,} tokens, the longest tried"
    return f"{length:,} token{'s' if length != 1 else ''}"
