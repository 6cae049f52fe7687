"""The wrong commands of a page end in one line that names what the page says."""

import re
import shlex
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "do" / "wrong.md").read_text("utf-8")
ROWS = re.findall(r"^\| `([^|]+)` \| ([^|]+) \|$", PAGE, re.MULTILINE)


def test_wrong_commands_end_in_a_line_that_names_the_cure(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews.csv").write_text("stars,review\ngood,fresh and warm\nbad,cold and bland\n", "utf-8")
    assert len(ROWS) >= 12
    for command, cure in ROWS:
        done = cli(*shlex.split(command))
        line = done.out + done.err
        assert done.code == 1, command
        assert line.count("\n") == 1, line
        assert not [name for name in re.findall(r"`([^`]+)`", cure) if name not in line], (command, line)
    assert not [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
