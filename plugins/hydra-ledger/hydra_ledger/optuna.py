"""Studies of Optuna's sweeper: a sweep that is resumed goes on with its study, up to the number of trials asked for."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

log = logging.getLogger("hydra_ledger")

_RETRY = "hydra_ledger_retry"
"""User attribute of a trial: the number of the one that was interrupted, whose values it has."""


def is_optuna(config: DictConfig) -> bool:
    """Return whether the sweeper of a config is Optuna's."""
    return "optuna" in str(config.hydra.sweeper.get("_target_", "")).lower()


def continue_study(config: DictConfig, folder: Path, is_resumed: bool) -> None:
    """Keep the study in the folder of the sweep, and ask for the trials that are left.

    A sampler with a seed and without a storage needs none: it proposes the same trials again, and the ledger knows
    their values.
    """
    sweeper = config.hydra.sweeper
    if sweeper.get("storage") is None and OmegaConf.select(sweeper, "sampler.seed") is not None:
        return
    with open_dict(sweeper):
        name = f"hydra-ledger {folder}"
        if sweeper.get("storage") is None:  # a file that moves with the folder
            sweeper.storage, name = f"sqlite:///{folder / 'study.db'}", "hydra-ledger"
        if sweeper.get("study_name") is None:
            sweeper.study_name = name
        if is_resumed:
            sweeper.n_trials = max(0, int(sweeper.n_trials) - _restored(str(sweeper.storage), str(sweeper.study_name)))


def _restored(storage: str, name: str) -> int:
    """Propose the interrupted trials of a study again; return the number of trials that have a result."""
    import optuna

    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:  # it was interrupted before the study was made
        return 0
    trials = study.get_trials(deepcopy=False)
    interrupted = {trial.user_attrs.get(_RETRY) for trial in trials}
    ended = [trial for trial in trials if trial.state.is_finished() and trial.number not in interrupted]
    for trial in trials:
        if trial.state == optuna.trial.TrialState.RUNNING:
            if trial.number not in interrupted:  # else this was killed before it told the state
                further: dict[str, Any] = {_RETRY: trial.number}
                study.enqueue_trial(trial.params, user_attrs=further)
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    log.info("study %s: %d trials have a result", name, len(ended))
    return len(ended)
