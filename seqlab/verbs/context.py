"""``context RUN_DIR``: how much of what it has read a trained language model uses."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from seqlab.errors import UserError
from seqlab.verbs.parser import Parser

if TYPE_CHECKING:
    from seqlab.study.context import Context


def main(arguments: list[str]) -> int:
    """Measure, write ``context.csv`` and ``context.png``, and print the table."""
    asked = _asked(arguments)
    from seqlab.study.context import LENGTHS, ContextStudy, tokens_of_test
    from seqlab.study.context_figure import draw, write
    from seqlab.study.pictures import save
    from seqlab.training.runfolder import relative
    from seqlab.training.trained import load

    trained = load(asked.run_dir)
    lengths = asked.lengths or LENGTHS
    tokens = tokens_of_test(trained)
    with _progress() as bar:
        study = ContextStudy(
            trained, tokens, count=asked.tokens, lengths=lengths, limit=asked.limit, seed=asked.seed,
            tell=lambda steps: bar.advance(bar.task_ids[0], steps),
        )  # fmt: skip
        bar.update(bar.task_ids[0], total=study.steps)
        found = study.run()
    folder = Path(asked.run_dir)
    names = {kind: trained.nodes[kind]["name"] for kind in ("model", "cell", "task")}
    who = names["cell"] if trained.model.uses_cell else names["model"]
    write(found, folder / "context.csv")
    save(draw(found, f"Context of {who} on {names['task']}"), folder / "context.png")
    console = Console(highlight=False)
    _show(found, console)
    for name in ("context.csv", "context.png"):
        console.print(f"written  {relative((folder / name).absolute())}", soft_wrap=True, markup=False)
    return 0


def _asked(arguments: list[str]) -> argparse.Namespace:
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


def _show(found: "Context", console: Console) -> None:
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
