"""The scaling law in the horizon section of a report."""

from pathlib import Path

import pytest

from seqlab.study.report.document import FigureBlock, Table
from seqlab.study.report.horizons import horizon_section


def rows(cell="gru", ends=((2, 4), (8, 16), (4, 8), (16, 32), (8, 16), (16, 32))):
    """Horizons with 1 to 32 units."""
    return [
        {
            "label": f"{cell} hidden_size={2**place}", "words": [f"cell.hidden_size={2**place}"], "task_words": [],
            "task": "first", "horizon": low, "lower": low, "upper": high, "smallest": 2, "largest": 64,
            "folder": Path("x"), "search": {},
        }
        for place, (low, high) in enumerate(ends)
    ]  # fmt: skip


def shown(found):
    blocks = horizon_section("first", found, is_search=True).blocks
    tables = [block for block in blocks if isinstance(block, Table) and block.head[0] == "factor"]
    return tables, " ".join(getattr(block, "text", "") for block in blocks), blocks


def test_a_search_that_varies_a_number_has_its_exponent():
    (table,), text, _ = shown(rows())
    ((name, exponent, interval),) = table.rows
    low, high = map(float, interval.split(" to "))
    assert name == "cell.hidden_size"
    assert 0 < low < float(exponent) < high < 1.2
    assert "of 6 rows" in text


def test_groups_that_are_censored_at_one_end_are_named():
    (table,), text, _ = shown([*rows(), *rows("rnn", [(None, 2)] * 6)])
    assert len(table.rows) == 1
    assert text.count("first rnn") == 1


@pytest.mark.parametrize(
    ("found", "reason"),
    [(rows(ends=[(2, 4), (4, 8)]), "No scaling law fits these horizons"), (rows(ends=[(2, 4)]), "")],
)
def test_few_points_make_no_law(found, reason):
    tables, text, _ = shown(found)
    assert tables == []
    assert reason in text
    assert ("law" in text) == bool(reason)


def test_many_rows_have_no_figure():
    """A picture of hundreds of rows is longer than a page."""
    found = rows() * 11
    assert not any(isinstance(block, FigureBlock) for block in shown(found)[2])
    assert any(isinstance(block, FigureBlock) for block in shown(rows())[2])
