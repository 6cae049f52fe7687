"""Commands of seqlab in processes of their own."""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import final

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("logger=none", "trainer.progress=false", "trainer.threads=1")
FEW = ("trainer.limit_val_batches=2", "trainer.limit_test_batches=2", "trainer.limit_train_batches=2")
"""For what does not depend on how long a run trains."""

PRELOADED = (
    "seqlab.cli.train", "seqlab.cli.job", "seqlab.cli.errors", "seqlab.cli.multirun", "seqlab.training.run",
    "seqlab.inference", "seqlab_models.recurrent", "seqlab_cells.lstm", "seqlab_tasks.names",
)  # fmt: skip
"""Modules of the process that the others are forked from: importing them takes 5 s of a core, a run of a test one."""


@final
class Forked:
    """A command in a process that begins with seqlab imported; with the methods of :class:`subprocess.Popen`.

    Args:
        apart: whether errors are no part of the output.
    """

    def __init__(self, folder, arguments, environment, *, apart=False):
        self.outputs = [_empty_file(), *([_empty_file()] if apart else [])]
        if str(ROOT) not in sys.path:  # the process imports this module
            sys.path.append(str(ROOT))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        target = str(folder), arguments, environment, list(map(str, self.outputs))
        self.process = context.Process(target=_run, args=target)
        self.process.start()
        self.pid = self.process.pid

    def poll(self):
        """Return the exit code, ``None`` while the process runs."""
        return self.process.exitcode

    returncode = property(poll)

    def communicate(self, timeout=None):
        """Wait for the end; return the output and the errors."""
        self.process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired("seqlab", timeout)
        texts = [path.read_text("utf-8", "replace") for path in self.outputs if path.exists()]
        for path in self.outputs:
            path.unlink(missing_ok=True)
        return (*texts, "", "")[:2]

    def kill(self):
        self.process.kill()

    def terminate(self):
        self.process.terminate()


def _empty_file():
    with tempfile.NamedTemporaryFile(prefix="seqlab-", suffix=".out", delete=False) as file:
        return Path(file.name)


def _run(folder, arguments, environment, outputs):
    """Become the command: its folder, environment, streams and arguments."""
    multiprocessing.process._parent_process = None  # a command is no worker of a pool
    multiprocessing.set_start_method(None, force=True)  # its own processes start as in a command that a shell starts
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for stream, output in ((1, outputs[0]), (2, outputs[-1])):
        descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, stream)
        os.close(descriptor)
    sys.path[:] = [*filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), *sys.path]
    sys.argv = ["seqlab", *arguments]
    if environment.get("PYTHONWARNINGS") == "ignore":
        warnings.simplefilter("ignore")
    from seqlab.__main__ import main

    main()


def start(folder, *arguments, python=(), **environment):
    """Start a command; its errors are part of its output.

    Args:
        python: flags of the interpreter; with them it is a new one, which takes 5 s of a core to import seqlab.
    """
    environment = {**os.environ, **environment}
    if not python:
        return Forked(folder, arguments, environment)
    command = [sys.executable, *python, "-m", "seqlab", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def run(folder, *arguments):
    """Run a command; return its exit code, output and errors."""
    process = Forked(folder, arguments, dict(os.environ), apart=True)
    out, errors = process.communicate(timeout=500)
    return subprocess.CompletedProcess(arguments, process.returncode, out, errors)


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
