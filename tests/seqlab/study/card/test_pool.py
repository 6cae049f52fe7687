"""A card that is killed in the middle: finished runs are not repeated, and no process is left behind."""

import json
import os
import signal
from pathlib import Path

import pytest

from seqlab.runs.results import read_results
from seqlab.study.card.card import FILE
from seqlab.study.card.pool import Pool, run_folder, train_run
from seqlab.study.card.protocol import load
from seqlab.study.card.subject import choose_subject
from seqlab.sweeps.ledger import read_entry

from ....processes import finish, start, wait_for
from .conftest import MICRO

WORDS = ["task=first", "task.sequence_length=2", "task.examples=32", "task.held_out=8", "cell.hidden_size=2",
         "trainer.max_epochs=1", "trainer.threads=1", "trainer.progress=false", "kernel=loop"]  # fmt: skip


def test_a_run_that_fails_leaves_the_others(tmp_path):
    """A mini-batch that is too large for no reason but its learning rate ends in one line of the run record."""
    ended = []
    runs = [[*WORDS, "optimizer.lr=1e30", "trainer.max_epochs=5"], [*WORDS, "optimizer.lr=0.01"]]
    with Pool(1, lambda: ended.append(1)) as pool:
        pool.run(tmp_path, runs)
        assert len(ended) == 2
        pool.run(tmp_path, runs)  # a failed run has ended, too
    failed, done = (read_entry(run_folder(tmp_path, words)) for words in runs)
    assert (failed.state, done.state, len(ended)) == ("failed", "done", 2)
    assert failed.cause
    assert "\n" not in failed.cause
    with Pool(1, lambda: ended.append(1), retry=True) as pool:
        pool.run(tmp_path, runs)
    assert len(ended) == 3


@pytest.mark.slow
def test_seeds_and_rates_train_together_to_the_scores_of_each_by_itself(tmp_path):
    """Lengths that grow, which each run draws for itself, are those of the parts of a card."""
    words = ["task=word_problem", "task.group=S3", "task.lengths=curriculum", "task.sequence_length=4",
             "task.start_length=2", "task.eval_lengths=[4,8]", "task.examples=64", "task.held_out=50",
             "data.batch_size=16", "cell=gru", "cell.hidden_size=8", "optimizer.schedule=constant",
             "trainer.max_epochs=null", "trainer.max_steps=40", *WORDS[-3:]]  # fmt: skip
    runs = [(*words, f"seed={seed}", f"optimizer.lr={rate}") for seed in range(2) for rate in (0.01, 0.03)]
    ended = []
    with Pool(1, lambda: ended.append(1), fewest=4) as pool:
        pool.run(tmp_path / "together", runs)
    assert len(ended) == 4
    for each in runs:
        train_run(tmp_path / "alone", each)
        one, other = (read_results(run_folder(tmp_path / name, each)) for name in ("alone", "together"))
        assert (one["cost"]["replicas"], other["cost"]["replicas"]) == (1, 4)
        assert other["metrics"]["test"] == pytest.approx(one["metrics"]["test"], abs=1e-5)
        assert other["lengths"]["reached"] == one["lengths"]["reached"]
        for a, b in zip(one["tables"]["further_tests"], other["tables"]["further_tests"], strict=True):
            assert b == {key: pytest.approx(value, abs=1e-5) for key, value in a.items()}


def _states(folder):
    return {
        path.parent.name: (json.loads(path.read_text()).get("state"), json.loads(path.read_text()).get("pid"))
        for path in folder.glob("*/*/run.json")
    }


@pytest.mark.slow
@pytest.mark.long  # the ledger that it relies on is killed in tests/seqlab/sweeps/test_crashes.py
def test_a_killed_card_goes_on(made, tmp_path):
    path, folder = tmp_path / "long.yaml", tmp_path / "gru"
    path.write_text(MICRO.replace("seeds: 1", "seeds: 2").replace("trainer.max_epochs=2", "trainer.max_epochs=4"))
    protocol = load(str(path))
    folder.mkdir()
    key = choose_subject("gru", [], protocol).key(protocol)
    (folder / FILE).write_text(json.dumps({**made.record, "key": key}))  # conformance and cost are measured
    command = ("card", "cell=gru", "--protocol", str(path), "--out", "gru")
    first = start(tmp_path, *command)
    try:
        wait_for(lambda: [run for run in _states(folder).values() if run[0] == "done"], 400)
    finally:
        os.kill(first.pid, signal.SIGKILL)
    workers = {pid for _, pid in _states(folder).values()}
    wait_for(lambda: not [pid for pid in workers if Path(f"/proc/{pid}").exists()], 100)
    first.communicate()
    done = {name for name, (state, _) in _states(folder).items() if state == "done"}
    assert 1 <= len(done) < 6
    before = {each: each.stat().st_mtime_ns for each in folder.glob("*/*/results.json") if each.parent.name in done}
    code, out = finish(start(tmp_path, *command), 400)
    assert code == 0, out
    assert {each: each.stat().st_mtime_ns for each in before} == before
    assert json.loads((folder / FILE).read_text())["finished"]
    assert [state for state, _ in _states(folder).values()] == 6 * ["done"]
