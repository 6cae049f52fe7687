"""The gallery's pictures are there and small, and its figures are those of the tables."""

import csv
import json
import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
GALLERY = DOCS / "gallery"
sys.path.insert(0, str(GALLERY))

import kernels  # noqa: E402  # behind its folder's path
import search  # noqa: E402  # the same

PAGE = (GALLERY / "index.md").read_text("utf-8")


def test_every_picture_of_the_page_is_there_and_small_and_there_is_no_other():
    shown = set(re.findall(r"!\[[^\]]+\]\((\w+\.png)\)", PAGE))
    assert shown == {path.name for path in GALLERY.glob("*.png")}
    assert len(shown) >= 7
    assert all((GALLERY / name).stat().st_size < 150_000 for name in shown)


def test_every_picture_has_a_command_and_a_date():
    sections = PAGE.split("\n## ")[1:]
    assert len(sections) == 5
    for section in sections:
        assert re.search(r"^    python -m seqlab ", section, re.MULTILINE), section
        assert re.search(r"^\(\d+ \w+ 20\d\d; .*\)$", section, re.MULTILINE), section


@pytest.mark.parametrize("task", ["first", "adding"])
def test_the_page_has_the_answer_of_each_task(task):
    assert re.search(rf"^\*\*On {task}, [^*]* steps\s\(interval [^*]*\*\*$", PAGE, re.MULTILINE)


def test_the_kernels_ratios_are_those_of_the_table_in_the_results():
    with (GALLERY / "kernels.csv").open(encoding="utf-8", newline="") as file:
        fused = [row for row in csv.DictReader(file) if row["path"] == "fused"]
    drawn = {(row["cell"], row["shape"].removesuffix("r")): float(row["ratio"]) for row in fused}
    table = (DOCS / "results" / "kernels.md").read_text("utf-8")
    rows = re.findall(r"^\| ([\dx]+)(?:, ragged)? \|(.*)$", table, re.MULTILINE)
    said = {}
    for shape, cells in rows:
        bold = re.findall(r"\*\*([\d.]+)\*\*", cells)
        if len(bold) == 3:
            said |= {(cell, shape): figure for cell, figure in zip(("gru", "rnn", "lstm"), bold, strict=True)}
    assert said.keys() == drawn.keys()
    for key, figure in said.items():
        digits = len(figure.partition(".")[2])
        assert abs(drawn[key] - float(figure)) <= 0.5001 * 10**-digits, key


def test_the_picture_of_the_kernels_is_drawn(tmp_path):
    kernels.draw(GALLERY / "kernels.csv", tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 5000


def run(folder, name, cell, distance, *words, seed=0):
    path = folder / name
    (path / "curves").mkdir(parents=True)
    (path / "curves" / "gradient_flow.csv").write_text("step\n")
    said = [
        "task=first",
        f"cell={cell}",
        f"task.sequence_length={distance}",
        f"seed={seed}",
        "optimizer.lr=0.01",
        *words,
    ]
    (path / "run.json").write_text(json.dumps({"state": "done", "words": [*said, *words]}))


def test_the_pair_is_that_of_the_largest_distance_that_both_have(tmp_path):
    for distance in (4, 8):
        run(tmp_path, f"rnn{distance}", "rnn", distance, seed=1)
        run(tmp_path, f"lstm{distance}", "lstm", distance, "cell.forget_bias=3", seed=1)
    run(tmp_path, "rnn8first", "rnn", 8)
    run(tmp_path, "lstm8first", "lstm", 8)
    run(tmp_path, "lstm16", "lstm", 16)
    run(tmp_path, "irnn16", "rnn", 16, "cell.nonlinearity=relu")
    pair = search.pair(tmp_path, "first")
    assert pair.distance == 8
    assert [path.name for path in pair.runs] == ["rnn8first", "lstm8first"]
    assert search.pair(tmp_path, "adding") is None
