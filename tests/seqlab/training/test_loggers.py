"""Curves survive a crash and a restart; a resumed run stays one run at Weights & Biases."""

import signal
import subprocess
import sys
from collections import Counter

import pytest

import seqlab
from seqlab.io.csv_files import read_csv
from seqlab.training.loggers import CurvesLogger, make_logger, run_id

from ..resumable import interrupted

QUICK = ("trainer.progress=false", "cell.hidden_size=4", "data.batch_size=16", "trainer.early_stopping=null")


def run(names_folder, folder, *words):
    return seqlab.run(seqlab.compose([*QUICK, f"task.data_dir={names_folder}", *words]), folder)


def without_times(rows):
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows]


def test_curves_of_a_resumed_run_equal_those_of_the_uninterrupted_one(names_folder, tmp_path):
    words = ("logger=csv", "trainer.max_epochs=4")
    run(names_folder, tmp_path / "whole", *words)
    with interrupted(2, 1):
        run(names_folder, tmp_path / "cut", *words)
    run(names_folder, tmp_path / "cut", *words, "ckpt_path=last")
    whole, cut = (read_csv(tmp_path / name / "curves" / "metrics.csv") for name in ("whole", "cut"))
    assert len(whole) == 5  # four epochs, and the test
    assert without_times(cut) == without_times(whole)


@pytest.mark.parametrize(
    ("step", "kept"), [(29, ["9", "9", "19", "19", "29"]), (39, [*"99", "19", "19", "29", "29", "39"])]
)
def test_repeated_rows_are_replaced_and_an_incomplete_one_is_skipped(tmp_path, step, kept):
    logger = CurvesLogger(tmp_path)
    for done in (9, 19, 29):
        logger.log_metrics({"train/loss": done / 10}, done)
        logger.log_metrics({"valid/loss": done / 5}, done)
    with logger.path.open("a") as file:
        file.write("39,0.")  # by a process that was killed
    again = CurvesLogger(tmp_path)
    again.log_metrics({"train/loss": 7.0}, step)
    rows = read_csv(again.path)
    assert [row["step"] for row in rows] == kept
    assert rows[-1] == {"step": str(step), "train/loss": "7.0", "valid/loss": ""}


def test_a_row_is_there_when_the_process_is_killed(tmp_path):
    code = (
        "import os, pathlib, signal; from seqlab.training.loggers import CurvesLogger\n"
        f"logger = CurvesLogger(pathlib.Path({str(tmp_path)!r}))\n"
        "for step in range(5): logger.log_metrics({'loss': step}, step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert [row["loss"] for row in read_csv(tmp_path / "curves" / "metrics.csv")] == [*"01234"]


def test_a_run_keeps_its_id_and_another_has_another(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = run_id(tmp_path / "one")
    assert run_id(tmp_path / "one") == first != run_id(tmp_path / "two")


def test_a_resumed_run_keeps_its_wandb_run(names_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    words = ("logger=wandb", "trainer.max_epochs=2")
    with interrupted(1, 1):
        run(names_folder, tmp_path / "run", *words)
    run(names_folder, tmp_path / "run", *words, "ckpt_path=last")
    found = [path.name.rpartition("-")[2] for path in (tmp_path / "run" / "wandb").glob("offline-run-*")]
    assert Counter(found) == {run_id(tmp_path / "run"): 2}


def test_wandb_may_resume(tmp_path, monkeypatch):
    config = {"name": "wandb", "project": "p", "entity": None, "group": None, "tags": [], "offline": True}
    logger = make_logger(config, tmp_path)
    assert logger._wandb_init["resume"] == "allow"
    assert logger._wandb_init["id"] == run_id(tmp_path)
