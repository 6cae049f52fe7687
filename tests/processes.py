"""Commands of seqlab in processes of their own."""

import json
import os
import subprocess
import sys
import time

QUICK = ("logger=none", "trainer.progress=false", "trainer.threads=1")
FEW = ("trainer.limit_val_batches=2", "trainer.limit_test_batches=2", "trainer.limit_train_batches=2")
"""For what does not depend on how long a run trains."""


def start(folder, *arguments, python=(), **environment):
    """Start a command; its errors are part of its output."""
    command = [sys.executable, *python, "-m", "seqlab", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process, seconds=500):
    """Wait for a command; return its exit code and output."""
    out = process.communicate(timeout=seconds)[0]
    return process.returncode, out


def wait_for(condition, seconds=120):
    """Wait until a condition holds; return its value."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def run_records(folder):
    """Read the run records of all sweeps below a folder, by name of the run."""
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("runs/sweeps/*/*/run.json")}
