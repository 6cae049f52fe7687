"""What each process of a run does, one or many: read the data, build the model, train it, score the test split."""

import logging
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.strategies import DDPStrategy

from seqlab.config.build import build_model, build_preprocessor, build_task
from seqlab.contracts import Task, UserError
from seqlab.data.datamodule import SequenceData, check_batches
from seqlab.data.fingerprint import fingerprint
from seqlab.data.loaders import Shard
from seqlab.distributed.collectives import destroy_process_group
from seqlab.distributed.devices import OwnDraws, Place, environment, uses_gpu
from seqlab.distributed.signals import StoppedError, StopRequest
from seqlab.distributed.threads import Threads, configured_threads, default_threads
from seqlab.errors import one_line
from seqlab.io import formatting
from seqlab.io.safe_io import check_names
from seqlab.plugins.config import build
from seqlab.recurrence.selection import readiness
from seqlab.runs import run_folder
from seqlab.training.averaging import NonMonotonicAveraging
from seqlab.training.callbacks import Cost, EarlyStopping, StopWhenSolved, ValidationBaseline
from seqlab.training.checkpoint import AtomicCheckpointIO, ReachedError, RunCheckpoint
from seqlab.training.finetune import PretrainedInit, initialise_weights, load_init
from seqlab.training.module import SequenceModule
from seqlab.training.nonfinite import Guard
from seqlab.training.progress import progress_callbacks
from seqlab.training.resume import RECORD, Record, ResumePoint

_TRAINER_KEYS = (
    "max_epochs", "max_steps", "accelerator", "num_nodes", "precision", "gradient_clip_val", "limit_train_batches",
    "limit_val_batches", "limit_test_batches", "profiler", "accumulate_grad_batches",
)  # fmt: skip


@final
class TrainingSession:
    """A process' part of a run.

    Attributes:
        task, data, model, module: as the config has them; the data is encoded, the model has its first weights.
        origin: what the run began with, if it began with another one's weights.
        figures: names of the pictures that callbacks drew into the run folder: those in their ``figures``.
        baseline: scores the predictor that ignores its input on the validation split.
        checkpoints: which writes, if this is rank 0.
        trained_with: what rank 0 records in checkpoints and results.
        cost: of training.
        threads: CPU threads of this process, and why so many.

    Args:
        plain: the config; ``preprocessing`` becomes that of the run that ``init_from`` names.
        folder: the run folder.
        resume_from: the checkpoint to go on from.
        where: this process' place among those of the run.

    Raises:
        UserError: the config asks for what cannot be had.
    """

    def __init__(self, plain: dict[str, Any], folder: Path, resume_from: Path | None, where: Place) -> None:
        silence_lightning()
        readiness.begin()
        named, there = configured_threads(plain["trainer"], where), torch.get_num_threads()
        torch.set_num_threads(named.number if named else 1)
        pl.seed_everything(plain["seed"], verbose=False)
        self.plain, self.folder, self.resume_from, self.where = plain, folder, resume_from, where
        self.start = load_init(plain, folder, resume_from)
        self.task, self.data = prepare_data(plain, self.start, Shard(where.rank, where.world))
        pl.seed_everything(plain["seed"], verbose=False)  # the weights do not depend on what reading the data drew
        check_batches(plain["trainer"], self.data)
        self.model = build_model(plain, self.task, self.data.inputs)
        torch.set_num_threads(there)
        self.threads = named or self._fitting()
        torch.set_num_threads(self.threads.number)
        preparing = time.perf_counter()
        self.model.prepare(self.data.training_inputs)
        self._preparing = time.perf_counter() - preparing
        self.origin = initialise_weights(self.start, self.model, self.task, plain)
        guard = Guard(folder, plain["trainer"].get("skip_nonfinite", 0), keeps=where.rank == 0)
        self.module = SequenceModule(
            self.model, self.task, plain["optimizer"], self.data.statistics, self.data.extra_splits, guard
        )
        self.stop, self.cost, self.figures = StopRequest(), Cost(), list[str]()
        self.baseline = ValidationBaseline(self.task, self.data.statistics.get("valid", {}))
        minutes = plain["trainer"]["checkpoint_minutes"]
        self.checkpoints = RunCheckpoint(folder, f"valid/{self.task.monitor}", self.task.mode, self.stop, minutes)

    def _fitting(self) -> Threads:
        """Choose the threads by the work of a training step."""
        train = self.data.statistics["train"]
        steps = self.task.sequence_length or 1 if self.data.tokens else train["steps"] / train["examples"]
        rows = -(-min(self.plain["data"]["batch_size"], train["examples"]) // self.where.world)
        return default_threads(self.model, rows, steps, self.where, on_gpu=uses_gpu(self.plain["trainer"]))

    def record(self, trained_with: Record, earlier: ResumePoint | None, until: int | None) -> None:
        """Record what the run is trained with, after a look at whether its data may go on from the checkpoint.

        Args:
            trained_with: config and history so far; takes the fingerprint of the data.
            earlier: the checkpoint to go on from.
            until: the step of the optimiser after which to save and stop.

        Raises:
            UserError: the data are not those that the checkpoint was trained on.
        """
        self.trained_with = trained_with
        trained_with.data = fingerprint(self.data)
        if earlier is not None:
            trained_with.note_data(earlier.check_data(trained_with.data, self.plain))
            if not earlier.is_of(self.folder):
                self.checkpoints.start_with(earlier.weights)
        self.checkpoints.record, self.checkpoints.until = (RECORD, trained_with.state), until

    @property
    def is_trained(self) -> bool:
        """Whether there is anything to train; a model that only counts is ready."""
        return any(parameter.requires_grad for parameter in self.model.parameters())

    def do(self, logger: Any) -> None:
        """Train, take the weights of the best epoch, and score the test split with them.

        Raises:
            StoppedError: a signal asked for an end.
            UserError: the config asks for what cannot be had.
        """
        shown = progress_callbacks(self.plain["trainer"]["progress"], self.checkpoints.monitor)
        callbacks = [
            self.cost,
            self.baseline,
            self.checkpoints,
            OwnDraws(self.plain["seed"]),
            *_callbacks(self.plain, self.task),
        ]
        try:
            trainer = self._trainer(logger, [*callbacks, *shown] if self.where.rank == 0 else callbacks)
            if self.is_trained:
                self._fit(trainer)
                # Stopped between its last step and its validation, or the checkpoint was written before that ended.
                if self.checkpoints.validated != trainer.global_step or not self.baseline.values:
                    trainer.validate(self.module, datamodule=self.data, verbose=False)
                    self.checkpoints.keep(trainer, self.module)
                    trainer.strategy.barrier()
            else:  # counted, not trained
                trainer.validate(self.module, datamodule=self.data, verbose=False)
                self.checkpoints.keep(trainer, self.module)
                trainer.strategy.barrier()  # all read what rank 0 wrote
                self.cost.seconds += self._preparing
            self.model.load_state_dict(run_folder.read_weights(self.folder / run_folder.MODEL))
            trainer.test(self.module, datamodule=self.data, verbose=False)
            self.figures = [name for callback in callbacks for name in getattr(callback, "figures", ())]
        except MisconfigurationException as error:
            raise UserError(f"trainer: {one_line(error)}") from error
        finally:
            destroy_process_group()

    def _fit(self, trainer: pl.Trainer) -> None:
        """Train; what goes wrong before the first step of a run that goes on is the checkpoint's fault."""
        try:
            with self.stop.listening():
                trainer.fit(self.module, datamodule=self.data, ckpt_path=self.resume_from, weights_only=True)
        except (UserError, StoppedError, ReachedError):
            raise
        except Exception as error:
            if self.resume_from is None or self.checkpoints.began:
                raise
            where = formatting.relative_path(self.resume_from)
            said = f"{type(error).__name__}: {one_line(error)[:200]}"
            raise UserError(f"ckpt_path: {where} does not fit this run: {said}") from error

    def _trainer(self, logger: Any, callbacks: list[pl.Callback]) -> pl.Trainer:
        settings = {key: self.plain["trainer"][key] for key in _TRAINER_KEYS}
        together: dict[str, Any] = {"devices": self.where.devices}
        if self.where.world > 1:
            together["strategy"] = DDPStrategy(
                cluster_environment=environment(self.where),
                find_unused_parameters=any(getattr(part, "skips_parameters", False) for part in self.model.modules()),
                gradient_as_bucket_view=True,
            )
        try:
            trainer = pl.Trainer(
                **settings,
                **together,
                default_root_dir=self.folder,
                logger=logger or False,
                callbacks=callbacks,
                plugins=[AtomicCheckpointIO()],
                num_sanity_val_steps=0,
                log_every_n_steps=1,
                enable_model_summary=False,
                enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
                use_distributed_sampler=False,  # the loaders know their share
            )
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise UserError(f"trainer: {one_line(error)}") from error
        # With max_steps, Lightning would go on from the end of an epoch with an epoch of no batches.
        vars(trainer.fit_loop)["_iteration_based_training"] = lambda: False
        return trainer


def prepare_data(
    plain: Mapping[str, Any], start: PretrainedInit | None = None, shard: Shard | None = None
) -> tuple[Task, SequenceData]:
    """Read and encode the data of a config.

    Raises:
        UserError: the data cannot be had.
    """
    task = build_task(plain["task"])
    preprocessor = build_preprocessor(plain["preprocessing"]) if start is None else start.trained.preprocessor
    data_settings = {key: value for key, value in plain["data"].items() if key != "allow_change"}
    settings = {**data_settings, "seed": plain["seed"], "overfit_batches": plain["trainer"]["overfit_batches"]}
    settings |= {"pipeline": plain["preprocessing"], "fitted": start is not None, "shard": shard}
    data = SequenceData(task, preprocessor, **settings)
    try:
        data.prepare()
        check_names(task.label_names() or (), "labels")
    except (ValueError, OSError) as error:
        message = one_line(error)
        if not message.startswith("task."):
            message = f"task={plain['task']['name']}: {message}"
        raise UserError(message) from error
    return task, data


def _callbacks(plain: Mapping[str, Any], task: Task) -> list[pl.Callback]:
    monitor = f"valid/{task.monitor}"
    callbacks: list[pl.Callback] = []
    if (patience := plain["trainer"]["early_stopping"]) is not None:
        callbacks.append(EarlyStopping(monitor, mode=task.mode, patience=patience))
    if epochs := plain["trainer"].get("stop_when_solved", 0):
        callbacks.append(StopWhenSolved(task, epochs))
    if (averaging := plain["optimizer"].get("averaging")) is not None:
        callbacks.append(NonMonotonicAveraging(monitor, task.mode, averaging))
    for node in (plain.get("callbacks") or {}).values():
        callbacks.append(build("callback", node))
    return callbacks


def silence_lightning() -> None:
    """Keep Lightning's advertisements out of the way of what a user wants to read; warnings stay."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*`training_step` returned `None`.*")  # the step is left out, which was told
    warnings.filterwarnings("ignore", r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*")
    warnings.filterwarnings("ignore", ".*`srun` command is available.*")
    warnings.filterwarnings(
        "ignore", ".*callbacks used to create the checkpoint need to be provided.*"
    )  # another config
    warnings.filterwarnings("ignore", ".*It is recommended to use `self.log.*sync_dist=True.*")  # they are of all ranks
