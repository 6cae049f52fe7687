"""The commands and code of the README: one screen, three commands, four doors."""

import re
import shlex
from pathlib import Path

import pytest

from seqlab.__main__ import COMMANDS as NAMES

from .test_commands import Shell

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
(PYTHON,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
FIRST, *DOORS = [
    [line.partition(" #")[0].strip() for line in block.splitlines()]
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
]
LINKS = re.findall(r"\]\(((?!https?:)[^)#]+)(?:#[^)]*)?\)", README)


def test_it_is_one_screen_with_three_commands_and_a_door_each():
    assert len(README.split()) <= 700
    assert FIRST[0] == "make run"
    assert len(FIRST) == 4  # three, and the activation
    assert all(shlex.split(line)[3] in NAMES for (line,) in DOORS)
    assert README.count("\n**You ") == 4


def test_its_links_lead_somewhere():
    assert len(LINKS) > 15
    assert [link for link in LINKS if not (ROOT / link).is_file()] == []


def test_the_python_block_runs(capsys):
    exec(compile(PYTHON, "README.md", "exec"), {})
    assert capsys.readouterr().out == "1 (LSTM): replaced\n"


@pytest.mark.slow
def test_its_commands_work_as_typed_one_after_another(cli, tmp_path, monkeypatch):
    """``make run`` and activation are those of the environment that runs this; training gets few steps."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{number % 2},visit {number}\n" for number in range(40))
    (tmp_path / "reviews.csv").write_text("stars,review\n" + rows, "utf-8")
    shell = Shell(cli, tmp_path, monkeypatch)
    for line in [*FIRST[2:], *(line for (line,) in DOORS)]:
        shell.type(line)
    assert list(tmp_path.glob("runs/sweeps/*/report/report.html"))
    assert (tmp_path / "seqlab-my-cell" / "pyproject.toml").is_file()
