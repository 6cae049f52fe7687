"""What the guides show, is so; their commands are typed by test_commands.py."""

import re
from pathlib import Path

from seqlab.discovery import find, plugins
from seqlab.testing import CellSuite

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "do"
FIRST_CELL = (GUIDES / "cell.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", FIRST_CELL, re.DOTALL)
DISTANCES = (GUIDES / "distances.md").read_text("utf-8")


LARGE = (
    "causality_by_gradient",
    "causality_by_perturbation",
    "compiled_equals_the_loop",
    "every_option",
    "gradients_are_right",
    "large_and_small_numbers",
    "rows_are_independent",
    "state_carries_over_every_cut",
)
CAUGHT = {"padding_is_invisible", "gradients_are_right", "input_is_left_alone"}


def test_the_first_cell_runs_and_its_slip_is_caught(capsys, tmp_path, monkeypatch):
    """As a module: the kit pickles the cell, which must be found by name."""
    module = tmp_path / "first_cell.py"
    quick = [block.replace("run_suite(Test", "run_suite(Quick") for block in PYTHON]
    # The dear checks, and those that do not catch the slip, are left to test_commands.py, which runs the whole page.
    skip = "class Quick{0}(Test{0}):\n    skips = {1!r}\n\n\n"
    left_out = {"SlowFast": LARGE, "Hasty": CellSuite.checks().keys() - CAUGHT}
    for index, (name, begin) in enumerate((("SlowFast", "results ="), ("Hasty", "found =")), start=2):
        made = skip.format(name, dict.fromkeys(sorted(left_out[name]), "slow"))
        quick[index] = quick[index].replace(begin, made + begin, 1)
    module.write_text("\n\n".join(quick), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("first_cell")
    caught = {line.split(":")[0] for line in capsys.readouterr().out.splitlines()}
    assert caught == CAUGHT


def test_the_table_of_distances_names_every_generated_task():
    """And no other: the tasks whose sequence_length is a distance."""
    distances = {name for name in plugins("task") if find("task", name).load().sequence_length_means == "distance"}
    assert set(re.findall(r"^\| `(\w+)` \| [a-z]+ ", DISTANCES, re.MULTILINE)) == distances
