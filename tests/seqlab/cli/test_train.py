"""Training from the command line: interruption, and the command that resumes it."""

import os
import re
import shlex
import signal

import pytest

from ...processes import finish, start, wait_for

LONG = ["task=names", "cell.hidden_size=8", "trainer.max_epochs=1000", "logger=none", "trainer.progress=false"]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_interrupted_run_prints_the_command_that_resumes_it(tmp_path):
    """With a folder and a ``ckpt_path`` of its own in the command, which the line names once."""
    folder = "out here"
    process = start(tmp_path, *LONG, f"hydra.run.dir={folder}", "ckpt_path=null")
    checkpoint = tmp_path / folder / "resume.ckpt"
    wait_for(lambda: checkpoint.exists() or process.poll() is not None)
    os.kill(process.pid, signal.SIGINT)
    code, told = finish(process)
    assert code == 130
    assert "Traceback" not in told
    (line,) = [line for line in told.splitlines() if "to resume" in line]
    words = shlex.split(line.split("to resume: python -m seqlab ")[1])
    assert sorted(words) == sorted([*LONG, f'hydra.run.dir="{folder}"', "ckpt_path=last"])
    before = checkpoint.stat().st_mtime_ns
    process = start(tmp_path, *words)
    wait_for(lambda: checkpoint.stat().st_mtime_ns != before or process.poll() is not None)
    os.kill(process.pid, signal.SIGINT)
    assert finish(process)[0] == 130


@pytest.mark.parametrize(
    ("words", "message", "absent"),
    [
        (
            ["task=names", "cell=gru", "debug=limit"],
            r"parameters; \d+ epochs, the best was \d+; .* examples/s",
            "prepared",
        ),
        (
            ["task=lm", "model=ngram", "model.order=2", "task.data=text.txt"],
            r"0 parameters; prepared, not trained",
            "/s",
        ),
    ],
)
def test_a_run_prints_its_cost(words, message, absent, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("one line of text after another\n" * 2000, "utf-8")
    out = " ".join(cli(*words, "trainer.progress=false", "hydra.run.dir=run").out.split())
    assert re.search(message, out), out
    assert absent not in out
