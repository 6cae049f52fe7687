"""Training from the command line: what an interruption leaves, and the line that goes on from there."""

import os
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
def test_an_interrupted_run_says_how_to_go_on_and_goes_on(tmp_path):
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
    (line,) = [line for line in told.splitlines() if "to go on" in line]
    words = shlex.split(line.split("to go on: python -m seqlab ")[1])
    assert sorted(words) == sorted([*LONG, f"hydra.run.dir={folder}", "ckpt_path=last"])
    before = checkpoint.stat().st_mtime_ns
    process = started(words, tmp_path)
    while checkpoint.stat().st_mtime_ns == before:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
