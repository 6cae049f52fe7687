"""Bounds of the readers themselves, where a command would take long."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from seqlab import UserError
from seqlab.cli.commands.sweeps import _change_folder
from seqlab.cli.errors import explain, is_user_error
from seqlab.io.csv_files import read_csv
from seqlab.plugins.hydra_source import read_yaml
from seqlab.training.nonfinite import SavedStep
from seqlab_tasks.names import read_names
from seqlab_tasks.own_texts import read_documents
from seqlab_tasks.splitting import SPLITS, Documents, arrange


def test_no_table_of_a_run_folder_makes_gigabytes_of_rows(tmp_path):
    """Each of these lines is two bytes, and a row of Python some hundred times as large."""
    path = tmp_path / "metrics.csv"
    path.write_text("step\n" + "1\n" * 10**6, "utf-8")
    with pytest.raises(UserError, match="more than a run writes"):
        read_csv(path)
    path.write_text('step\n"' + "1" * 10**6 + '"\n', "utf-8")
    with pytest.raises(UserError, match="is not a CSV file: field larger"):
        read_csv(path)


def test_dealing_out_many_classes_does_not_take_the_square_of_their_number():
    many = 20_000
    texts = [f"{split} {number}" for split in SPLITS for number in range(many)]
    labels = [f"l{number}" for _ in SPLITS for number in range(many)]
    splits = [split for split in SPLITS for _ in range(many)]
    began = time.process_time()
    assert len(arrange(Documents(texts, labels, splits), "here", 0).classes) == many
    assert time.process_time() - began < 5


def test_a_step_to_replay_is_no_longer_than_a_step_is(tmp_path):
    save_file(
        {"batch.inputs": np.zeros((1, 10**5), np.int64), "batch.targets": np.zeros(1), "rng": np.zeros(1)},
        tmp_path / "step.safetensors",
    )
    (tmp_path / "step.json").write_text('{"schema": 1, "step": 1, "epoch": 0}', "utf-8")
    with pytest.raises(UserError, match=r"batch of shape \[1, 100000\]"):
        SavedStep(tmp_path)


def test_no_process_imports_what_lies_where_a_plan_says_that_it_was_made(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("open('ran', 'w')", "utf-8")
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.chdir(tmp_path.parent)
    _change_folder(tmp_path)
    assert Path.cwd() == tmp_path
    assert "" not in sys.path
    assert subprocess.run([sys.executable, "-m", "evil"], capture_output=True, check=False).returncode == 1
    assert not (tmp_path / "ran").exists()


def test_aliases_of_an_honest_config_are_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: &a {b: [1, 2]}\nc: *a\nd: {<<: *a, e: 3}\n", "utf-8")
    assert read_yaml(path, aliases=True) == path.read_text("utf-8")
    with pytest.raises(UserError, match="has an alias"):
        read_yaml(path, aliases=False)


def test_a_hole_is_no_text(tmp_path):
    """Twenty gigabytes would be read before it is known that all of them are zero."""
    path = tmp_path / "texts.csv"
    for begin in (b"", b"text,label\n"):
        path.write_bytes(begin)
        with path.open("r+b") as file:
            file.truncate(2 * 10**10)
        with pytest.raises(ValueError, match="are on the disk"):
            read_documents(path, "here")


def test_a_row_of_a_million_letters_is_no_name(tmp_path):
    """A batch would be as long."""
    for name in ("A", "B"):
        (tmp_path / f"{name}.txt").write_text("ab\n" + "x" * 10**6, "utf-8")
    with pytest.raises(ValueError, match=r"A\.txt has a row of 1,000,000 characters; the limit is 1,000"):
        read_names([tmp_path / "A.txt", tmp_path / "B.txt"], "here")


def test_too_little_memory_is_no_fault_of_the_program():
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4352000000 bytes")
    assert is_user_error(error)
    assert explain(error).startswith("this takes more memory than there is: ")
