"""Direction of sweepers that optimise: the task's; an explicit other one is an error."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from seqlab import UserError
from seqlab.sweeps import ledger
from seqlab.sweeps.direction import direction_overrides, directions, missing_value_cause
from seqlab.sweeps.overrides import check_file_overrides

from ...processes import QUICK, finish, start

NODES = {
    "like_optuna": {"_target_": "x.Sweeper", "direction": "minimize", "params": None, "n_trials": 20},
    "like_ax": {"_target_": "x.Sweeper", "ax_config": {"max_trials": 10, "experiment": {"minimize": True}}},
    "like_nevergrad": {"_target_": "x.Sweeper", "optim": {"optimizer": "NGOpt", "maximize": False}},
    "like_ray": {"_target_": "x.Sweeper", "tune": {"mode": "min", "metric": "objective"}},
    "of_several": {"_target_": "x.Sweeper", "directions": ["minimize"]},
    "without": {"_target_": "x.Sweeper", "budget": 3, "mode": "fast", "params": {"direction": "maximize"}},
}
"""Keys and defaults of third-party sweepers."""


@pytest.fixture(autouse=True)
def sweepers():
    store = ConfigStore.instance()
    for name, node in NODES.items():
        store.store(group="hydra/sweeper", name=name, node=node, provider="others")
    yield
    for name in NODES:
        del store.repo["hydra"]["sweeper"][f"{name}.yaml"]


@pytest.mark.parametrize(
    ("sweeper", "maximising"),
    [
        ("like_optuna", "hydra.sweeper.direction=maximize"),
        ("like_ax", "hydra.sweeper.ax_config.experiment.minimize=false"),
        ("like_nevergrad", "hydra.sweeper.optim.maximize=true"),
        ("like_ray", "hydra.sweeper.tune.mode=max"),
        ("of_several", "hydra.sweeper.directions=[maximize]"),
    ],
)
def test_the_task_sets_the_direction(sweeper, maximising):
    """Accuracy is maximised and an error minimised, whatever the default."""
    overrides = [f"hydra/sweeper={sweeper}", "optimizer.lr=interval(0,1)"]
    assert direction_overrides([*overrides, "task=first"], sweeper) == [maximising]
    with pytest.raises(UserError, match="task=adding, whose validation mse is better when smaller, got"):
        direction_overrides([*overrides, "task=adding", maximising], sweeper)


def test_a_correct_direction_stays():
    overrides = ["hydra/sweeper=like_optuna"]
    assert direction_overrides([*overrides, "task=adding"], "like_optuna") == []
    assert direction_overrides([*overrides, "task=first", "hydra.sweeper.direction=maximize"], "like_optuna") == []


def test_a_typed_default_may_be_an_error():
    overrides = ["hydra/sweeper=like_optuna", "task=first"]
    with pytest.raises(UserError, match=r"hydra\.sweeper\.direction must be maximize for task=first") as caught:
        direction_overrides([*overrides, "hydra.sweeper.direction=minimize"], "like_optuna")
    assert "\n" not in str(caught.value)


def test_a_default_in_a_config_file_may_be_an_error(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    direction: minimize\n"
    )
    overrides = ["hydra/sweeper=like_optuna", "experiment=own", f"hydra.searchpath=[file://{tmp_path}]"]
    assert [each.is_explicit for each in directions(overrides)] == [True]
    with pytest.raises(UserError, match="must be maximize for task=names"):
        direction_overrides([*overrides, "task=names"], "like_optuna")
    assert direction_overrides([*overrides, "task=adding"], "like_optuna") == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra.sweeper.direction=[minimize,maximize]"], "has 2 directions"),
        (["hydra.sweeper.direction=maximise"], "must be maximize or minimize, got maximise"),
        (["task=first,adding"], "task=adding has mse .min.; task=first has accuracy .max.; sweep one task"),
        (["task=choice(first,adding)"], "sweep one task"),
        (["task=glob([first,adding])"], "sweep one task"),
    ],
)
def test_several_or_unknown_directions_are_errors(overrides, message):
    with pytest.raises(UserError, match=message):
        direction_overrides(["hydra/sweeper=like_optuna", "task=first", *overrides], "like_optuna")


def test_a_sweeper_without_a_direction_is_not_changed(caplog):
    overrides = ["hydra/sweeper=without", "task=first,adding"]
    assert direction_overrides(overrides, "without") == []
    assert "runs return validation mse (min) and accuracy (max)" in caplog.text


def test_only_a_sweeper_that_optimises_gets_a_missing_value_cause(tmp_path):
    with ledger.run_status(tmp_path / "run", []) as record:
        record.update(state="failed", cause="no such file")
    assert missing_value_cause(tmp_path / "run", NODES["like_ax"]) == "run has no validation score: no such file"
    assert missing_value_cause(tmp_path / "run", NODES["without"]) is None


@pytest.fixture(scope="module")
def optuna(tmp_path_factory):
    """Install Hydra's sweeper for it where no other test sees it, without Hydra."""
    pytest.importorskip("optuna")
    target = tmp_path_factory.mktemp("optuna")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    pip += ["--target", str(target), "hydra-optuna-sweeper==1.3.0"]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"hydra-optuna-sweeper cannot be installed: {done.stderr[-200:]}")
    return target


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_optuna_maximises_validation_accuracy(optuna, names_folder, tmp_path, monkeypatch):
    """Its best value is the best validation score of the ledger; the other direction is refused."""
    monkeypatch.chdir(tmp_path)
    overrides = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1"]
    overrides += ["hydra.sweeper.sampler.seed=1", "optimizer.lr=tag(log,interval(0.00001,0.1))"]
    overrides += ["task=names", f"task.data_dir={names_folder}", "cell.hidden_size=8", "data.batch_size=16"]
    overrides += ["trainer.max_epochs=3", *QUICK]

    def seqlab(*arguments):
        environment = {"PYTHONPATH": str(optuna), "PYTHONWARNINGS": "ignore"}
        return finish(start(tmp_path, *arguments, **environment))

    code, out = seqlab("-m", *overrides, "hydra.sweeper.direction=minimize")
    assert code == 1
    assert "hydra.sweeper.direction must be maximize for task=names" in out.splitlines()[-1]
    assert not Path("runs").exists()
    code, out = seqlab("-m", *overrides)
    assert code == 0, out
    (folder,) = Path("runs/sweeps").iterdir()
    found = OmegaConf.load(folder / "optimization_results.yaml")
    records = [json.loads(path.read_text()) for path in folder.glob("*/results.json")]
    best = {record["config"]["optimizer"]["lr"]: record["metrics"]["valid"]["accuracy"] for record in records}
    assert len(best) == 3
    assert min(best.values()) < max(best.values()) == found.best_value
    assert best[found.best_params["optimizer.lr"]] == found.best_value
    objectives = {run["objective"] for run in json.loads(seqlab("status", str(folder), "--json")[1])}
    assert objectives == set(best.values())
    code, out = seqlab("resume", str(folder), "hydra.sweeper.n_trials=5")
    assert code == 0, out
    assert out.count("was done before") == 3
    assert OmegaConf.load(folder / "optimization_results.yaml").best_value >= found.best_value


def test_a_plan_may_set_a_sweeper_and_not_what_it_imports_or_writes():
    """Optuna imports ``custom_search_space``, opens ``storage``; params become overrides of Hydra's own node."""
    check_file_overrides(
        ["hydra/sweeper=optuna", "hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=1"], "plan", "no"
    )
    for word in (
        "hydra.sweeper.custom_search_space=os.system",
        "hydra.sweeper.storage=sqlite:///home/x.db",
        "hydra.sweeper.params.hydra.job.env_set=1",
        "hydra.sweeper.sampler._target_=os.system",
        "hydra.sweeper.sampler={_target_: os.system}",
        "hydra/sweeper/_x=y",
    ):
        with pytest.raises(UserError, match=r"could (make Hydra )?run code"):
            check_file_overrides([word], "plan", "no")
