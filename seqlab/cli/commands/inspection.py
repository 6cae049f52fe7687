"""``inspect`` and ``context``: what a trained model does along a text, and how much context it uses."""

import argparse
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from seqlab.cli.output import Output, progress, shorten
from seqlab.cli.parser import Parser, figure_path, integer, utf8
from seqlab.errors import UserError
from seqlab.io.formatting import relative_path

if TYPE_CHECKING:
    from seqlab.study.context import Context
    from seqlab.study.inspection import Inspection
    from seqlab.study.modules import LayerView

_MOST_ROWS = 40
"""Rows of the table; of a longer text, the symbols with the largest gradients are shown."""


def inspect_text(arguments: list[str]) -> int:
    """Draw the figure; print a table and the path of the figure."""
    parser = Parser(
        "inspect",
        takes_texts=True,
        description="Plot a trained recurrent model along a text: gates and state at each symbol, its predictions, "
        "and the gradient of the prediction with respect to each input.",
        epilog="example: seqlab inspect RUN_DIR Satoshi",
    )
    parser.add_run_dir()
    parser.add_argument("text", metavar="TEXT", type=utf8, help="input text")
    parser.add_argument("--out", type=figure_path, metavar="FILE", help=".png, .svg or .pdf (a .png in RUN_DIR)")
    parser.add_argument("--layer", default="last", metavar="N", help="layer to show, from 0, or all (the last)")
    args = parser.parse(arguments)
    if args.layer not in ("last", "all") and not args.layer.isdecimal():
        raise UserError(f"--layer must be a number >= 0, last or all, got {args.layer}")
    from seqlab.inference import load
    from seqlab.study.inspection import draw_inspection, inspect
    from seqlab.study.plotting import save_figure

    trained = load(args.run_dir)
    inspection = inspect(trained, args.text)
    layers = _layers(inspection, args.layer)
    slug = re.sub(r"[^a-z0-9]+", "-", args.text.lower()).strip("-")[:40].rstrip("-") or "text"
    file = args.out or args.run_dir / f"inspect-{slug}.png"
    run = f"{trained.nodes['cell']['name']} on {trained.nodes['task']['name']}"
    save_figure(draw_inspection(inspection, layers, f"{shorten(args.text, 100)}  ({run})"), file)
    out = Output()
    _show_inspection(inspection, out)
    out.print_line(f"figure   {relative_path(file.absolute())}")
    return 0


def _layers(inspection: "Inspection", layer: str) -> "list[LayerView]":
    last = inspection.layers[-1].layer
    if layer == "all":
        return inspection.layers
    number = last if layer == "last" else int(layer)
    if number > last:
        raise UserError(f"--layer must be between 0 and {last}, got {layer}")
    return [view for view in inspection.layers if view.layer == number]


def _show_inspection(inspection: "Inspection", out: Output) -> None:
    steps: Sequence[int] = range(len(inspection.symbols))
    if len(steps) > _MOST_ROWS:
        steps = sorted(sorted(steps, key=lambda step: -inspection.gradients[step])[:_MOST_ROWS])
    rows = []
    for step in steps:
        answers = [
            f"{_visible(str(one['label']))} {one['probability']:.2f}" for one in inspection.predictions[step][:2]
        ]
        first, second = [*answers, ""][:2]
        rows.append(
            (str(step + 1), _visible(inspection.symbols[step]), first, second, f"{inspection.gradients[step]:.3g}")
        )
    columns = ("step", "symbol", "next symbol" if inspection.is_next else "prediction so far", "second", "gradient")
    out.print_table(columns, rows, right=("gradient",))
    if len(steps) < len(inspection.symbols):
        out.print_line(f"the {len(steps)} of {len(inspection.symbols)} symbols with the largest gradients")
    if inspection.cut:
        out.print_line(f"the last {inspection.cut:,} symbols were cut off (task.sequence_length)")
    out.print_line(f"answer   {_visible(inspection.prediction)} {inspection.probability:.2f}")


def _visible(symbol: str) -> str:
    return symbol if symbol.isprintable() and symbol.strip() else repr(symbol)[1:-1].replace(" ", "\u2423")


def context(arguments: list[str]) -> int:
    """Measure, write ``context.csv`` and ``context.png``, and print the table."""
    args = _parse_context(arguments)
    from seqlab.inference import load
    from seqlab.study.context import LENGTHS, ContextStudy, draw_context, encode_test_split, write_context
    from seqlab.study.plotting import save_figure

    trained = load(args.run_dir)
    tokens = encode_test_split(trained)
    with progress("steps") as bar:
        study = ContextStudy(
            trained, tokens, count=args.tokens, lengths=args.lengths or LENGTHS, limit=args.limit, seed=args.seed,
            on_progress=lambda steps: bar.advance(bar.task_ids[0], steps),
        )  # fmt: skip
        bar.update(bar.task_ids[0], total=study.steps)
        found = study.run()
    names = {kind: trained.nodes[kind]["name"] for kind in ("model", "cell", "task")}
    who = names["cell"] if trained.model.uses_cell else names["model"]
    table, figure = args.run_dir / "context.csv", args.run_dir / "context.png"
    write_context(found, table)
    save_figure(draw_context(found, f"Context of {who} on {names['task']}"), figure)
    out = Output()
    _show_context(found, out)
    for file in (table, figure):
        out.print_line(f"written  {relative_path(file.absolute())}")
    return 0


def _parse_context(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "context",
        description="Measure how much context a trained language model uses (Khandelwal et al. 2018, arXiv "
        "1805.04623): its loss on the test split when it reads only the last N tokens, and when earlier tokens are "
        "shuffled.",
    )
    parser.add_run_dir()
    parser.add_argument("--lengths", type=_lengths, metavar="N,...", help="tokens of context (5,10,20,50,...,500)")
    parser.add_argument("--tokens", type=integer(2), default=2_000, metavar="N", help="tokens to predict (%(default)s)")
    parser.add_argument(
        "--limit", type=integer(2), default=200_000, metavar="N", help="tokens of the text to use (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the shuffling (%(default)s)")
    return parser.parse(arguments)


def _lengths(text: str) -> list[int]:
    return [integer(1)(word.strip()) for word in text.split(",")]


def _show_context(found: "Context", out: Output) -> None:
    columns = ("context", "tokens", "bits", "± se", "difference", "± se of it")
    rows: list[tuple[str, ...]] = [
        (row.kind, f"{row.context:,}", f"{row.bits:.4f}", f"{row.standard_error:.4f}", f"{row.difference:+.4f}",
         f"{row.difference_error:.4f}")
        for row in found.rows
    ]  # fmt: skip
    rows.append(("whole", "", f"{found.bits:.4f}", f"{found.standard_error:.4f}", "", ""))
    out.print_table(
        columns, rows, right=columns[1:], title=f"bits per token on {found.tokens:,} tokens of the test split"
    )
    longest = max(row.context for row in found.rows)
    for line in (
        f"the whole context is {found.whole}; shuffled rows are compared with {found.shuffled_to:,} tokens in order",
        f"effective context: {_tokens(found.effective, longest)} (loss within 1 % of that with the whole context)",
        f"reach: {_tokens(found.reach, longest)} (no prediction changes beyond it)",
        f"order matters within at most: {_tokens(found.ordered, longest)} (shuffled beyond, loss within 1 %)",
    ):
        out.print_line(line)


def _tokens(length: int | None, longest: int) -> str:
    if length is None:
        return f"more than {longest:,} tokens, the longest tested"
    return f"{length:,} token{'s' if length != 1 else ''}"
