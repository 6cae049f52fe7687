"""Full and read-only disks: one line, no partial file, and a folder that can be resumed."""

import json
import os
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from seqlab.errors import UserError
from seqlab.io.atomic import write_text
from seqlab.runs.run_folder import write_weights
from seqlab.training.checkpoint import AtomicCheckpointIO

from ... import processes

QUICK = ("trainer.max_epochs=4", "logger=csv", "trainer.progress=false", "trainer.threads=1", "cell.hidden_size=64")


def mount(*arguments):
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this user may not mount: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """Mount a small disk; return its folder."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=700k", "tmpfs", folder)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def seqlab(folder, *overrides):
    done = processes.run(folder, *overrides)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def whole(folder):
    """Check that every file of a run is whole."""
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())
    for path in folder.rglob("*.ckpt"):
        torch.load(path, weights_only=True)
    for path in folder.rglob("*.safetensors"):
        load_file(path)
    return not list(folder.rglob(".resume.ckpt.*"))


@pytest.mark.parametrize("kind", ["text", "weights", "checkpoint"])
def test_a_file_that_does_not_fit_leaves_the_old_one(disk, kind):
    path = disk / "file"

    def write(size):
        if kind == "text":
            write_text(path, "x" * size)
        elif kind == "weights":
            write_weights(path, {"w": torch.zeros(size // 4)})
        else:
            AtomicCheckpointIO().save_checkpoint({"w": torch.zeros(size // 4)}, path)

    write(100_000)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"file cannot be written: No space left on device; make room there"):
        write(2_000_000)
    assert path.read_bytes() == before
    assert [each.name for each in disk.iterdir()] == ["file"]


@pytest.mark.slow
def test_a_sweep_on_a_full_disk_resumes_once_there_is_room(disk):
    found = seqlab(disk, "-m", *QUICK, "seed=0,1")
    assert found.returncode == 1
    lines = [line for line in found.stderr.splitlines() if line.strip()]
    assert all("cannot be written: No space left on device; make room there" in line for line in lines), lines
    assert len(set(lines)) <= 3
    (sweep,) = (disk / "runs" / "sweeps").iterdir()
    assert whole(sweep)
    mount("-o", "remount,size=30m", disk)
    again = seqlab(disk, "resume", str(sweep))
    assert again.returncode == 0, again.stderr
    assert "2 runs: 2 done" in again.stdout
    assert whole(sweep)


@pytest.mark.slow
def test_a_read_only_folder_is_one_line(disk):
    mount("-o", "remount,size=30m", disk)
    overrides = ("-m", *QUICK, "seed=0,1", "hydra.sweep.dir=sweep")
    mount("-o", "remount,ro", disk)
    for command in (overrides, QUICK):
        found = seqlab(disk, *command)
        assert found.returncode == 1
        (line,) = [line for line in found.stderr.splitlines() if line.strip()]
        assert "Read-only file system; make the folder writable, or choose another" in line
        assert ("sweep" if command is overrides else "runs") in line
    mount("-o", "remount,rw", disk)
    found = seqlab(disk, *overrides)
    assert found.returncode == 0, found.stderr
    assert whole(disk / "sweep")
