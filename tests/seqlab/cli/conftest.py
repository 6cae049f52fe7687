"""The command line, in this process: the same code as in a process of its own, without its start-up."""

import logging
import sys
from dataclasses import dataclass

import pytest
from hydra.core.global_hydra import GlobalHydra

import seqlab
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


@pytest.fixture(scope="session")
def tongues(tmp_path_factory):
    """Three invented languages that can be told apart, and a run that learned to."""
    folder = tmp_path_factory.mktemp("tongues")
    for language, parts in {"Aaish": "aa ba na la", "Ooish": "oo bo no lo", "Eeish": "ee be ne le"}.items():
        names = sorted({(a + b + c).capitalize() for a in parts.split() for b in parts.split() for c in parts.split()})
        (folder / f"{language}.txt").write_text("\n".join(names) + "\n", "utf-8")
    fast = ["trainer.max_epochs=12", "optimizer.lr=0.02", "cell.hidden_size=8", "data.batch_size=16", "logger=none"]
    config = seqlab.compose([*fast, f"task.data_dir={folder}", "trainer.progress=false"])
    seqlab.run(config, folder / "run")
    return folder / "run"
