"""Run: from a config to a run folder."""

import logging
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig

from seqlab.config.schema import plain_config
from seqlab.contracts import LanguageTask, Task, UserError
from seqlab.contracts.task import at_length, label_names, task_defaults, task_report
from seqlab.data.datamodule import SPLITS
from seqlab.data.statistics import format_statistics
from seqlab.distributed.devices import rank_info
from seqlab.distributed.ranks import WorkerRanks
from seqlab.io import formatting
from seqlab.plugins.task_defaults import chosen_by_task
from seqlab.runs import run_folder
from seqlab.runs.card import write_card, write_preprocessor
from seqlab.runs.environment import compute_settings, git_state, hardware, peak_memory, versions
from seqlab.runs.ownership import owned_folder
from seqlab.runs.results import Result, further_tests, metric_ranges, write_results
from seqlab.runs.scores import judge
from seqlab.training.baseline import fit_baseline
from seqlab.training.checkpoint import checkpoint_path
from seqlab.training.curriculum import lengths_record
from seqlab.training.examples import confident_errors, metric_intervals, write_predictions
from seqlab.training.loggers import open_logger
from seqlab.training.process_state import restored_process_state
from seqlab.training.resume import ResumePoint, new_record
from seqlab.training.session import TrainingSession

log = logging.getLogger("seqlab")


def run(
    config: DictConfig | Mapping[str, Any],
    folder: str | Path,
    command: str | None = None,
    *,
    until: int | None = None,
    estimate: Mapping[str, Any] | None = None,
) -> Result:
    """Train, choose the checkpoint by validation, score the test split once, and write the run folder.

    The random generators, the number of threads and the default dtype of the process are restored at the end. A default
    dtype of float64 is used for the parameters and recorded as ``compute.dtype``.

    Args:
        config: as :func:`seqlab.compose` returns it; it is not changed.
        folder: where the run's files go; it must not hold a finished run.
        command: the command line, for the record.
        until: the optimiser step after which to save and stop, unless the run ends with it.
        estimate: scores of cross-validation that hold for this model, for the card and the record.

    Raises:
        UserError: the config is invalid or cannot be satisfied.
        StepReachedError: the run stopped after ``until``.
    """
    plain, chosen = _checked(config), chosen_by_task(config)  # before a folder is made
    with restored_process_state(), owned_folder(Path(folder)):
        started = time.perf_counter()
        with _opened(plain, Path(folder), chosen, until, estimate) as (session, logger):
            session.train_and_test(logger)
        return _record_results(session, started, command, estimate, chosen)


def _checked(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of one run as checked plain values."""
    plain = plain_config(config)
    if (count := plain["trainer"]["replicas"]) > 1:
        raise UserError(f"trainer.replicas must be 1 within a run, got {count}; the command line makes a run of each")
    return plain


def train(
    config: DictConfig | Mapping[str, Any], folder: str | Path, callbacks: Sequence[pl.Callback] = ()
) -> dict[str, float]:
    """Train and choose the checkpoint by validation, as :func:`run` does, but do not score the test split.

    The folder is that of a run that was stopped: :func:`run` with ``ckpt_path=last`` finishes it.

    Args:
        config: as :func:`seqlab.compose` returns it; it is not changed.
        folder: where the run's files go; it must not hold a finished run.
        callbacks: further callbacks of Lightning.

    Returns:
        Validation metrics of the best weights.

    Raises:
        UserError: the config is invalid or cannot be satisfied.
    """
    plain = _checked(config)
    with restored_process_state(), owned_folder(Path(folder)):
        with _opened(plain, Path(folder), chosen_by_task(config)) as (session, logger):
            session.train(logger, callbacks)
        return session.checkpoints.best_metrics


@contextmanager
def _opened(
    config: dict[str, Any],
    folder: Path,
    chosen: Collection[str],
    until: int | None = None,
    estimate: Mapping[str, Any] | None = None,
) -> Iterator[tuple[TrainingSession, Any]]:
    """Prepare the session of a run, its folder, its other ranks and its logger.

    Args:
        config: plain values; those of a resumed run replace ``auto`` and the keys that the task chose.
        folder: of the run.
        chosen: keys that the task chose.
        until: the optimiser step after which to save and stop.
        estimate: scores of cross-validation that hold for this model.
    """
    resume_from = checkpoint_path(config["ckpt_path"], folder)
    resume_point = None if resume_from is None else ResumePoint(config["ckpt_path"], resume_from)
    _check_unfinished(folder, resumes=resume_point is not None and resume_point.is_in(folder))
    if resume_point is not None:
        config = resume_point.fill_defaults(config, chosen)
    record = new_record(config) if resume_point is None else resume_point.start_segment(config, folder)
    with WorkerRanks(folder, rank_info(config["trainer"])) as workers:
        session = TrainingSession(config, folder, resume_from, workers.info)
        session.start_record(record, resume_point, until)
        if resume_point is not None:
            resume_point.log_changes()
        if config["trainer"]["progress"] is not False:
            for line in [*format_statistics(session.data.statistics), *session.data.notes]:
                log.info(line)
        write_card(folder, session.config, session.task, session.data.inputs, session.init_record, estimate)
        write_preprocessor(folder, session.data.preprocessor)
        with open_logger(session.config, folder) as logger:
            workers.start(session.config, resume_from)
            yield session, logger


def _check_unfinished(folder: Path, *, resumes: bool) -> None:
    if (folder / run_folder.RESULTS).exists() and not resumes:
        where = formatting.relative_path(folder)
        raise UserError(f"{where} holds a finished run; set another hydra.run.dir, or resume with ckpt_path=last")


def _record_results(
    session: TrainingSession,
    started: float,
    command: str | None,
    estimate: Mapping[str, Any] | None,
    chosen: Collection[str],
) -> Result:
    """Write ``results.json``."""
    config, folder, task, data, module = session.config, session.folder, session.task, session.data, session.module
    lengths = _lengths(session)
    task = at_length(task, lengths["test"] if lengths else None)
    report = task_report(task, module.details, folder)
    scores = _scores(session, task)
    by_example, errors = _examples(session, task)
    cost = _cost(session, started)
    main = "cell" if session.model.uses_cell else "model"
    notes = [] if session.model.uses_cell else [f"`cell` and `kernel` are ignored with model={config['model']['name']}"]
    record = {
        "title": f"{config[main]['name']} on {config['task']['name']}",
        **scores,
        **by_example,
        "lengths": lengths,
        "cost": cost,
        "kernel": session.model.kernel_report(),
        "data": {split: data.statistics[split] for split in SPLITS},
        "example": data.example_texts,
        "sequence_length_means": task_defaults(task).sequence_length_means,
        "generates": isinstance(task, LanguageTask),
        "tables": {**report.tables, **errors, **further_tests(module.further, data.statistics)},
        "figures": [*report.figures, *session.figures],
        "notes": [*notes, *data.notes, *report.notes],
        **_provenance(session, cost),
        "chosen_by_task": sorted(chosen),
        "command": command or shlex.join(sys.argv),
    }
    record = write_results(folder, record if estimate is None else {**record, "estimate": dict(estimate)})
    return Result(folder, module.test_results, module.baseline, scores["verdict"], task.monitor, cost, record)


def _provenance(session: TrainingSession, cost: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the run was made of: data, earlier parts, weights, config, versions and hardware."""
    return {
        "fingerprint": session.record.data,
        "history": session.record.history(cost["epochs"], cost["steps"]),
        "init_from": session.init_record,
        "freeze": list(session.config.get("freeze") or []),
        "config": session.config,
        "files": run_folder.hashes(session.folder),
        "versions": versions(),
        "hardware": hardware(),
        "compute": compute_settings(session.model, session.threads, session.thread_history),
        "git": git_state(),
    }


def _examples(session: TrainingSession, task: Task) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Write the predictions; return the intervals and the linear baseline, and the table of confident errors."""
    data, found = session.data, session.module.examples_of.found
    write_predictions(session.folder, found)
    linear = fit_baseline(session.config, task, data)
    intervals = metric_intervals(task, session.module.test_results, found.get("test"))
    errors = confident_errors(label_names(task) or (), found.get("test"), data.texts.get("test"))
    return {"intervals": {"test": intervals}, "linear": None if linear is None else linear.record()}, errors


def _lengths(session: TrainingSession) -> dict[str, Any] | None:
    """Return the lengths of training, validation and test of a generated task, and describe the validation split."""
    data, schedule = session.data, session.data.schedule
    if schedule is None:
        return None
    found = lengths_record(schedule, session.checkpoints.best_length)
    if schedule.is_curriculum:
        data.statistics["valid"] = data.held_out_statistics(found["valid"])
    return found


def _scores(session: TrainingSession, task: Task) -> dict[str, Any]:
    """Return scores of the test split, and of the validation split, by which the checkpoint and runs are chosen.

    Args:
        session: of the run.
        task: at the length of these splits.
    """
    module, checkpoints = session.module, session.checkpoints
    statistics, valid = session.data.statistics, checkpoints.best_metrics
    valid_baseline = session.baseline.values_at(task.sequence_length or 0)
    return {
        "verdict": judge(task, module.test_results, module.baseline, statistics["test"]["examples"]),
        "metrics": {"test": module.test_results, "valid": valid},
        "chance": {"test": module.baseline, "valid": valid_baseline},
        "ranges": metric_ranges(task.metrics(), module.test_results),
        "best": {
            "monitor": task.monitor,
            "mode": task.mode,
            **checkpoints.best_record(),
            "verdict": judge(task, valid, valid_baseline, statistics["valid"]["examples"]) if valid_baseline else None,
        },
    }


def _cost(session: TrainingSession, started: float) -> dict[str, Any]:
    return {
        **session.cost.report(session.module),
        "fit_seconds": session.budget.seconds,
        "devices": session.info.world_size,
        "wall_seconds": time.perf_counter() - started,
        "parameters": sum(parameter.numel() for parameter in session.model.parameters()),
        "state_size": session.model.state_size(),
        **peak_memory(),
    }
