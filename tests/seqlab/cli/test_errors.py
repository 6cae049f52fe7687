"""A user's mistake gives one clear line and exit code 1: no traceback, none of Hydra's advice."""

import os
import sys
from importlib import import_module
from pathlib import Path

import pytest

FAST = ("trainer.max_epochs=1", "cell.hidden_size=4", "logger=none", "hydra.run.dir=out")


def check(finished, *fragments):
    assert finished.code == 1, finished
    lines = [line for line in finished.err.splitlines() if line.strip()]
    assert len(lines) == 1, finished.err
    for fragment in fragments:
        assert fragment in lines[0]
    for noise in ("Traceback", "HYDRA_FULL_ERROR", "To append to your config", "full_key"):
        assert noise not in finished.err + finished.out


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["cell=lstmm"], ["cell=lstmm: there is no such cell; there are", "; did you mean lstm?"]),
        (["task=nmes"], ["task=nmes: there is no such task; there are", "names"]),
        (["kernel=warp"], ["kernel=warp: there is no such kernel; there are auto, compiled, fused, loop, parallel"]),
        (["experiment=nope"], ["experiment=nope", "names_best"]),
        (["cell.hiden_size=3"], ["cell.hiden_size: there is no such key; did you mean cell.hidden_size?"]),
        (["hiden=3"], ["hiden: there is no such key; the config has "]),
        (["task.split_sede=3"], ["did you mean task.split_seed?"]),
        (["cell.hidden_size=many"], ["cell.hidden_size must be a whole number, got many"]),
        (["cell=rnn,lstm"], ["cell=rnn,lstm: a comma makes a sweep, with -m: python -m seqlab -m cell=rnn,lstm"]),
        (["model.bidirectional=perhaps"], ["model.bidirectional", "perhaps"]),
        (["cell.hidden_size=-4"], ["cell.hidden_size is -4; it must be at least 1"]),
        (["model.depth=0"], ["model.depth must be >= 1, got 0"]),
        (["model.dropout=1.5"], ["model.dropout must be >= 0 and < 1, got 1.5"]),
        (["data.batch_size=0"], ["data.batch_size must be a whole number >= 1, got 0"]),
        (["data.workers=-1"], ["data.workers must be a whole number >= 0"]),
        (["trainer.accumulate_grad_batches=0"], ["trainer.accumulate_grad_batches must be a whole number >= 1, got 0"]),
        (["trainer.checkpoint_minutes=-1"], ["trainer.checkpoint_minutes must be a number >= 0, got -1"]),
        (["trainer.max_epochs=0"], ["trainer.max_epochs must be a whole number >= 1"]),
        (["task.sequence_length=0"], ["task.sequence_length is 0; it must be at least 1"]),
        (["task.sequence_length=-3"], ["task.sequence_length is -3; it must be at least 1"]),
        (["cell=rnn", "cell.nonlinearity=sine"], ["cell.nonlinearity must be tanh or relu, got sine"]),
        (["task.source=elsewhere"], ["task.source must be bundled or pytorch-tutorial, got elsewhere"]),
        (["seed=-1"], ["seed must be a whole number >= 0", "got -1"]),
        (["trainer.devices=0"], ["trainer.devices must be a whole number >= 1", "got 0"]),
        (["ckpt_path=last"], ["ckpt_path=last: there is no out/resume.ckpt"]),
        (["ckpt_path=nowhere.ckpt"], ["ckpt_path=nowhere.ckpt: there is no nowhere.ckpt"]),
        (["cell="], ["cell"]),
        (["a=b=c"], ["a"]),
        (["=3"], ["=3"]),
        (["preprocessing.steps=[asci]"], ["asci", "ascii"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_in_the_config(cli, arguments, fragments, tmp_path):
    check(cli(*FAST, *arguments), *fragments)
    assert not list(tmp_path.iterdir())  # no folder of a run that never was


@pytest.mark.parametrize(
    ("argument", "fragments"),
    [
        ("optimizer.schedule=wavy", ["optimizer.schedule must be constant, cosine", "got wavy"]),
        ("optimizer.lr=-1", ["optimizer.lr must be a number >= 0, got -1"]),
        ("trainer.accelerator=abacus", ["trainer", "abacus"]),
    ],
)
def test_a_mistake_that_training_finds(cli, argument, fragments):
    check(cli(*FAST, argument), *fragments)


def test_what_was_there_before_a_mistake_stays(cli, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine", "utf-8")
    check(cli(*FAST, "seed=-1"), "got -1")
    assert (tmp_path / "out" / "notes.txt").read_text("utf-8") == "mine"


def test_an_unknown_verb_lists_those_there_are(cli):
    check(cli("cell", "=", "gru"), "no blanks stand beside the =: cell=...")
    check(cli("predikt", "runs/x"), "predikt: there is no such verb; there are", "predict", "plugins")


def test_an_empty_data_folder(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    check(cli(*FAST, "task.data_dir=empty"), "empty", ".txt")


def test_a_missing_data_folder(cli):
    check(cli(*FAST, "task.data_dir=nowhere"), "nowhere")


def test_a_file_that_is_not_utf8(cli, names_folder):
    path = names_folder / "Eeish.txt"
    path.write_bytes(path.read_bytes() + "Peña\n".encode("latin-1"))
    line = path.read_bytes().count(b"\n")
    check(
        cli(*FAST, f"task.data_dir={names_folder}"), f"Eeish.txt, line {line} is not UTF-8", "encoding_errors=replace"
    )
    assert cli(*FAST, f"task.data_dir={names_folder}", "task.encoding_errors=replace").code == 0


def test_a_language_with_too_few_names(cli, names_folder):
    (names_folder / "Rare.txt").write_text("Solo\n", "utf-8")
    check(cli(*FAST, f"task.data_dir={names_folder}"), "Rare")


def test_an_output_folder_that_cannot_be_written(cli, tmp_path):
    (tmp_path / "file").write_text("in the way", "utf-8")
    check(cli("hydra.run.dir=file/run", "trainer.max_epochs=1"), "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(cli, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    check(cli("hydra.run.dir=locked/run", "trainer.max_epochs=1"), "locked")


def test_a_finished_run_is_not_overwritten(cli, names_folder):
    arguments = (*FAST, f"task.data_dir={names_folder}")
    assert cli(*arguments).code == 0
    before = {
        path: path.stat().st_mtime_ns for path in Path("out").iterdir() if path.suffix in (".json", ".safetensors")
    }
    check(cli(*arguments), "out holds a finished run", "hydra.run.dir")
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_predict_on_what_is_no_run(cli, tmp_path):
    (tmp_path / "folder").mkdir()
    check(cli("predict", "folder", "Satoshi"), "folder is no run folder: it has no model.json")
    check(cli("predict", "nowhere", "Satoshi"), "nowhere is no folder")
    (tmp_path / "folder" / "model.json").write_text("{", "utf-8")
    check(cli("predict", "folder", "Satoshi"), "model.json cannot be read")
    (tmp_path / "folder" / "model.json").write_text('{"format": 99, "seqlab": "9.0"}', "utf-8")
    check(cli("predict", "folder", "Satoshi"), "format 99", "seqlab 9.0")


def test_a_fault_of_the_program_keeps_its_traceback(cli, names_folder, monkeypatch):
    module = import_module("seqlab.training.run")

    def fault(*_):
        raise RuntimeError("the moon is full")

    monkeypatch.setattr(module, "judge", fault)
    finished = cli(*FAST, f"task.data_dir={names_folder}")
    check(finished, "RuntimeError: the moon is full (a fault of the program; its traceback is in out/error.txt)")
    assert "Traceback" in Path("out/error.txt").read_text("utf-8")
    assert sys.exc_info() == (None, None, None)
