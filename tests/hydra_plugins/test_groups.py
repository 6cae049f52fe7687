"""Runs of a sweep in groups that are trained together."""

from types import SimpleNamespace

import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError
from omegaconf import OmegaConf

from hydra_plugins.seqlab_sweeps._groups import GroupedTask, GroupLauncher
from hydra_plugins.seqlab_sweeps._joblib import JoblibLauncher
from seqlab.cli.replicas import replica_overrides
from seqlab.errors import UserError
from seqlab.runs.run_folder import RESULTS
from seqlab.sweeps.ledger import run_status, write_plan


def test_the_job_of_a_group_is_of_a_run_that_is_left(tmp_path):
    """Submitit's launchers submit no job of a run that is done, or that --failed leaves out."""
    runs = [["a=1", f"seed={seed}"] for seed in range(3)]
    write_plan(tmp_path, [], {f"run{number}": run for number, run in enumerate(runs)})
    (tmp_path / "run0").mkdir()
    (tmp_path / "run0" / RESULTS).write_text("{}", "utf-8")
    with run_status(tmp_path / "run0", runs[0]) as record:
        record.update(state="done", objective=1.0)
    launched = []
    launcher = SimpleNamespace(launch=lambda jobs, _: launched.extend(jobs))
    sweep = {"dir": str(tmp_path), "subdir": "${run_name:}"}
    config = OmegaConf.create({"hydra": {"sweep": sweep, "launcher": {}}})
    task = GroupedTask(lambda _: None, SimpleNamespace(config_loader=None, callbacks=None), config)
    GroupLauncher(launcher, task).launch(runs, 0)
    assert launched == [runs[1]]
    assert task.groups == {tuple(runs[1]): [runs[2], runs[0]]}


def test_a_group_is_resumed_while_any_of_its_runs_is_left(tmp_path, monkeypatch):
    """A process died after the first run of the group was done: the others are launched again."""
    runs = [[f"seed={seed}"] for seed in range(3)]
    write_plan(tmp_path, [], {f"run{number}": run for number, run in enumerate(runs)})
    launched = []

    def launch(_, jobs, first):
        launched.append(list(jobs))
        if len(launched) > 1:
            return []
        for number, state in enumerate(("done", "stopped", "stopped")):
            (tmp_path / f"run{number}").mkdir()
            (tmp_path / f"run{number}" / RESULTS).write_text("{}", "utf-8")
            with run_status(tmp_path / f"run{number}", runs[number]) as record:
                record.update(state=state, objective=1.0 if state == "done" else None)
        raise TerminatedWorkerError("killed")

    monkeypatch.setattr(JoblibLauncher.__base__, "launch", launch)  # Hydra may have imported its module again
    sweep = {"dir": str(tmp_path), "subdir": "${run_name:}"}
    config = OmegaConf.create({"hydra": {"sweep": sweep, "launcher": {}, "sweeper": {}}})
    launcher = JoblibLauncher(n_jobs=1)
    context = SimpleNamespace(config_loader=None, callbacks=None)
    task = GroupedTask(lambda _: None, context, config)
    launcher.config, launcher.hydra_context, launcher.task_function = config, context, task
    (found,) = GroupLauncher(launcher, task).launch(runs, 0)
    assert launched == [[runs[0]], [runs[0]]]
    assert found.return_value == 1.0


def test_replicas_are_a_sweep_over_seeds():
    given = ["task=adding", "seed=7", "trainer.replicas=3", "hydra.run.dir=here"]
    found = replica_overrides(given)
    assert found is not None
    assert {"task=adding", "seed=7,8,9", "trainer.replicas=1", "hydra.sweeper.group_replicas=true"} <= set(found)
    assert "hydra.sweep.dir=here" in found
    assert "hydra.run.dir=here" not in found
    assert replica_overrides(["task=adding", "trainer.max_epochs=3"]) is None
    with pytest.raises(UserError, match=r"ckpt_path must be null with trainer\.replicas=3"):
        replica_overrides([*given, "ckpt_path=best"])
