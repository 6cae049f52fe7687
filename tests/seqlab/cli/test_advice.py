"""What a run that learned nothing prints: commands that compose, and that change what they say."""

import shlex

import seqlab

RUN = [
    "task=first", "cell=lstm", "cell.hidden_size=4", "cell.forget_bias=0", "task.sequence_length=60",
    "task.examples=64", "task.held_out=100", "trainer.max_steps=2", "logger=none", "trainer.progress=false",
]  # fmt: skip


def advice(told):
    """Return the texts of the advice and the overrides of its commands."""
    lines = told.partition("what may help:\n")[2].splitlines()
    commands = [shlex.split(line) for line in lines[1::2]]
    assert all(command[:3] == ["python", "-m", "seqlab"] for command in commands)
    return [line.strip() for line in lines[::2]], [command[3:] for command in commands]


def test_a_run_that_learned_nothing_says_what_may_help(cli):
    found = cli(*RUN, "hydra.run.dir=idle")
    assert found.code == 0, found.err
    texts, commands = advice(found.out)
    assert texts[0].startswith("a forget bias of ln T")
    assert texts[-1] == "four times the training"
    configs = [seqlab.compose(command) for command in commands]
    assert configs[0].cell.forget_bias == 4.1  # ln 60
    assert configs[-1].trainer.max_steps == 8
    assert configs[-1].trainer.early_stopping is None
    for command, config in zip(commands, configs, strict=True):
        assert config.cell.hidden_size == 4
        assert not any(word.startswith("hydra.run.dir") for word in command)
    curricula = [config.task.get("lengths") for config in configs[1:-1]]
    assert curricula == (["curriculum"] if "lengths" in configs[0].task else [])


def test_a_run_that_learned_something_says_nothing(cli):
    words = [each for each in RUN if "steps" not in each and "length" not in each and "examples" not in each]
    found = cli(*words, "task.sequence_length=2", "task.examples=2000", "trainer.max_epochs=4", "optimizer.lr=0.03")
    assert found.code == 0, found.err
    assert ": at chance" not in found.out
    assert "what may help" not in found.out
