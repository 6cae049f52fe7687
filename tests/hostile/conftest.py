"""The attacked run, and the command line with a limit of one gigabyte of further memory."""

import logging
import resource
import shutil
import sys
import time
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from seqlab.__main__ import main

RUN = Path(__file__).parents[1] / "fixtures" / "run_format_1"
GIGABYTE = 2**30


@pytest.fixture
def target(tmp_path, monkeypatch):
    """A folder with a sound run, a table, and beside it what must stay as it is."""
    here = tmp_path / "here"
    shutil.copytree(RUN, here / "run")
    (here / "outside").mkdir()
    (here / "outside" / "precious").write_text("as it was")
    (here / "texts.csv").write_text("text,label\nSatoshi,Japanese\n", "utf-8")
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command in this process, with a gigabyte more than it has: exit code, what it printed, seconds of work."""

    def run(*arguments):
        for name in ("HYDRA_FULL_ERROR", "SEQLAB_SET_FULL_ERROR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(sys, "argv", ["seqlab", *arguments])
        capsys.readouterr()
        before = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + GIGABYTE, before[1]))
        code, began = 0, time.process_time()
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            taken = time.process_time() - began
            resource.setrlimit(resource.RLIMIT_AS, before)
            GlobalHydra.instance().clear()
            for handler in list(logging.getLogger().handlers):
                if isinstance(handler, logging.FileHandler):
                    handler.close()
                    logging.getLogger().removeHandler(handler)
        said = capsys.readouterr()
        return code, said.out, said.err, taken

    yield run
    for name in ("HYDRA_FULL_ERROR", "SEQLAB_SET_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)
