"""Keys: the same for the same run, another for another, whatever says where and how it runs."""

import pytest

import seqlab
from seqlab.config.compose import Composer, compose_all
from seqlab.sweeps import plan
from seqlab.sweeps.plan import expand, run_key, run_name, sweep_key

BASE = run_key(seqlab.compose([]))


@pytest.mark.parametrize(
    "words",
    [
        ["logger=wandb", "logger.project=other"],
        ["trainer.progress=false"],
        ["trainer.checkpoint_minutes=1"],
        ["ckpt_path=last"],
        ["cell=lstm"],  # the default, named
        ["hydra.job.name=other"],
    ],
)
def test_what_does_not_change_a_run_does_not_change_its_key(words):
    assert run_key(seqlab.compose(words)) == BASE


@pytest.mark.parametrize("word", ["seed=1", "cell=gru", "model.depth=2", "task.split_seed=3", "optimizer.lr=0.1"])
def test_what_changes_a_run_changes_its_key(word):
    assert run_key(seqlab.compose([word])) != BASE


def test_another_version_of_a_plugin_is_another_run(monkeypatch):
    monkeypatch.setattr(plan, "_version", lambda kind, node: f"{kind} 99")
    assert run_key(seqlab.compose([])) != BASE


def test_a_sweep_is_its_words_in_any_order():
    words = ["cell=rnn,lstm", "seed=0,1"]
    assert sweep_key(words) == sweep_key(words[::-1])
    assert sweep_key(words) == sweep_key([*words, "hydra/launcher=joblib", "logger=none", "trainer.progress=false"])
    assert sweep_key(words) != sweep_key(["cell=rnn,lstm"])


def test_a_sweep_is_multiplied_out():
    runs = expand(["cell=rnn,gru", "model.depth=1", "seed=range(3)"])
    assert len(runs) == 6
    assert runs[0] == ["cell=rnn", "model.depth=1", "seed=0"]
    names = {run_name(seqlab.compose(run)) for run in runs}
    assert len(names) == 6
    assert {name.split("_")[1] for name in names} == {"rnn", "gru"}


def test_configs_that_are_composed_together_are_those_composed_one_by_one():
    """Choices, values, keys that are added and forced, groups that are left out, with and without a package."""
    runs = [
        ["cell=gru", "seed=1", "model.depth=2"],
        ["cell=gru", "seed=2", "model.depth=3"],
        ["seed=1", "task=lm", "optimizer=sgd", "optimizer.lr=3", "preprocessing=words"],
        ["experiment=names_best", "cell.hidden_size=7", "+optimizer.eps=1e-6"],
        ["experiment=names_best", "cell.hidden_size=8", "+optimizer.foreach=false"],
        ["logger=none", "++trainer.max_epochs=2", "hydra.job.name=x", "freeze=[encoder]", "init_from='a b'"],
    ]
    assert list(compose_all(runs)) == [seqlab.compose(each) for each in runs]


def test_a_composer_remembers_what_was_chosen_and_not_the_values():
    composer, runs = Composer(), [["cell=gru", f"seed={seed}", "trainer.max_epochs=3"] for seed in range(3)]
    first = [next(iter(composer.all([run]))) for run in runs]
    assert first == [seqlab.compose(run) for run in runs]
    first[0].trainer.max_epochs = 7
    assert next(iter(composer.all(runs))).trainer.max_epochs == 3
