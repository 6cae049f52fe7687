"""The wrong commands of a page, typed, end in the line that the page says, and in nothing else."""

import re
import shlex
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "do" / "wrong.md").read_text("utf-8")
TYPED = re.compile(r"^\$ python -m seqlab (.*)\n((?:(?!\$ |```).*\n)*)", re.MULTILINE)


def typed(page):
    """Give each command of a page with the lines below it, as one line: a page wraps what a terminal does not."""
    return [(command, " ".join(said.split())) for command, said in TYPED.findall(page)]


def test_the_wrong_commands_of_the_page_end_in_the_lines_that_it_says(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews.csv").write_text("stars,review\ngood,fresh and warm\nbad,cold and bland\n", "utf-8")
    found = typed(PAGE)
    assert len(found) >= 12
    for command, said in found:
        done = cli(*shlex.split(command))
        assert done.code == 1, command
        assert " ".join((done.out + done.err).split()) == said, command
    assert not [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
