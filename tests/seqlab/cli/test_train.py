"""Training from the command line: interruption, and the command that resumes it."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

LONG = ["task=names", "cell.hidden_size=8", "trainer.max_epochs=1000", "logger=none", "trainer.progress=false"]


def started(arguments, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "seqlab", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_interrupted_run_prints_the_command_that_resumes_it(tmp_path):
    """With a folder and a ``ckpt_path`` of its own in the command, which the line names once."""
    folder = "out here"
    process = started([*LONG, f"hydra.run.dir={folder}", "ckpt_path=null"], tmp_path)
    checkpoint = tmp_path / folder / "resume.ckpt"
    while not checkpoint.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in told
    (line,) = [line for line in told.splitlines() if "to resume" in line]
    words = shlex.split(line.split("to resume: python -m seqlab ")[1])
    assert sorted(words) == sorted([*LONG, f'hydra.run.dir="{folder}"', "ckpt_path=last"])
    before = checkpoint.stat().st_mtime_ns
    process = started(words, tmp_path)
    while checkpoint.stat().st_mtime_ns == before:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


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
