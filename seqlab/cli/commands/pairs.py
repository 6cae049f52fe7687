"""``evaluate RUN_DIR --pairs FILE``: scores of a language model on minimal pairs."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from seqlab.cli.output import Output, print_json, progress
from seqlab.cli.tables import Table, check_output, chunks, open_table, table_layout, write_table
from seqlab.errors import UserError
from seqlab.io.tables import missing_column

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
    better, worse = args.pair_columns or COLUMNS
    columns = (better, worse)
    if better == worse:
        raise UserError(f"--pair-columns must be two columns, got {better} twice")
    table = open_table(args.pairs, table_layout(args))
    for name in (better, worse):
        if name not in table.columns:
            told = missing_column(name, table.columns)
            raise UserError(f"{args.pairs} {told}. Add --pair-columns BETTER WORSE")
    for _ in _pairs(table, columns):  # refuses bad rows before a model is loaded
        pass
    for note in table.notes:
        print(f"{args.pairs}: {note}", file=sys.stderr)
    if args.output is not None:
        check_output(args.output)
        if args.output.exists() and not args.force:
            raise UserError(f"{args.output} is there already; choose another --output, or add --force to overwrite it")
        if clash := [name for name in table.columns if name in _ADDED]:
            raise UserError(f"{args.pairs} has a column {clash[0]!r}, which --output adds; rename it")
    from seqlab.inference import load

    trained, scores = load(args.run_dir), PairScores()
    rows = _scored(trained, table, columns, scores)
    if args.output is None:
        for _ in rows:
            pass
    else:
        tabs = check_output(args.output) in (".tsv", ".tab")
        write_table(args.output, [*table.columns, *_ADDED], rows, quotes=not (tabs and table.plain))
    _show(scores, args, columns)
    return 0


def _pairs(table: Table, columns: tuple[str, str]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Yield the two texts of each row, and the row; raise :class:`UserError` for one that is missing or blank."""
    for line, row in table.rows():
        texts = []
        for name in columns:
            text = row.get(name)
            if not isinstance(text, str) or not text.strip():
                told = json.dumps(text)[:40]
                raise UserError(f"{table.path}, line {line:,}: {name} must be a text that is not blank, got {told}")
            texts.append(text)
        yield texts, row


def _scored(trained: "Trained", table: Table, columns: tuple[str, str], scores: PairScores) -> Iterator[dict[str, Any]]:
    """Yield each row with its log-probabilities, and count it."""
    from seqlab.inference import log_probabilities

    with progress("pairs", table.count) as bar:
        for part in chunks(_pairs(table, columns), lambda pair: sum(map(len, pair[0]))):
            texts = [text for pair, _ in part for text in pair]
            logs = log_probabilities(trained, texts)
            for (_, row), good, bad in zip(part, logs[::2], logs[1::2], strict=True):
                correct = good.nats > bad.nats
                scores.pairs += 1
                scores.correct += correct
                scores.ties += good.nats == bad.nats
                scores.unknown += bool(good.unknown or bad.unknown)
                added = (good.nats, bad.nats, good.tokens, bad.tokens, correct)
                yield {**row, **dict(zip(_ADDED, added, strict=True))}
            bar.advance(bar.task_ids[0], len(part))


def _show(scores: PairScores, args: argparse.Namespace, columns: tuple[str, str]) -> None:
    from seqlab.study.intervals import share_interval

    share = share_interval(scores.correct, scores.pairs)
    if args.json:
        interval = {"accuracy": share.mean, "low": share.low, "high": share.high}
        print_json({"run": str(args.run_dir), "data": str(args.pairs), **vars(scores), **interval})
        return
    out = Output()
    out.print_line(
        f"{columns[0]} likelier than {columns[1]}: {share.mean:.4f} "
        f"({share.low:.4f} to {share.high:.4f}, Wilson 95 %), {scores.correct:,} of {scores.pairs:,} pairs"
    )
    if scores.ties:
        out.print_line(f"equally likely pairs, counted as wrong: {scores.ties:,}")
    if scores.unknown:
        out.print_line(f"pairs with tokens outside the vocabulary: {scores.unknown:,}")
    if args.output is not None:
        out.print_line(f"table  {args.output}")
