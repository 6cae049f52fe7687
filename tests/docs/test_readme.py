"""The commands, code and table of the README."""

import os
import re
import shlex
from pathlib import Path

import pytest

from seqlab.__main__ import COMMANDS as NAMES
from seqlab.config.compose import compose

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.partition(" #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python -m seqlab")
]
QUICK = [
    f"trainer.{key}" for key in ("max_epochs=1", "limit_train_batches=2", "limit_val_batches=2", "limit_test_batches=2")
]


def test_there_is_something_to_run():
    assert len(PYTHON) == 2
    assert len(COMMANDS) >= 8


def test_the_table_names_existing_tests_and_commands():
    rows = re.findall(r"^\| [^|]+ \| `([^`]+)` \|(?: [-+()]* ?\|){7}$", README, re.MULTILINE)
    assert len(rows) >= 8
    for shown in rows:
        words = [word for word in shlex.split(shown) if word != "-m"]
        if shown.startswith("tests/"):
            assert (ROOT / shown).exists(), shown
        elif words[0] not in NAMES:
            compose(words)


@pytest.mark.parametrize("code", PYTHON, ids=["recurrent", "run"])
def test_python_blocks_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run_as_typed(command, cli):
    """Training gets few steps and no download; everything else is as typed."""
    words = shlex.split(command)[3:]
    data = os.environ.get("SEQLAB_DATA")
    if "task.source=pytorch-tutorial" in words:
        if not data:
            pytest.skip("needs the real names: SEQLAB_DATA is not set")
        words[words.index("task.source=pytorch-tutorial")] = f"task.data_dir={data}/names"
    if "task.data_dir=FOLDER" in words:
        words[words.index("task.data_dir=FOLDER")] = f"task.data_dir={ROOT / 'plugins/seqlab_tasks/data/names'}"
    trains = ("=" in words[0] or "-m" in words) and "--help" not in words
    if trains:
        words += QUICK
    done = cli(*words)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    if trains:
        assert ("sweep folder" if "-m" in words else "run folder") in done.out
