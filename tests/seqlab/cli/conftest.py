"""The command line in this process, and a run that several commands read."""

import logging
import sys
from dataclasses import dataclass

import pytest
from hydra.core.global_hydra import GlobalHydra

import seqlab
from seqlab.__main__ import main

from ..resumable import write_names


@dataclass
class Finished:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    def refused(self, *fragments):
        """Check that the command ended with exit code 1 and one line on stderr that has all fragments."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert (self.code, len(lines)) == (1, 1), self
        assert not [each for each in fragments if each not in lines[0]], (fragments, lines[0])
        for noise in ("Traceback", "HYDRA_FULL_ERROR", "To append to your config", "full_key"):
            assert noise not in self.err


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


@pytest.fixture(scope="session")
def tongues(tmp_path_factory):
    """A run that has learned to tell three invented languages apart."""
    folder = tmp_path_factory.mktemp("tongues")
    write_names(folder)
    fast = ["trainer.max_epochs=12", "optimizer.lr=0.02", "cell.hidden_size=8", "data.batch_size=16", "logger=none"]
    config = seqlab.compose([*fast, f"task.data_dir={folder}", "trainer.progress=false"])
    seqlab.run(config, folder / "run")
    return folder / "run"
