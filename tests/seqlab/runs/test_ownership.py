"""One process owns a run folder; no other changes it."""

import logging
import multiprocessing
import os
import random
import sys
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from hydra_ledger import locks
from seqlab import UserError
from seqlab.cli.train import train
from seqlab.runs.ownership import LOCK, LOG, OwnedError, is_owned, logging_to, owned_folder
from seqlab.runs.results import read_results
from seqlab.sweeps import ledger
from seqlab.sweeps.plan import rename_old_sweep
from seqlab.training.verification import verify_run

FORK = multiprocessing.get_context("fork")
RUN = [
    "task=first", "task.sequence_length=3", "task.examples=64", "task.held_out=32", "cell=gru",
    "cell.hidden_size=4", "trainer.max_epochs=2", "trainer.threads=1", "trainer.progress=auto",
]  # fmt: skip


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_in_process(words, folder, name, delay=0.0):
    """Do a run as the command line does; what it prints goes into a file."""
    os.chdir(folder)
    time.sleep(delay)
    with Path(f"{name}.txt").open("w") as file, redirect_stdout(file), redirect_stderr(file):
        GlobalHydra.instance().clear()
        logging.getLogger().handlers.clear()
        code = train([*words, f"seed={name}"])
    sys.stdout.flush()
    os._exit(code)


def started(*args, target=run_in_process):
    process = FORK.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def check_pair(folder, rng, most):
    """Two processes ask for one folder: one has it, the other is refused, and nothing of the first is missing."""
    folder.mkdir()
    words = [*RUN, "hydra.run.dir=run"]
    processes = [started(words, folder, str(seed), rng.random() * most) for seed in (1, 2)]
    for process in processes:
        process.join(120)
    codes = [process.exitcode for process in processes]
    said = [(folder / f"{seed}.txt").read_text() for seed in (1, 2)]
    assert sorted(codes) == [0, 1], said
    winner, loser = codes.index(0), codes.index(1)
    assert "another process" in said[loser] or "finished run" in said[loser], said[loser]
    record = read_results(folder / "run")
    assert record["config"]["seed"] == winner + 1
    findings = verify_run(folder / "run", scores=False)
    assert all(finding.state == "ok" for finding in findings), findings
    there = {path.name for path in (folder / "run").iterdir()}
    assert {LOCK, LOG, ".hydra", "resume.ckpt", "best.ckpt", "curves", "results.json"} <= there
    assert f"seed={winner + 1}" in (folder / "run" / ".hydra" / "overrides.yaml").read_text()
    assert (folder / "run" / LOG).read_text().count("epoch 2/2") == 1
    return loser


def test_of_two_runs_in_one_folder_one_is_rejected(tmp_path):
    check_pair(tmp_path / "pair", random.Random(0), 0.3)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_of_two_hundred_pairs_of_runs_one_each_is_rejected(tmp_path):
    rng = random.Random(0)
    losers = {check_pair(tmp_path / str(number), rng, 1.5) for number in range(200)}
    assert losers == {0, 1}


def hold(folder, held, end):
    with owned_folder(folder):
        (folder / "results.json").write_text("mine")
        held.set()
        end.wait(60)


def test_a_rejected_run_changes_nothing(tmp_path):
    held, end = FORK.Event(), FORK.Event()
    process = started(tmp_path / "run", held, end, target=hold)
    held.wait(60)
    before = contents(tmp_path / "run"), (tmp_path / "run").stat().st_mtime_ns
    for number, words in enumerate((RUN, [*RUN, "hydra/job_logging=default"])):
        refused = started([*words, "hydra.run.dir=run"], tmp_path, str(number))
        refused.join(60)
        assert refused.exitcode == 1
        assert "is the run of another process" in (tmp_path / f"{number}.txt").read_text()
        if number != 1:  # there Hydra itself opened an empty log before it asked anyone
            assert (contents(tmp_path / "run"), (tmp_path / "run").stat().st_mtime_ns) == before
        (tmp_path / "run" / LOG).unlink(missing_ok=True)
        before = before[0], (tmp_path / "run").stat().st_mtime_ns
    assert is_owned(tmp_path / "run")
    end.set()
    process.join()
    assert not is_owned(tmp_path / "run")


def write_and_leave(folder, name, delay, empty):
    """Own a folder and leave either a file or nothing; exit code 0 if it was owned and the file is there at the end."""
    time.sleep(delay)
    try:
        with owned_folder(folder):
            if not empty:
                (folder / name).write_text(name)
                time.sleep(0.002)
                os._exit(not ((folder / name).read_text() == name and (folder / LOCK).exists()))
    except OwnedError:
        os._exit(2)
    os._exit(3)


def test_removing_an_empty_folder_does_not_disturb_other_owners(tmp_path, monkeypatch):
    """Some of several processes find nothing to keep and remove the folder while others are about to lock it."""
    monkeypatch.setattr(locks, "_PATIENCE", 5.0)
    rng = random.Random(1)
    for number in range(4):
        folder = tmp_path / str(number)
        processes = [
            started(folder, f"{each}.txt", rng.random() * 0.01, each % 2, target=write_and_leave) for each in range(6)
        ]
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 3] * 3
        assert {path.name for path in folder.iterdir()} == {LOCK, "0.txt", "2.txt", "4.txt"}


def test_a_removed_lock_is_not_used(tmp_path):
    folder = tmp_path / "run"
    with owned_folder(folder):
        (folder / LOCK).unlink()
        held, end = FORK.Event(), FORK.Event()
        process = started(folder, held, end, target=hold)  # whose lock is another file of the same name
        assert held.wait(60)
    assert (folder / LOCK).exists()  # the first owner left it alone
    assert is_owned(folder)
    end.set()
    process.join()


def test_is_owned_does_not_block_owners(tmp_path):
    with owned_folder(tmp_path / "run"):
        (tmp_path / "run" / "results.json").touch()

    def ask(stop):
        while not stop.is_set():
            is_owned(tmp_path / "run")
        os._exit(0)

    stop = FORK.Event()
    processes = [started(stop, target=ask) for _ in range(2)]
    try:
        for _ in range(100):
            with owned_folder(tmp_path / "run"):
                pass
    finally:
        stop.set()
        for process in processes:
            process.join()


def test_a_forked_child_owns_nothing(tmp_path):
    """Nor does it hold the lock: a worker that outlives its parent keeps nobody out."""
    with owned_folder(tmp_path / "run"):
        (tmp_path / "run" / "results.json").touch()
        stop = FORK.Event()
        child = started(tmp_path / "run", "x", 0, False, target=write_and_leave)
        child.join()
        assert child.exitcode == 2
        worker = FORK.Process(target=stop.wait, args=(60,), daemon=True)
        worker.start()
    assert not is_owned(tmp_path / "run")
    stop.set()
    worker.join()


@pytest.mark.slow
def test_files_of_the_user_are_kept(tmp_path):
    """A folder that was there, and anything in it, is left by a run that is refused; one of its own making is not."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    for number, name in enumerate(("mine", "full", "new")):
        process = started([*RUN, f"hydra.run.dir={name}", "ckpt_path=nowhere.ckpt"], tmp_path, str(number))
        process.join(60)
        assert process.exitcode == 1
    assert list((tmp_path / "mine").iterdir()) == []
    assert (tmp_path / "full" / "note.txt").read_text() == "mine"
    assert not (tmp_path / "new").exists()


def test_runs_started_within_a_second_have_different_folders():
    from seqlab.plugins.hydra_source import run_time

    assert len({run_time() for _ in range(100)}) == 100


def test_a_sweep_in_use_is_not_renamed(tmp_path):
    sweep = tmp_path / "sweep"
    ledger.write_plan(sweep, ["seed=1"], {"a": ["seed=1"]})
    held, end = FORK.Event(), FORK.Event()
    process = started(sweep / "a", held, end, target=hold)
    held.wait(60)
    with pytest.raises(UserError, match="another process runs"):
        rename_old_sweep(sweep)
    end.set()
    process.join()
    assert rename_old_sweep(sweep) == tmp_path / "sweep.1"
    assert (tmp_path / "sweep.1" / "a" / "results.json").read_text() == "mine"


def test_an_owner_that_changes_nothing_leaves_no_files(tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("mine")
    for has_log in (False, True):
        with suppress(UserError), owned_folder(tmp_path), logging_to(tmp_path):
            if not has_log:
                logging.getLogger("seqlab").error("no")
            raise UserError
        assert set(contents(tmp_path)) == {Path("note.txt"), *([Path(LOG)] if has_log else [])}
        (tmp_path / LOG).write_text("of before")
    with owned_folder(tmp_path):
        note.write_text("another")
    assert (tmp_path / LOCK).exists()
    with owned_folder(tmp_path):
        pass
    assert set(contents(tmp_path)) == {Path("note.txt"), Path(LOCK), Path(LOG)}
