"""Atomic writing, and the CSV files of runs."""

import math

import pytest

from seqlab.errors import check_range
from seqlab.io.atomic import append_text, replacing, write_text
from seqlab.io.csv_files import csv_text, read_csv


def test_an_error_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(FileNotFoundError), replacing(path) as temporary:
        temporary.with_name("missing").read_text()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_csv_round_trip_without_the_row_that_a_crash_cut_off(tmp_path):
    path, rows = tmp_path / "t.csv", [{"step": "1", "loss": 'a "quoted", text'}, {"step": "2", "loss": ""}]
    assert read_csv(path) == []
    write_text(path, csv_text(rows, ["step", "loss"]))
    append_text(path, "3\n4,0.5")  # a short row, and one without its line end
    assert read_csv(path) == rows


@pytest.mark.parametrize(
    ("bounds", "value", "expected"),
    [
        ({"at_least": 1}, 0, "x must be >= 1, got 0"),
        ({"at_least": 0, "below": 1}, 1.0, "x must be >= 0 and < 1, got 1.0"),
        ({"at_least": 0, "below": 1}, math.nan, "x must be >= 0 and < 1, got nan"),
        ({"at_most": 3}, 4, "x must be <= 3, got 4"),
    ],
)
def test_ranges_are_named(bounds, value, expected):
    with pytest.raises(ValueError, match=f"^{expected}$"):
        check_range("x", value, **bounds)
    check_range("y", 0 if bounds.get("at_least", 0) == 0 else 1, **bounds)
