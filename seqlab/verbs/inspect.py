"""``inspect RUN_DIR TEXT``: see what a trained recurrent model does along a text."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from seqlab.errors import UserError
from seqlab.verbs.parser import Parser, typed_text

if TYPE_CHECKING:
    from seqlab.study.inspection import Inspection, LayerView

_MOST_ROWS = 40
"""Rows of the table; of a longer text, those of the symbols that the answer hangs on most."""


def main(arguments: list[str]) -> int:
    """Draw the picture, and print a table and where the picture is."""
    asked = _asked(arguments)
    asked.text = typed_text(asked.text, "TEXT")
    from seqlab.study.inspection import inspect
    from seqlab.study.inspection_figure import draw
    from seqlab.study.pictures import KINDS, save
    from seqlab.training.runfolder import relative
    from seqlab.training.trained import load

    out = asked.out or Path(asked.run_dir) / f"inspect-{_name(asked.text)}.png"
    if out.suffix.lower() not in KINDS:
        raise UserError(f"--out {out}: a picture's name ends in one of {', '.join(KINDS)}")
    trained = load(asked.run_dir)
    seen = inspect(trained, asked.text)
    layers = _layers(seen, asked.layer)
    who = f"{trained.nodes['cell']['name']} on {trained.nodes['task']['name']}"
    save(draw(seen, layers, f"{_short(asked.text)}  ({who})"), out)
    console = Console(highlight=False)
    _show(seen, console)
    console.print(f"picture  {relative(out.absolute())}", soft_wrap=True, markup=False)
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
        answer = [f"{_visible(str(one['label']))} {one['probability']:.2f}" for one in seen.answers[step][:2]]
        first, second = [*answer, ""][:2]
        row = (str(step + 1), _visible(seen.symbols[step]), first, second, f"{seen.gradients[step]:.3g}")
        grid.add_row(*map(Text, row))
    console.print(grid)
    if len(steps) < len(seen.symbols):
        console.print(f"the {len(steps)} of {len(seen.symbols)} symbols that the answer hangs on most")
    if seen.cut:
        console.print(f"the last {seen.cut:,} symbols were not read (task.sequence_length)")
    console.print(f"answer   {_visible(seen.answer)} {seen.probability:.2f}", markup=False)


def _visible(symbol: str) -> str:
    return symbol if symbol.isprintable() and symbol.strip() else repr(symbol)[1:-1].replace(" ", "\u2423")
