"""Errors in configs, data and folders: one line and exit code 1, without a traceback or Hydra's advice."""

import os
import sys
from importlib import import_module
from pathlib import Path

import pytest

FAST = ("trainer.max_epochs=1", "cell.hidden_size=4", "logger=none", "hydra.run.dir=out")


@pytest.mark.parametrize(
    ("argument", "fragments"),
    [
        ("cell=lstmm", ["cell=lstmm: there is no such cell; there are", "; did you mean lstm?"]),
        ("task=lstm", ["task=lstm: there is no such task; there are", "; did you mean cell=lstm?"]),
        (
            "kernel=warp",
            ["kernel=warp: there is no such kernel; there are auto, chunked, compiled, fused, loop, parallel"],
        ),
        ("experiment=nope", ["experiment=nope", "names_best"]),
        ("cell.hiden_size=3", ["cell.hiden_size: there is no such key; did you mean cell.hidden_size?"]),
        ("hiden=3", ["hiden: there is no such key; the config has "]),
        ("cell.hidden_size=many", ["cell.hidden_size must be an integer, got many"]),
        ("cell=rnn,lstm", ["cell=rnn,lstm", "python -m seqlab -m cell=rnn,lstm", "cell=[a,b]"]),
        ("cell=choice(rnn,gru)", ["python -m seqlab -m 'cell=choice(rnn,gru)'"]),
        ("seed=range(3)", ["python -m seqlab -m 'seed=range(3)'"]),
        ("optimizer.lr=interval(0,1)", ["python -m seqlab -m 'optimizer.lr=interval(0,1)'"]),
        ("cell=glob(*)", ["python -m seqlab -m 'cell=glob(*)'"]),
        ("data.batch_size=0", ["data.batch_size must be >= 1 or auto, got 0"]),
        ("ckpt_path=last", ["ckpt_path=last: there is no out/resume.ckpt"]),
        ("ckpt_path=nowhere.ckpt", ["ckpt_path=nowhere.ckpt: there is no nowhere.ckpt"]),
        ("cell=", ["cell"]),
        ("a=b=c", ["a"]),
        ("=3", ["=3"]),
        ("preprocessing.steps=[asci]", ["asci", "ascii"]),
    ],
)
def test_a_wrong_override(cli, argument, fragments, tmp_path):
    cli(*FAST, argument).refused(*fragments)
    assert not list(tmp_path.iterdir())  # no run folder


@pytest.mark.parametrize(
    ("argument", "fragments"),
    [
        ("optimizer.schedule=wavy", ["optimizer.schedule must be constant, cosine", "got wavy"]),
        ("trainer.accelerator=abacus", ["trainer", "abacus"]),
        ("task.data_dir=nowhere", ["nowhere"]),
    ],
)
def test_a_mistake_that_training_finds(cli, argument, fragments):
    cli(*FAST, argument).refused(*fragments)


def test_a_mistake_keeps_the_files_of_the_folder(cli, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine", "utf-8")
    cli(*FAST, "seed=-1").refused("got -1")
    assert (tmp_path / "out" / "notes.txt").read_text("utf-8") == "mine"


def test_an_unknown_command_lists_the_commands(cli):
    cli("cell", "=", "gru").refused("remove the blanks beside the =: cell=...")
    cli("predikt", "runs/x").refused("predikt: there is no such command; there are", "predict", "plugins")


def test_wrong_data(cli, names_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    cli(*FAST, "task.data_dir=empty").refused("empty", ".txt")
    path = names_folder / "Eeish.txt"
    path.write_bytes(path.read_bytes() + "Peña\n".encode("latin-1"))
    line = path.read_bytes().count(b"\n")
    where = f"task.data_dir={names_folder}"
    cli(*FAST, where).refused(f"Eeish.txt, line {line} is not UTF-8", "encoding_errors=replace")
    assert cli(*FAST, where, "task.encoding_errors=replace").code == 0
    path.unlink()
    (names_folder / "Rare.txt").write_text("Solo\n", "utf-8")
    cli(*FAST, where, "hydra.run.dir=other").refused("Rare")


def test_an_output_folder_that_cannot_be_written(cli, tmp_path):
    (tmp_path / "file").write_text("in the way", "utf-8")
    cli("hydra.run.dir=file/run", "trainer.max_epochs=1").refused("file")
    if os.geteuid():  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        cli("hydra.run.dir=locked/run", "trainer.max_epochs=1").refused("locked")


def test_a_finished_run_is_not_overwritten(cli, names_folder):
    arguments = (*FAST, f"task.data_dir={names_folder}")
    assert cli(*arguments).code == 0
    files = [path for path in Path("out").iterdir() if path.suffix in (".json", ".safetensors")]
    before = {path: path.stat().st_mtime_ns for path in files}
    cli(*arguments).refused("out holds a finished run", "hydra.run.dir")
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_folder_that_is_no_run(cli, tmp_path):
    (tmp_path / "folder").mkdir()
    cli("predict", "folder", "Satoshi").refused("folder is no run folder: it has no model.json")
    (tmp_path / "folder" / "model.json").write_text("{", "utf-8")
    cli("predict", "folder", "Satoshi").refused("model.json cannot be read")
    (tmp_path / "folder" / "model.json").write_text('{"format": 99, "seqlab": "9.0"}', "utf-8")
    cli("predict", "folder", "Satoshi").refused("format 99", "seqlab 9.0")


def test_a_bug_of_seqlab_keeps_its_traceback(cli, names_folder, monkeypatch):
    module = import_module("seqlab.training.run")

    def fault(*_):
        raise RuntimeError("the moon is full")

    monkeypatch.setattr(module, "judge", fault)
    done = cli(*FAST, f"task.data_dir={names_folder}")
    done.refused("RuntimeError: the moon is full (a bug of seqlab; traceback in out/error.txt)")
    assert "Traceback" in Path("out/error.txt").read_text("utf-8")
    assert sys.exc_info() == (None, None, None)
