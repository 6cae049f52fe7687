"""Leaderboard: cards of any origin in one table."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqlab.errors import UserError
from seqlab.io.atomic import write_text
from seqlab.io.csv_files import csv_field, csv_text
from seqlab.io.safe_io import escape_control
from seqlab.study.card.card import read_card
from seqlab.study.card.page import score
from seqlab.study.report.document import Document, Field, Section, Table, Text, html

PAGE, TABLE = "board.html", "board.csv"
_NOT_RANKED = ("cost", "conformance")
"""Sections that depend on the machine, or say nothing about memory."""

Column = tuple[str, str]
"""Section and name."""


def read_cards(places: Sequence[Path]) -> list[dict[str, Any]]:
    """Read cards of one protocol; equal labels get the name of their folder.

    Raises:
        UserError: a card cannot be read, or has another protocol than the first.
    """
    cards = [read_card(place) for place in places]
    for place, card in zip(places, cards, strict=True):
        for key, name in (("protocol", "version"), ("protocol_digest", "content")):
            if card[key] != cards[0][key]:
                raise UserError(
                    f"{place} has protocol {card['protocol']} ({card['protocol_digest']}), {places[0]} has"
                    f" {cards[0]['protocol']} ({cards[0]['protocol_digest']}): the {name} differs, so that they cannot"
                    " be compared; make one of the cards again"
                )
    labels = [card["cell"] for card in cards]
    for place, card in zip(places, cards, strict=True):
        card["label"] = card["cell"] if labels.count(card["cell"]) == 1 else f"{card['cell']} ({place})"
    return cards


def columns(cards: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of all cards in order of appearance."""
    return list(dict.fromkeys((each["section"], each["name"]) for card in cards for each in card["summary"]))


def _values(card: Mapping[str, Any]) -> dict[Column, Mapping[str, Any]]:
    return {(each["section"], each["name"]): each for each in card["summary"]}


def mean_ranks(cards: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Return the mean rank of each card over the columns: 1 is best, equal ones share one, missing values the last."""
    ranks: list[list[float]] = [[] for _ in cards]
    for column in columns(cards):
        if column[0] in _NOT_RANKED:
            continue
        found = [_values(card).get(column, {}) for card in cards]
        known = [each["value"] for each in found if each.get("value") is not None]
        for place, each in enumerate(found):
            if (value := each.get("value")) is None:
                if known:
                    ranks[place].append((len(known) + 1 + len(cards)) / 2)
            else:
                better = sum(other > value if each["better"] == "max" else other < value for other in known)
                ranks[place].append(1 + better + (known.count(value) - 1) / 2)
    return [statistics.fmean(each) if each else None for each in ranks]


def write_board(places: Sequence[Path], out: Path) -> Path:
    """Write ``board.html`` and ``board.csv``; return the path of the page.

    Raises:
        UserError: the cards cannot be compared, or a file cannot be written.
    """
    cards = read_cards(places)
    ranks = mean_ranks(cards)
    order = sorted(range(len(cards)), key=lambda place: ranks[place] or float("inf"))
    ordered = [(cards[place], ranks[place]) for place in order]
    shown = columns(cards)
    write_text(out / TABLE, _csv(ordered, shown))
    write_text(out / PAGE, escape_control(html(_document(ordered, shown), {}, sortable=True)))
    return out / PAGE


Ranked = Sequence[tuple[Mapping[str, Any], float | None]]


def _document(cards: Ranked, shown: Sequence[Column]) -> Document:
    head = ("cell", "of", "mean rank", "parameters", "state, bits", *(f"{section}: {name}" for section, name in shown))
    rows: list[tuple[Field, ...]] = []
    for card, rank in cards:
        values = _values(card)
        fields = [_field(values.get(column)) for column in shown]
        label = card["label"] if card["finished"] else f"{card['label']} (not finished)"
        facts = (f"{card['parameters']:,}", f"{card['state_bits']:,}")
        rows.append((label, card["owner"], "" if rank is None else f"{rank:.1f}", *facts, *fields))
    first = cards[0][0]
    text = (
        f"Protocol {first['protocol']} ({first['protocol_digest']}). Scores: means over seeds with 95 % intervals. A"
        " heading sorts its column. Mean rank: over all columns but cost and conformance; 1 is best. Speeds were"
        " measured on the machine of each card."
    )
    return Document("Leaderboard of cells", [Section("Results", blocks=[Text(text), Table(head, tuple(rows))])])


def _field(found: Mapping[str, Any] | None) -> str:
    if found is None or found["value"] is None:
        return ""
    mean, interval = score({**found, "mean": found["value"]})
    return f"{mean} ({interval})" if interval else mean


def _csv(cards: Ranked, shown: Sequence[Column]) -> str:
    rows = []
    for card, rank in cards:
        facts = ("owner", "protocol", "protocol_digest", "parameters", "state_bits", "finished")
        row: dict[str, Any] = {"cell": card["label"], **{key: card[key] for key in facts}, "mean_rank": rank}
        values = _values(card)
        for section, name in shown:
            found = values.get((section, name), {})
            row |= {f"{section}: {name}": found.get("value")}
            row |= {f"{section}: {name}, {end}": found.get(end) for end in ("low", "high")}
        rows.append({key: csv_field(value) for key, value in row.items()})
    return csv_text(rows, list(rows[0]))
