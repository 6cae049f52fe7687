"""Leaderboard: cards of one protocol in one table, which no card can break."""

import base64
import copy
import csv
import hashlib
import json
import re

import pytest

from seqlab import UserError
from seqlab.study.card.board import mean_ranks, read_cards, write_board
from seqlab.study.card.card import FILE


@pytest.fixture
def cards(made, tmp_path):
    """Write cards that differ from a genuine one."""

    def write(**changes):
        places = []
        for name, change in changes.items():
            record = copy.deepcopy(made.record)
            values = change.pop("values", {})
            record |= {"cell": name, **change}
            for each in record["summary"]:
                each["value"] = values.get(each["name"], each["value"])
            (tmp_path / name).mkdir()
            (tmp_path / name / FILE).write_text(json.dumps(record), "utf-8")
            places.append(tmp_path / name)
        return places

    return write


def _column(section, name, value, better="max"):
    return {"section": section, "name": name, "value": value, "low": None, "high": None, "better": better}


def test_ranks_by_hand():
    """Of a: 1 and 2.5 (shared); of b: 2 and 1; of c: 3.5 (missing, as in d) and 2.5. Costs do not count."""
    given = {
        "a": [_column("s", "x", 5.0), _column("s", "y", 3.0, "min"), _column("cost", "z", 1.0)],
        "b": [_column("s", "x", 4.0), _column("s", "y", 1.0, "min"), _column("cost", "z", 9.0)],
        "c": [_column("s", "x", None), _column("s", "y", 3.0, "min")],
        "d": [],
    }
    found = mean_ranks([{"summary": each} for each in given.values()])
    assert found == [(1 + 2.5) / 2, (2 + 1) / 2, (3.5 + 2.5) / 2, (3.5 + 4) / 2]


def test_cards_are_merged_in_the_order_of_their_ranks(cards, tmp_path):
    places = cards(worse={"values": {"parity, 4": 0.1}}, better={"values": {"parity, 4": 0.9}, "owner": "theirs 2.0"})
    page = write_board(places, tmp_path / "out").read_text("utf-8")
    with (tmp_path / "out" / "board.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["cell"], row["owner"]) for row in rows] == [("better", "theirs 2.0"), ("worse", rows[1]["owner"])]
    assert [float(row["state tracking: parity, 4"]) for row in rows] == [0.9, 0.1]
    assert page.index("better") < page.index("worse")


def test_the_one_script_is_that_of_the_policy(cards, tmp_path):
    """A card cannot bring a script along: it is escaped, and its hash is not the policy's."""
    hostile = "<script>alert(1)</script>"
    places = cards(first={}, second={"cell": hostile, "owner": hostile})
    page = write_board(places, tmp_path / "out").read_text("utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "alert(1)" in page
    assert "src=" not in page


def test_equal_names_are_told_apart(cards, tmp_path):
    first, second = cards(one={"cell": "gru"}, two={"cell": "gru"})
    assert [card["label"] for card in read_cards([first, second])] == [f"gru ({first})", f"gru ({second})"]


@pytest.mark.parametrize("changed", [{"protocol": "1"}, {"protocol_digest": "0" * 12}])
def test_cards_of_other_protocols_are_refused(cards, tmp_path, changed):
    first, second = cards(one={}, two=changed)
    with pytest.raises(UserError, match=r"two has protocol .*one has micro .*cannot be compared") as caught:
        write_board([first, second], tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
