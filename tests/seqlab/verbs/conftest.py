"""The command line, in this process: the same code as in a process of its own, without its start-up."""

import logging
import sys
from dataclasses import dataclass

import pytest
from hydra.core.global_hydra import GlobalHydra

from seqlab.__main__ import main


@dataclass
class Finished:
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Run ``python -m seqlab <arguments>`` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["seqlab", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            GlobalHydra.instance().clear()
            monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
            monkeypatch.delenv("SEQLAB_SET_FULL_ERROR", raising=False)
            for handler in list(logging.getLogger().handlers):
                if isinstance(handler, logging.FileHandler):
                    handler.close()
                    logging.getLogger().removeHandler(handler)
        captured = capsys.readouterr()
        return Finished(code, captured.out, captured.err)

    return run
