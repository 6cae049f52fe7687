"""``card`` and ``board``: what they refuse, and where their files are."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from seqlab.runs.ownership import owned_folder

from ...study.card.conftest import made, micro

__all__ = ["made", "micro"]  # fixtures


def test_a_card_goes_on_and_joins_a_board(cli, made, micro, tmp_path):
    shutil.copytree(made.folder, tmp_path / "mine")
    done = cli("card", "cell=gru", "--protocol", str(micro), "--jobs", "1", "--out", "mine")
    assert done.code == 0, done.err
    assert done.out.splitlines() == ["card  mine/card.json", "page  mine/card.html"]
    assert "no_such_task" in done.err
    assert "conformance" not in done.err
    other = tmp_path / "other"
    other.mkdir()
    (other / "card.json").write_text(json.dumps({**made.record, "cell": "theirs"}))
    board = cli("board", "mine", "other/card.json", "--out", "both")
    assert (board.code, board.out.strip()) == (0, "both/board.html")
    assert (tmp_path / "both" / "board.csv").read_text().count("\n") == 3
    (other / "card.json").write_text(json.dumps({**made.record, "protocol": "2"}))
    cli("board", "mine", "other").refused("other has protocol 2", "mine has micro")
    cli("board", "mine", "mine").refused("is given twice")


def test_a_card_in_the_making_is_left_alone(cli, made, micro, tmp_path):
    shutil.copytree(made.folder, tmp_path / "mine")
    before = (tmp_path / "mine" / "card.json").read_bytes()
    words = ("card", "cell=gru", "--protocol", str(micro), "--jobs", "1", "--out", "mine")
    with ThreadPoolExecutor(1) as other, ExitStack() as owner:
        other.submit(owner.enter_context, owned_folder(tmp_path / "mine")).result()
        done = cli(*words)
        assert done.code == 1
        assert "another process makes a card in mine just now; wait for its end" in done.err
        other.submit(owner.close).result()
    assert (tmp_path / "mine" / "card.json").read_bytes() == before
    assert cli(*words).code == 0


@pytest.mark.parametrize("command", ["card", "board"])
def test_help_needs_no_torch(command):
    code = (
        "import sys\nsys.argv = ['seqlab', sys.argv[1], '--help']\nfrom seqlab.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nprint('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, check=True).stdout
    assert out.startswith(f"usage: seqlab {command}")
    assert out.endswith("False\n")
