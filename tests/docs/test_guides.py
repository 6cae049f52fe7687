"""What the guides show, is so; their commands are typed by test_commands.py."""

import re
from pathlib import Path

from seqlab.contracts.task import task_defaults
from seqlab.plugins import find, plugins

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "do"
FIRST_CELL = (GUIDES / "cell.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", FIRST_CELL, re.DOTALL)
DISTANCES = (GUIDES / "distances.md").read_text("utf-8")


LARGE = (
    "causality",
    "compiled_equals_the_loop",
    "every_option",
    "gradients_are_right",
    "large_and_small_numbers",
    "rows_are_independent",
    "state_carries_over_every_cut",
)


def test_the_first_cell_runs(tmp_path, monkeypatch):
    """As a module: the kit pickles the cell, which must be found by name."""
    *first, suite, _ = PYTHON
    skips = dict.fromkeys(LARGE, "slow; test_commands.py checks the whole cell")
    suite = suite.replace("    cell = SlowFast\n", f"    cell = SlowFast\n    skips = {skips!r}\n", 1)
    (tmp_path / "first_cell.py").write_text("\n\n".join([*first, suite]), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    first_cell = __import__("first_cell")
    assert set(first_cell.results.values()) == {"passed", "skipped"}


def test_the_table_of_distances_names_every_generated_task():
    """And no other: the tasks whose sequence_length is a distance."""
    distances = {
        name for name in plugins("task") if task_defaults(find("task", name).load()).sequence_length_means == "distance"
    }
    assert set(re.findall(r"^(?:\| `(?=\w+` \| [a-z])|- `(?=\w+`: [a-z]))(\w+)`", DISTANCES, re.MULTILINE)) == distances
