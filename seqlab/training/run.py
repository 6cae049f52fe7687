"""One run: from a config to a run folder."""

import logging
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seqlab.config.schema import plain_config
from seqlab.contracts import Model, UserError
from seqlab.data.datamodule import SPLITS
from seqlab.data.statistics import format_statistics
from seqlab.distributed.devices import place
from seqlab.io import formatting
from seqlab.runs import run_folder
from seqlab.runs.card import write_card, write_preprocessor
from seqlab.runs.environment import compute_settings, git_state, hardware, peak_memory, versions
from seqlab.runs.ownership import owned_folder
from seqlab.runs.results import Result, further_tests, metric_ranges, write_results
from seqlab.runs.scores import judge
from seqlab.training.checkpoint import checkpoint_path
from seqlab.training.loggers import close_logger, make_logger
from seqlab.training.process_state import restored_process_state
from seqlab.training.ranks import WorkerRanks
from seqlab.training.resume import ResumePoint, first_record
from seqlab.training.session import TrainingSession

log = logging.getLogger("seqlab")


def run(
    config: DictConfig | Mapping[str, Any],
    folder: str | Path,
    command: str | None = None,
    *,
    until: int | None = None,
) -> Result:
    """Train, choose the checkpoint by validation, score the test split once, and write the run folder.

    Random generators, the number of threads and the default dtype are as they were before, when it returns. A default
    dtype of float64 is the parameters' own, and ``compute.dtype`` of the record.

    Args:
        config: as :func:`seqlab.compose` gives it.
        folder: where the run's files go; it must not hold a finished run.
        command: what was typed, for the record.
        until: the step of the optimiser after which to save and stop, unless the run ends with it.

    Raises:
        UserError: the config asks for what cannot be had.
        ReachedError: the run stopped after ``until``.
    """
    plain = plain_config(config)  # before there is a folder
    with restored_process_state(), owned_folder(Path(folder)):
        return _run(plain, Path(folder), command, until)


def _run(plain: dict[str, Any], folder: Path, command: str | None, until: int | None) -> Result:
    started = time.perf_counter()
    resume_from = checkpoint_path(plain["ckpt_path"], folder)
    check_unfinished(folder, resumes=resume_from is not None and resume_from.resolve().parent == folder.resolve())
    earlier = None if resume_from is None else ResumePoint(plain["ckpt_path"], resume_from)
    trained_with = first_record(plain) if earlier is None else earlier.begin(plain, folder)
    logger = None
    with WorkerRanks(folder, place(plain["trainer"])) as followers:
        work = TrainingSession(plain, folder, resume_from, followers.leader)
        work.record(trained_with, earlier, until)
        if earlier is not None:
            earlier.tell()
        if plain["trainer"]["progress"] is not False:
            for line in format_statistics(work.data.statistics):
                log.info(line)
            for note in work.data.notes:
                log.info(note)
        write_card(folder, plain, work.task, work.data.inputs, work.origin)
        write_preprocessor(folder, work.data.preprocessor)
        failed = True
        try:
            logger = make_logger(plain["logger"], folder)
            if logger is not None:
                logger.log_hyperparams({**plain, "folder": str(folder)})
            followers.go(plain, resume_from)
            work.do(logger)
            failed = False
        finally:
            close_logger(logger, failed)
    return _record(work, started, command)


def check_unfinished(folder: Path, *, resumes: bool) -> None:
    """Leave a folder alone that holds a finished run.

    Raises:
        UserError: it does.
    """
    if (folder / run_folder.RESULTS).exists() and not resumes:
        raise UserError(
            f"{formatting.relative_path(folder)} holds a finished run; "
            "choose another hydra.run.dir, or go on with ckpt_path=last"
        )


def _record(work: TrainingSession, started: float, command: str | None) -> Result:
    plain, folder, task, data, module = work.plain, work.folder, work.task, work.data, work.module
    model = work.model
    report = task.report(module.details, folder)
    scores = _scores(work)
    costs = _costs(work, started)
    no_cell = f"model={plain['model']['name']} uses no cell: cell= and kernel= mean nothing to it"
    record = {
        "title": run_title(plain, model),
        **scores,
        "cost": costs,
        "kernel": model.kernel_report(),
        "data": {split: data.statistics[split] for split in SPLITS},
        "example": data.example_texts,
        "sequence_length_means": task.sequence_length_means,
        "generates": task.carries_state and task.per_step,
        "tables": {**report.tables, **further_tests(module.further, data.statistics)},
        "figures": [*report.figures, *work.figures],
        "notes": [*([] if model.uses_cell else [no_cell]), *data.notes, *report.notes],
        "fingerprint": work.trained_with.data,
        "history": work.trained_with.history(costs["epochs"], costs["steps"]),
        "init_from": work.origin,
        "freeze": list(plain.get("freeze") or []),
        "config": plain,
        "files": run_folder.hashes(folder),
        "versions": versions(),
        "hardware": hardware(),
        "compute": compute_settings(model, work.threads),
        "git": git_state(),
        "command": command or shlex.join(sys.argv),
    }
    record = write_results(folder, record)
    return Result(folder, module.test_results, module.baseline, scores["verdict"], task.monitor, costs, record)


def _scores(work: TrainingSession) -> dict[str, Any]:
    """Return what of the record is a score: of the test split, and of the validation split, by which is chosen."""
    task, module, checkpoints, statistics = work.task, work.module, work.checkpoints, work.data.statistics
    valid, blind = checkpoints.best_metrics, work.baseline.values
    return {
        "verdict": judge(task, module.test_results, module.baseline, statistics["test"]["examples"]),
        "metrics": {"test": module.test_results, "valid": valid},
        "chance": {"test": module.baseline, "valid": blind},
        "ranges": metric_ranges(task.metrics(), module.test_results),
        "best": {
            "monitor": task.monitor,
            "mode": task.mode,
            **checkpoints.chosen(),
            "verdict": judge(task, valid, blind, statistics["valid"]["examples"]) if blind else None,
        },
    }


def _costs(work: TrainingSession, started: float) -> dict[str, Any]:
    return {
        **work.cost.report(work.module),
        "devices": work.where.world,
        "wall_seconds": time.perf_counter() - started,
        "parameters": sum(parameter.numel() for parameter in work.model.parameters()),
        "state_size": work.model.state_size(),
        **peak_memory(),
    }


def run_title(plain: Mapping[str, Any], model: Model) -> str:
    """Name a run by what matters most."""
    what = f"{plain['cell']['name']} on {plain['task']['name']}"
    return what if model.uses_cell else f"{plain['model']['name']} on {plain['task']['name']}"
