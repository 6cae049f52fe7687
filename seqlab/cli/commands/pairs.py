"""``evaluate RUN_DIR --pairs FILE``: scores of a language model on minimal pairs."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from seqlab.cli.output import Output, print_json, progress
from seqlab.cli.tables import Table, chunks, kind_of, open_table, table_layout, write_table
from seqlab.errors import UserError

if TYPE_CHECKING:
    from seqlab.inference import Trained

COLUMNS = ("grammatical", "ungrammatical")
_ADDED = ("log_probability", "log_probability_of_other", "tokens", "tokens_of_other", "correct")
"""Columns of the table that is written, after those of the table that was read."""


@final
@dataclass
class PairScores:
    """Counts of pairs: all, those whose better member is likelier, equally likely ones, those with unknown tokens."""

    pairs: int = 0
    correct: int = 0
    ties: int = 0
    unknown: int = 0


def score_pairs(args: argparse.Namespace) -> int:
    """Print the share of pairs whose better member is likelier, and write a table of all pairs if asked to."""
    better, worse = args.pair_columns
    if better == worse:
        raise UserError(f"--pair-columns must be two columns, got {better} twice")
    table = open_table(args.pairs, table_layout(args), better)
    table.require(worse)
    for note in table.notes:
        print(f"{args.pairs}: {note}", file=sys.stderr)
    if args.output is not None:
        kind_of(args.output)
        if clash := [name for name in table.columns if name in _ADDED]:
            raise UserError(f"{args.pairs} has a column {clash[0]!r}, which --output adds; rename it")
    from seqlab.inference import load

    trained, scores = load(args.run_dir), PairScores()
    rows = _scored(trained, table, (better, worse), scores)
    if args.output is None:
        for _ in rows:
            pass
    else:
        write_table(args.output, [*table.columns, *_ADDED], rows)
    _show(scores, args)
    return 0


def _scored(trained: "Trained", table: Table, columns: tuple[str, str], scores: PairScores) -> Iterator[dict[str, Any]]:
    """Yield each row with its log-probabilities, and count it."""
    from seqlab.inference import log_probabilities

    better, worse = columns
    found = zip(table.texts(better), table.texts(worse), strict=True)
    with progress("pairs", table.count) as bar:
        for part in chunks(found, lambda pair: len(pair[0][0]) + len(pair[1][0])):
            texts = [text for pair in part for text, _ in pair]
            logs = log_probabilities(trained, texts)
            for (_, (_, row)), good, bad in zip(part, logs[::2], logs[1::2], strict=True):
                correct = good.nats > bad.nats
                scores.pairs += 1
                scores.correct += correct
                scores.ties += good.nats == bad.nats
                scores.unknown += bool(good.unknown or bad.unknown)
                added = (good.nats, bad.nats, good.tokens, bad.tokens, correct)
                yield {**row, **dict(zip(_ADDED, added, strict=True))}
            bar.advance(bar.task_ids[0], len(part))


def _show(scores: PairScores, args: argparse.Namespace) -> None:
    from seqlab.study.intervals import share_interval

    share = share_interval(scores.correct, scores.pairs)
    if args.json:
        interval = {"accuracy": share.mean, "low": share.low, "high": share.high}
        print_json({"run": str(args.run_dir), "data": str(args.pairs), **vars(scores), **interval})
        return
    out = Output()
    out.print_line(
        f"{args.pair_columns[0]} likelier than {args.pair_columns[1]}: {share.mean:.4f} "
        f"({share.low:.4f} to {share.high:.4f}, Wilson 95 %), {scores.correct:,} of {scores.pairs:,} pairs"
    )
    if scores.ties:
        out.print_line(f"equally likely pairs, counted as wrong: {scores.ties:,}")
    if scores.unknown:
        out.print_line(f"pairs with tokens that do not occur in train: {scores.unknown:,}")
    if args.output is not None:
        out.print_line(f"table  {args.output}")
