"""What the guides show, runs: Python blocks one after another, shell blocks as typed."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from seqlab.discovery import find, plugins

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "do"
FIRST_CELL = (GUIDES / "cell.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", FIRST_CELL, re.DOTALL)
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", FIRST_CELL, re.DOTALL) for line in block.splitlines()]
DISTANCES = (GUIDES / "distances.md").read_text("utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", DISTANCES, re.DOTALL) for line in block.splitlines()]
FLOW = (GUIDES / "gradient_flow.md").read_text("utf-8")
QUICK = "trainer.max_epochs=1 trainer.limit_train_batches=2 trainer.progress=false logger=none"


def test_the_first_cell_runs_and_its_slip_is_caught(capsys, tmp_path, monkeypatch):
    """As a module: the kit pickles the cell, which must be found by name."""
    module = tmp_path / "first_cell.py"
    quick = [block.replace("run_suite(Test", "run_suite(Quick") for block in PYTHON]
    # The compiled check takes a compiler and ten seconds; the shell test below runs the whole suite.
    skip = 'class Quick{0}(Test{0}):\n    skips = {{"compiled_equals_the_loop": "slow"}}\n\n\n'
    quick[2] = quick[2].replace("results =", skip.format("SlowFast") + "results =")
    quick[3] = quick[3].replace("found =", skip.format("Hasty") + "found =", 1)
    module.write_text("\n\n".join(quick), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("first_cell")
    caught = {line.split(":")[0] for line in capsys.readouterr().out.splitlines()}
    assert {"padding_is_invisible", "gradients_are_right", "input_is_left_alone"} <= caught


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_first_cell_becomes_a_plugin(tmp_path):
    site = tmp_path / "site"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(site),
        "PIP_TARGET": str(site),
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # which pip reads as: no isolation
        "COLUMNS": "200",
    }
    for line in SHELL:
        trains = "cell=slow_fast" in line.replace("lstm,", "") and "check" not in line
        typed = f"{line} {QUICK}" if trains else line
        done = subprocess.run(typed, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        told = "6 runs: 6 done" if "-m cell=" in line else "slow_fast on names"
        assert not trains or told in done.stdout
        if " new " in line:
            (tmp_path / "seqlab-slow-fast" / "seqlab_slow_fast" / "__init__.py").write_text(PYTHON[0], "utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_distances_are_trained_on_as_typed(command, tmp_path):
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "seqlab"]
    typed = [sys.executable, *words[1:], *QUICK.split()]
    done = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "run folder" in done.stdout


def test_the_table_of_distances_names_every_generated_task():
    """And no other: the tasks whose sequence_length is a distance."""
    distances = {name for name in plugins("task") if find("task", name).load().sequence_length_means == "distance"}
    assert set(re.findall(r"^\| `(\w+)` \| [a-z]+ ", DISTANCES, re.MULTILINE)) == distances


def test_two_lines_show_that_a_gradient_vanishes_or_explodes(capsys):
    *setting, example = re.findall(r"```python\n(.*?)```", FLOW, re.DOTALL)
    (said,) = re.findall(r"```text\n(.*?)```", FLOW, re.DOTALL)
    assert len(example.splitlines()) == 2
    exec("\n".join([*setting, example]), {})
    assert capsys.readouterr().out == said
    for line in said.splitlines():
        measured, power = line.split()
        assert measured == power
