"""Advice after a run that learned nothing: a curriculum of as many steps, where there can be one."""

import re
import shlex

import pytest

import seqlab
from seqlab import UserError
from seqlab.study.advice import advise

IDLE = [
    "task=first", "cell=rnn", "cell.hidden_size=4", "model.embedding_size=4", "task.sequence_length=60",
    "task.examples=64", "task.held_out=100", "optimizer.lr=0", "trainer.max_epochs=1", "trainer.progress=false",
    "logger=none", "kernel=loop", "trainer.threads=1",
]  # fmt: skip


def overrides_of(command):
    return shlex.split(command)[3:]


def test_the_proposed_curriculum_trains_as_many_steps_from_a_shorter_start(tmp_path):
    words = [*IDLE, "task.check_every=2", "data.batch_size=16", "trainer.max_epochs=3", "optimizer.lr=1e-6"]
    result = seqlab.run(seqlab.compose(words), tmp_path / "run")
    assert result.verdict == "at chance"
    assert result.cost["steps"] == 12
    (command,) = (command for _, command in advise(result.record, words) if "curriculum" in command)
    proposed = seqlab.run(seqlab.compose(overrides_of(command)), tmp_path / "proposed")
    assert proposed.cost["steps"] == 12
    assert proposed.record["lengths"]["ceiling"] == 5  # half of the default
    assert proposed.record["config"]["optimizer"] == {**result.record["config"]["optimizer"], "lr": 2e-7}
    assert proposed.record["config"]["cell"] == result.record["config"]["cell"]


@pytest.mark.parametrize("change", ["task.fresh=false", "optimizer.schedule=plateau", "data.workers=1"])
def test_no_curriculum_is_proposed_that_would_be_refused(tmp_path, change):
    words = [*IDLE, "optimizer.warmup=0", change]
    record = seqlab.run(seqlab.compose(words), tmp_path / "run").record
    found = advise(record, words)
    assert found
    assert not any("task.lengths" in command for _, command in found)
    with pytest.raises(UserError, match=re.escape(change.partition("=")[0].partition(".")[2])):
        seqlab.run(seqlab.compose([*words, "task.lengths=curriculum"]), tmp_path / "refused")


def test_no_curriculum_is_proposed_where_nothing_is_generated(names_folder, tmp_path):
    words = [f"task.data_dir={names_folder}", "cell.hidden_size=4", "optimizer.lr=0", "trainer.max_epochs=1"]
    result = seqlab.run(seqlab.compose([*words, "trainer.progress=false", "logger=none"]), tmp_path / "run")
    found = advise({**result.record, "best": {**result.record["best"], "verdict": "at chance"}}, words)
    assert found
    assert not any("task.lengths" in command for _, command in found)
