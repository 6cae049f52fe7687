"""Advice after a run that learned nothing: a curriculum only where every step draws new sequences."""

import pytest

import seqlab
from seqlab.study.advice import advise

IDLE = [
    "task=first", "cell=rnn", "cell.hidden_size=4", "model.embedding_size=4", "task.sequence_length=60",
    "task.examples=64", "task.held_out=100", "optimizer.lr=0", "trainer.max_epochs=1", "trainer.progress=false",
    "logger=none", "kernel=loop", "trainer.threads=1",
]  # fmt: skip


@pytest.mark.parametrize(("fresh", "proposals"), [("true", 1), ("false", 0)])
def test_a_curriculum_is_proposed_where_sequences_are_new(tmp_path, fresh, proposals):
    """A curriculum of sequences that repeat is refused, so proposing it would end in an error."""
    words = [*IDLE, f"task.fresh={fresh}"]
    result = seqlab.run(seqlab.compose(words), tmp_path / "run")
    assert result.verdict == "at chance"
    commands = [command for _, command in advise(result.record, words)]
    assert len(commands) >= 2
    assert sum("task.lengths=curriculum" in command for command in commands) == proposals
    curriculum = seqlab.compose([*words, "task.lengths=curriculum", "trainer.max_epochs=1", "task.check_every=1"])
    if proposals:
        seqlab.run(curriculum, tmp_path / "proposed")
    else:
        with pytest.raises(seqlab.UserError, match="fresh must be true"):
            seqlab.run(curriculum, tmp_path / "proposed")


def test_no_curriculum_is_proposed_where_nothing_is_generated(names_folder, tmp_path):
    words = [f"task.data_dir={names_folder}", "cell.hidden_size=4", "optimizer.lr=0", "trainer.max_epochs=1"]
    result = seqlab.run(seqlab.compose([*words, "trainer.progress=false", "logger=none"]), tmp_path / "run")
    found = advise({**result.record, "best": {**result.record["best"], "verdict": "at chance"}}, words)
    assert found
    assert not any("task.lengths" in command for _, command in found)
