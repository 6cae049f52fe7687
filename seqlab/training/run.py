"""One run: from a config to a run folder."""

import logging
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from seqlab.contracts import Model, UserError
from seqlab.discovery.pinned import unpinned
from seqlab.training import runfolder
from seqlab.training.card import write_card
from seqlab.training.checkpoint import checkpoint_path
from seqlab.training.data import SPLITS
from seqlab.training.devices import place
from seqlab.training.lengths import describe
from seqlab.training.loggers import close, make_logger
from seqlab.training.ranks import Followers
from seqlab.training.results import (
    SCHEMA,
    Result,
    further_tests,
    git_state,
    hardware,
    judge,
    metric_ranges,
    peak_memory,
    versions,
)
from seqlab.training.trained import write_preprocessor
from seqlab.training.work import Work

log = logging.getLogger("seqlab")


def run(config: DictConfig | Mapping[str, Any], folder: str | Path, command: str | None = None) -> Result:
    """Train, choose the checkpoint by validation, score the test split once, and write the run folder.

    Args:
        config: as :func:`seqlab.compose` gives it.
        folder: where the run's files go; it must not hold a finished run.
        command: what was typed, for the record.

    Raises:
        UserError: the config asks for what cannot be had.
    """
    threads = torch.get_num_threads()
    try:
        with runfolder.owned(Path(folder)):
            return _run(config, Path(folder), command)
    finally:
        torch.set_num_threads(threads)


def _run(config: DictConfig | Mapping[str, Any], folder: Path, command: str | None) -> Result:
    started = time.perf_counter()
    plain = plain_config(config)
    claim(folder, resumes=plain["ckpt_path"] is not None)
    resume_from = checkpoint_path(plain["ckpt_path"], folder)
    logger = None
    with Followers(folder, place(plain["trainer"])) as followers:
        work = Work(plain, folder, resume_from, followers.leader)
        if plain["trainer"]["progress"] is not False:
            for line in describe(work.data.statistics):
                log.info(line)
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
            close(logger, failed)
    return _record(work, started, command)


_NODES = ("task", "model", "cell", "kernel", "optimizer", "trainer", "data", "logger")
_MOST_PROCESSES = 1024


def plain_config(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Resolve a config into plain values, and check what holds for every run.

    Raises:
        UserError: a value is out of its range.
    """
    plain = OmegaConf.to_container(config, resolve=True, enum_to_str=True) if isinstance(config, DictConfig) else config
    assert isinstance(plain, dict)
    plain = unpinned({str(key): value for key, value in plain.items()})
    if lacking := [key for key in _NODES if not isinstance(plain.get(key), Mapping)]:
        raise UserError(f"the config has no {', '.join(lacking)}")
    trainer = plain["trainer"]
    if trainer["devices"] != "auto" and (not isinstance(trainer["devices"], int) or trainer["devices"] < 1):
        raise UserError(f"trainer.devices is {trainer['devices']}; it must be auto or a number of devices, at least 1")
    if not isinstance(plain["seed"], int) or not 0 <= plain["seed"] < 2**32:
        raise UserError(f"seed is {plain['seed']}; it must be a whole number from 0 to 4294967295")
    if trainer["max_epochs"] is not None and trainer["max_epochs"] < 1:
        raise UserError(f"trainer.max_epochs is {trainer['max_epochs']}; it must be at least 1")
    if not isinstance(trainer["overfit_batches"], int) or trainer["overfit_batches"] < 0:
        raise UserError(
            f"trainer.overfit_batches is {trainer['overfit_batches']}; it must be a number of batches, or 0"
        )
    least = {"batch_size": 1, "eval_batch_size": 1, "bucket": 1, "workers": 0}
    for key, bound in least.items():
        if not isinstance(plain["data"][key], int) or plain["data"][key] < bound:
            raise UserError(f"data.{key} is {plain['data'][key]}; it must be at least {bound}")
    bounds = {"accumulate_grad_batches": 1, "checkpoint_minutes": 0, "num_nodes": 1, "skip_nonfinite": 0}
    for key, bound in bounds.items():
        value = trainer.get(key, bound)  # the config of an older run may lack it
        if not isinstance(value, int | float) or value < bound:
            raise UserError(f"trainer.{key} is {value}; it must be at least {bound}")
    processes = {"trainer.devices": trainer["devices"], "trainer.threads": trainer.get("threads")}
    for key, value in {**processes, "data.workers": plain["data"]["workers"]}.items():
        if isinstance(value, int) and value > _MOST_PROCESSES:
            raise UserError(f"{key} is {value}; it may be {_MOST_PROCESSES} at most")
    in_a_row = trainer.get("stop_when_solved", 0)
    if not isinstance(in_a_row, int) or isinstance(in_a_row, bool) or in_a_row < 0:
        raise UserError(f"trainer.stop_when_solved is {in_a_row}; it must be a number of epochs, or 0")
    return plain


def claim(folder: Path, *, resumes: bool) -> None:
    """Leave a folder alone that holds a finished run.

    Raises:
        UserError: it does.
    """
    if (folder / runfolder.RESULTS).exists() and not resumes:
        raise UserError(
            f"{runfolder.relative(folder)} holds a finished run; "
            "choose another hydra.run.dir, or go on with ckpt_path=last"
        )


def _record(work: Work, started: float, command: str | None) -> Result:
    plain, folder, task, data, module = work.plain, work.folder, work.task, work.data, work.module
    model = work.model
    report = task.report(module.details, folder)
    scores = _scores(work)
    costs = _costs(work, started)
    no_cell = f"model={plain['model']['name']} uses no cell: cell= and kernel= mean nothing to it"
    record = {
        "schema": SCHEMA,
        "title": title(plain, model),
        **scores,
        "cost": costs,
        "kernel": model.kernel_report(),
        "data": {split: data.statistics[split] for split in SPLITS},
        "example": data.example_texts,
        "sequence_length_means": task.sequence_length_means,
        "generates": task.carries_state and task.per_step,
        "tables": {**report.tables, **further_tests(module.further, data.statistics)},
        "figures": [*report.figures, *work.figures],
        "notes": [*([] if model.uses_cell else [no_cell]), *report.notes],
        "init_from": work.origin,
        "freeze": list(plain.get("freeze") or []),
        "config": plain,
        "files": runfolder.hashes(folder),
        "versions": versions(),
        "hardware": hardware(),
        "git": git_state(),
        "command": command or shlex.join(sys.argv),
    }
    runfolder.write_json(folder / runfolder.RESULTS, record)
    return Result(folder, module.test_results, module.baseline, scores["verdict"], task.monitor, costs, record)


def _scores(work: Work) -> dict[str, Any]:
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
            "epoch": checkpoints.best_epoch,
            "valid": checkpoints.best,
            "verdict": judge(task, valid, blind, statistics["valid"]["examples"]) if blind else None,
        },
    }


def _costs(work: Work, started: float) -> dict[str, Any]:
    return {
        **work.cost.report(work.module),
        "devices": work.where.world,
        "wall_seconds": time.perf_counter() - started,
        "parameters": sum(parameter.numel() for parameter in work.model.parameters()),
        "state_size": work.model.state_size(),
        **peak_memory(),
    }


def title(plain: Mapping[str, Any], model: Model) -> str:
    """Name a run by what matters most."""
    what = f"{plain['cell']['name']} on {plain['task']['name']}"
    return what if model.uses_cell else f"{plain['model']['name']} on {plain['task']['name']}"
