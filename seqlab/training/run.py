"""One run: from a config to a run folder."""

import logging
import shlex
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import EarlyStopping

from seqlab.contracts import Model, Task, UserError
from seqlab.discovery.config import build
from seqlab.discovery.pinned import unpinned
from seqlab.discovery.registry import one_line
from seqlab.training import runfolder
from seqlab.training.assemble import build_model, build_preprocessor, build_task
from seqlab.training.averaging import NonMonotonicAveraging
from seqlab.training.checkpoint import AtomicCheckpointIO, RunCheckpoint, checkpoint_path
from seqlab.training.cost import Cost
from seqlab.training.data import SPLITS, SequenceData, describe
from seqlab.training.finetune import Start, begin, hand_over
from seqlab.training.interrupt import StopRequest
from seqlab.training.loggers import close, make_logger
from seqlab.training.module import SequenceModule
from seqlab.training.progress import progress_callbacks
from seqlab.training.results import SCHEMA, Result, git_state, judge, peak_memory, versions
from seqlab.training.trained import write_card, write_preprocessor

log = logging.getLogger("seqlab")

_TRAINER_KEYS = (
    "max_epochs", "max_steps", "accelerator", "devices", "precision", "gradient_clip_val", "limit_train_batches",
    "limit_val_batches", "limit_test_batches", "profiler", "accumulate_grad_batches",
)  # fmt: skip


def run(config: DictConfig | Mapping[str, Any], folder: str | Path, command: str | None = None) -> Result:
    """Train, choose the checkpoint by validation, score the test split once, and write the run folder.

    Args:
        config: as :func:`seqlab.compose` gives it.
        folder: where the run's files go; it must not hold a finished run.
        command: what was typed, for the record.

    Raises:
        UserError: the config asks for what cannot be had.
    """
    with runfolder.owned(Path(folder)):
        return _run(config, Path(folder), command)


def _run(config: DictConfig | Mapping[str, Any], folder: Path, command: str | None) -> Result:
    started = time.perf_counter()
    plain = plain_config(config)
    claim(folder, resumes=plain["ckpt_path"] is not None)
    resume_from = checkpoint_path(plain["ckpt_path"], folder)
    _quieten()
    if plain["trainer"]["threads"] is not None:
        torch.set_num_threads(plain["trainer"]["threads"])
    pl.seed_everything(plain["seed"], verbose=False)

    start = begin(plain, folder, resume_from)
    task, data = prepared(plain, start)
    for line in describe(data.statistics):
        log.info(line)
    pl.seed_everything(plain["seed"], verbose=False)  # the weights do not depend on what reading the data drew
    model = build_model(plain, task, data.inputs)
    preparing = time.perf_counter()
    model.prepare(data.training_inputs)
    preparing = time.perf_counter() - preparing
    origin = hand_over(start, model, task, plain)
    write_card(folder, plain, task, data.inputs, origin)
    write_preprocessor(folder, data.preprocessor)

    module = SequenceModule(model, task, plain["optimizer"], data.statistics)
    stop = StopRequest()
    minutes = plain["trainer"]["checkpoint_minutes"]
    checkpoints = RunCheckpoint(folder, f"valid/{task.monitor}", task.mode, stop, minutes)
    cost = Cost()
    logger = make_logger(plain["logger"], folder)
    failed = True
    try:
        trainer = _trainer(plain, folder, logger, [cost, checkpoints, *_callbacks(plain, task)])
        if logger is not None:
            logger.log_hyperparams({**plain, "folder": str(folder)})
        if any(parameter.requires_grad for parameter in model.parameters()):
            with stop.listening():
                trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
        else:  # counted, not trained
            trainer.validate(module, datamodule=data, verbose=False)
            checkpoints.keep(trainer, module)
            cost.seconds += preparing
        model.load_state_dict(runfolder.read_weights(folder / runfolder.MODEL))
        trainer.test(module, datamodule=data, verbose=False)
        failed = False
    except MisconfigurationException as error:
        raise UserError(f"trainer: {one_line(error)}") from error
    finally:
        close(logger, failed)
    return _record(plain, folder, task, data, module, checkpoints, cost, started, command, origin)


def plain_config(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Resolve a config into plain values, and check what holds for every run.

    Raises:
        UserError: a value is out of its range.
    """
    plain = OmegaConf.to_container(config, resolve=True, enum_to_str=True) if isinstance(config, DictConfig) else config
    assert isinstance(plain, dict)
    plain = unpinned({str(key): value for key, value in plain.items()})
    trainer = plain["trainer"]
    if trainer["devices"] not in (1, "1", "auto"):
        raise UserError(f"trainer.devices is {trainer['devices']}; this version trains on one device")
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
    for key, bound in {"accumulate_grad_batches": 1, "checkpoint_minutes": 0}.items():
        if not isinstance(trainer[key], int | float) or trainer[key] < bound:
            raise UserError(f"trainer.{key} is {trainer[key]}; it must be at least {bound}")
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


def prepared(plain: Mapping[str, Any], start: Start | None = None) -> tuple[Task, SequenceData]:
    """Read and encode the data of a config.

    Raises:
        UserError: the data cannot be had.
    """
    task = build_task(plain["task"])
    preprocessor = build_preprocessor(plain["preprocessing"]) if start is None else start.trained.preprocessor
    by_heart = plain["trainer"]["overfit_batches"]
    settings = {**plain["data"], "seed": plain["seed"], "by_heart": by_heart, "pipeline": plain["preprocessing"]}
    settings["fitted"] = start is not None
    data = SequenceData(task, preprocessor, **settings)
    try:
        data.prepare()
    except (ValueError, OSError) as error:
        message = one_line(error)
        if not message.startswith("task."):
            message = f"task={plain['task']['name']}: {message}"
        raise UserError(message) from error
    return task, data


def _callbacks(plain: Mapping[str, Any], task: Task) -> list[pl.Callback]:
    monitor = f"valid/{task.monitor}"
    callbacks = progress_callbacks(plain["trainer"]["progress"], monitor)
    if (patience := plain["trainer"]["early_stopping"]) is not None:
        callbacks.append(EarlyStopping(monitor, mode=task.mode, patience=patience))
    if (averaging := plain["optimizer"].get("averaging")) is not None:
        callbacks.append(NonMonotonicAveraging(monitor, task.mode, averaging))
    for node in (plain.get("callbacks") or {}).values():
        callbacks.append(build("callback", node))
    return callbacks


def _trainer(plain: Mapping[str, Any], folder: Path, logger: Any, callbacks: list[pl.Callback]) -> pl.Trainer:
    settings = {key: plain["trainer"][key] for key in _TRAINER_KEYS}
    try:
        return pl.Trainer(
            **settings,
            default_root_dir=folder,
            logger=logger or False,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
        )
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise UserError(f"trainer: {one_line(error)}") from error


def _record(
    plain: dict[str, Any],
    folder: Path,
    task: Task,
    data: SequenceData,
    module: SequenceModule,
    checkpoints: RunCheckpoint,
    cost: Cost,
    started: float,
    command: str | None,
    origin: dict[str, Any] | None,
) -> Result:
    report = task.report(module.details, folder)
    metrics, chance = module.test_results, module.baseline
    verdict = judge(task, metrics, chance, data.statistics["test"]["examples"])
    model: Model = module.model
    costs = {
        **cost.report(module),
        "wall_seconds": time.perf_counter() - started,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "state_size": model.state_size(),
        **peak_memory(),
    }
    no_cell = f"model={plain['model']['name']} uses no cell: cell= and kernel= mean nothing to it"
    record = {
        "schema": SCHEMA,
        "title": title(plain, model),
        "verdict": verdict,
        "metrics": {"test": metrics, "valid": checkpoints.best_metrics},
        "chance": {"test": chance},
        "best": {
            "monitor": task.monitor,
            "mode": task.mode,
            "epoch": checkpoints.best_epoch,
            "valid": checkpoints.best,
        },
        "cost": costs,
        "kernel": model.kernel_report(),
        "data": {split: data.statistics[split] for split in SPLITS},
        "example": data.example_texts,
        "generates": task.carries_state and task.per_step,
        "tables": report.tables,
        "figures": report.figures,
        "notes": [*([] if model.uses_cell else [no_cell]), *report.notes],
        "init_from": origin,
        "freeze": list(plain.get("freeze") or []),
        "config": plain,
        "versions": versions(),
        "git": git_state(),
        "command": command or shlex.join(sys.argv),
    }
    runfolder.write_json(folder / runfolder.RESULTS, record)
    return Result(folder, metrics, chance, verdict, task.monitor, costs, record)


def title(plain: Mapping[str, Any], model: Model) -> str:
    """Name a run by what matters most."""
    what = f"{plain['cell']['name']} on {plain['task']['name']}"
    return what if model.uses_cell else f"{plain['model']['name']} on {plain['task']['name']}"


def _quieten() -> None:
    """Keep Lightning's advertisements out of the way of what a user wants to read; warnings stay."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*")
    warnings.filterwarnings("ignore", ".*`srun` command is available.*")
