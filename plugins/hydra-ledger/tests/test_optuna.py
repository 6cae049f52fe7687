"""Studies that are resumed, without the sweeper."""

import pytest
from omegaconf import OmegaConf

from hydra_ledger.optuna import continue_study


def asked(folder, *, is_resumed):
    """Return the study's place and name, and the number of trials that the sweeper is asked for."""
    sweeper = {"n_trials": 10, "storage": None, "study_name": None, "sampler": {"seed": None}}
    config = OmegaConf.create({"hydra": {"sweeper": sweeper}})
    continue_study(config, folder, is_resumed)
    return config.hydra.sweeper.storage, config.hydra.sweeper.study_name, config.hydra.sweeper.n_trials


def test_no_trial_is_lost(tmp_path, monkeypatch):
    """Three of ten trials have a result: seven are left, also after a kill while they are restored, and elsewhere."""
    optuna = pytest.importorskip("optuna")
    folder = tmp_path / "a"
    folder.mkdir()
    storage, name, _ = asked(folder, is_resumed=False)
    study = optuna.create_study(storage=storage, study_name=name)
    for number in range(4):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        if number < 3:
            study.tell(trial, 0.5)

    def killed(*_, **__):
        raise KeyboardInterrupt

    for step in ("enqueue_trial", "tell"):
        monkeypatch.setattr(optuna.Study, step, killed)
        with pytest.raises(KeyboardInterrupt):
            asked(folder, is_resumed=True)
        monkeypatch.undo()
    assert asked(folder, is_resumed=True)[2] == 7
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3 + ["FAIL", "WAITING"]
    assert asked(folder.rename(tmp_path / "b"), is_resumed=True)[2] == 7
