"""Keys, plans and selections: what changes a run changes its key, and nothing else does."""

import pytest

import seqlab
from seqlab import UserError
from seqlab.config.compose import Composer, compose_all
from seqlab.sweeps import plan
from seqlab.sweeps.ledger import read_plan
from seqlab.sweeps.plan import is_selected, plan_sweep, run_key, selecting, sweep_key, sweeper_params

BASE = run_key(seqlab.compose([]))


@pytest.mark.parametrize(
    "overrides",
    [
        ["logger=wandb", "logger.project=other"],
        ["trainer.progress=false"],
        ["trainer.checkpoint_minutes=1"],
        ["ckpt_path=last"],
        ["cell=lstm"],  # the default
        ["hydra.job.name=other"],
    ],
)
def test_settings_that_change_no_result_keep_the_key(overrides):
    assert run_key(seqlab.compose(overrides)) == BASE


@pytest.mark.parametrize("override", ["seed=1", "cell=gru", "model.depth=2", "task.split_seed=3", "optimizer.lr=0.1"])
def test_settings_that_change_a_result_change_the_key(override):
    assert run_key(seqlab.compose([override])) != BASE


def test_an_option_that_takes_words_too_keeps_the_key_of_its_numbers():
    keys = [run_key(seqlab.compose([f"cell.forget_bias={value}"])) for value in ("0", "0.0", "chrono")]
    assert keys[0] == keys[1] != keys[2]
    assert run_key(seqlab.compose(["cell.forget_bias=2"])) == BASE


def test_another_version_of_a_plugin_is_another_run(monkeypatch):
    monkeypatch.setattr(plan, "_version", lambda kind, node: f"{kind} 99")
    assert run_key(seqlab.compose([])) != BASE


def test_the_key_of_a_sweep_is_that_of_its_overrides_in_any_order():
    overrides = ["cell=rnn,lstm", "seed=0,1"]
    where = ["hydra/launcher=joblib", "logger=none", "trainer.progress=false", "hydra.sweeper.group_replicas=true"]
    assert sweep_key(overrides) == sweep_key(overrides[::-1]) == sweep_key([*overrides, *where])
    assert sweep_key(overrides) != sweep_key(overrides[:1])


def test_configs_composed_together_equal_those_composed_one_by_one():
    """With choices, values, added, forced and deleted keys, with and without a package."""
    runs = [
        ["cell=gru", "seed=1", "model.depth=2"],
        ["cell=gru", "seed=2", "model.depth=3"],
        ["seed=1", "task=lm", "optimizer=sgd", "optimizer.lr=3", "preprocessing=words"],
        ["experiment=names_best", "cell.hidden_size=7", "+optimizer.eps=1e-6"],
        ["experiment=names_best", "cell.hidden_size=8", "+optimizer.foreach=false"],
        ["logger=none", "++trainer.max_epochs=2", "hydra.job.name=x", "freeze=[encoder]", "init_from='a b'"],
    ]
    assert list(compose_all(runs)) == [seqlab.compose(each) for each in runs]


def test_a_composer_remembers_choices_and_no_values():
    composer, runs = Composer(), [["cell=gru", f"seed={seed}", "trainer.max_epochs=3"] for seed in range(3)]
    first = [next(iter(composer.all([run]))) for run in runs]
    assert first == [seqlab.compose(run) for run in runs]
    first[0].trainer.max_epochs = 7
    assert next(iter(composer.all(runs))).trainer.max_epochs == 3


def test_the_plan_has_a_run_for_each_combination(tmp_path):
    """Of the overrides and of what a config file adds to them."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: range(2)\n      cell: lstm\n"
    )
    overrides = ["cell=glob(rn*)", "task=first", "experiment=own", f"hydra.searchpath=[file://{tmp_path}]"]
    assert sweeper_params(overrides) == {"seed": "range(2)", "cell": "lstm"}
    plan_sweep(tmp_path / "sweep", overrides)
    runs = read_plan(tmp_path / "sweep")["runs"]
    found = {tuple(sorted(each for each in run["words"] if each.startswith(("seed", "cell")))) for run in runs}
    assert found == {("cell=rnn", "seed=0"), ("cell=rnn", "seed=1")}
    assert all(run["name"].startswith("recurrent_rnn_") for run in runs)


@pytest.mark.parametrize("override", ["hydra.sweeper.params.seed='0,1'", "+hydra.sweeper.params={seed: '0,1'}"])
def test_params_on_the_command_line_are_refused(override):
    with pytest.raises(UserError, match=r"belongs into a config file; on the command line write (seed='0,1'|KEY)"):
        sweeper_params([override])


def test_a_selection_holds_in_its_block(tmp_path):
    assert is_selected("a")
    with selecting(tmp_path, ["b"]):
        assert is_selected("b")
        assert not is_selected("a")
    with selecting(tmp_path, None):
        assert is_selected("a")
    assert is_selected("a")
