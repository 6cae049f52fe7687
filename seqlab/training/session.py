"""Session of one rank of a run: read the data, build the model, train it, score the test split."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.strategies import DDPStrategy

from seqlab.config.build import build_model, build_preprocessor, build_task
from seqlab.contracts import Model, Task, UserError
from seqlab.contracts.task import label_names
from seqlab.data.datamodule import SequenceData, check_batches
from seqlab.data.fingerprint import fingerprint
from seqlab.data.loaders import Shard
from seqlab.data.updates import AUTO, choose_updates, few_updates
from seqlab.distributed.collectives import destroy_process_group
from seqlab.distributed.devices import (
    RankInfo,
    SeedPerRank,
    Threads,
    cluster_environment,
    configured_threads,
    default_threads,
    uses_gpu,
)
from seqlab.distributed.signals import StoppedError, StopRequest
from seqlab.errors import one_line
from seqlab.io import formatting
from seqlab.io.safe_io import check_names
from seqlab.plugins.config import build
from seqlab.runs import run_folder
from seqlab.training.callbacks import (
    Cost,
    EarlyStopping,
    StopWhenSolved,
    TimeBudget,
    ValidationBaseline,
    progress_callbacks,
)
from seqlab.training.checkpoint import AtomicCheckpointIO, RunCheckpoint, StepReachedError
from seqlab.training.curriculum import LengthTracker, check_comparisons, test_length
from seqlab.training.examples import has_examples
from seqlab.training.finetune import PretrainedInit, freeze, load_init
from seqlab.training.module import SequenceModule
from seqlab.training.nonfinite import NonFiniteGuard
from seqlab.training.optimizers import NonMonotonicAveraging
from seqlab.training.process_state import silence_lightning
from seqlab.training.replicas.turns import on_trainer
from seqlab.training.resume import RECORD, ResumePoint, TrainingRecord
from seqlab.training.steps.epoch import use_epoch_loop
from seqlab.training.steps.threads import AUTO as AUTO_THREADS
from seqlab.training.steps.threads import MeasuredThreads

_TRAINER_KEYS = (
    "max_epochs", "max_steps", "accelerator", "num_nodes", "precision", "gradient_clip_val", "limit_train_batches",
    "limit_val_batches", "limit_test_batches", "profiler", "accumulate_grad_batches",
)  # fmt: skip


@final
class TrainingSession:
    """Data, model and callbacks of one rank; the constructor prepares them, :meth:`train_and_test` runs them.

    Attributes:
        config: of the run; ``preprocessing`` is that of the run that ``init_from`` names.
        task, data: read and encoded.
        model, module: with initial weights.
        init_record: which weights came from ``init_from``; ``None`` without it.
        baseline: scores the input-independent baseline on the validation split.
        checkpoints: writes the checkpoints, on rank 0.
        record: what the run is trained with, on rank 0.
        cost: of training.
        budget: wall-clock time of training.
        figures: file names of the figures that callbacks drew into the run folder: those in their ``figures``.

    Args:
        config: of the run, as plain values; it is not changed.
        folder: the run folder.
        resume_from: the checkpoint to resume from.
        info: this process's rank.

    Raises:
        UserError: the config cannot be satisfied.
    """

    record: TrainingRecord

    def __init__(self, config: Mapping[str, Any], folder: Path, resume_from: Path | None, info: RankInfo) -> None:
        silence_lightning()
        self.folder, self.resume_from, self.info = folder, resume_from, info
        configured, available = configured_threads(config["trainer"], info), torch.get_num_threads()
        torch.set_num_threads(configured.number if configured else 1)
        self._prepare_data(config)
        self._build_model()
        torch.set_num_threads(available)
        self._threads = configured or self._default_threads()
        self._available_threads = available
        torch.set_num_threads(self._threads.number)
        self._initialise_model()
        self._build_callbacks()

    def _prepare_data(self, config: Mapping[str, Any]) -> None:
        pl.seed_everything(config["seed"], verbose=False)
        self._pretrained = load_init(config, self.folder, self.resume_from)
        self.config = dict(config)
        if self._pretrained is not None:
            self.config["preprocessing"] = self._pretrained.preprocessing
        shard = Shard(self.info.rank, self.info.world_size)
        self.task, self.data = prepare_data(self.config, self._pretrained, shard)
        self.config = choose_updates(self.config, self.task, self.data)
        check_batches(self.config["trainer"], self.data)

    def _build_model(self) -> None:
        pl.seed_everything(self.config["seed"], verbose=False)  # reading the data may have drawn any number
        self.model = build_model(self.config, self.task, self.data.inputs)
        self.data.narrow_tokens = self.model.narrow_tokens

    def _default_threads(self) -> Threads:
        """Choose the number of threads by the work of a training step."""
        train = self.data.statistics["train"]
        steps = self.task.sequence_length or 1 if self.data.tokens else train["steps"] / train["examples"]
        rows = -(-min(self.config["data"]["batch_size"], train["examples"]) // self.info.world_size)
        return default_threads(self.model, rows, steps, self.info, on_gpu=uses_gpu(self.config["trainer"]))

    def _initialise_model(self) -> None:
        began = time.perf_counter()
        try:
            self.model.prepare(self.data.training_inputs)
            if not self.data.tokens and type(self.model).fit is not Model.fit:
                self.model.fit(self.data.examples("train"), self.data.examples("valid"), self.data.fit_weights())
        except ValueError as error:
            raise UserError(f"model={self.config['model']['name']}: {one_line(error)}") from error
        self._prepare_seconds = time.perf_counter() - began
        init, parameters = self._pretrained, list(self.model.parameters())
        if any(each.requires_grad for each in parameters):
            note = few_updates(self.config, self.task, self.data)
            self.data.notes += [] if note is None else [note]
        elif init is not None and parameters:
            name = self.config["model"]["name"]
            raise UserError(f"init_from={init.run}: model={name} fits its weights itself; remove init_from")
        self.init_record = None if init is None else init.load_into(self.model, self.task, self.config)
        freeze(self.model, self.config.get("freeze"))
        skip = self.config["trainer"].get("skip_nonfinite", 0)
        self.module = SequenceModule(
            self.model,
            self.task,
            self.config["optimizer"],
            self.data.statistics,
            self.data.extra_splits,
            NonFiniteGuard(self.folder, skip, saves=self.info.rank == 0),
        )

    def _build_callbacks(self) -> None:
        trainer, monitor = self.config["trainer"], f"valid/{self.task.monitor}"
        self.stop, self.cost, self.figures = StopRequest(), Cost(), list[str]()
        schedule = self.data.schedule
        self.baseline = ValidationBaseline(self.task, self.data.statistics.get("valid", {}), schedule)
        minutes, self.budget = trainer["checkpoint_minutes"], TimeBudget(trainer.get("max_minutes"))
        self.checkpoints = RunCheckpoint(self.folder, monitor, self.task.mode, self.stop, minutes, schedule=schedule)
        seeds = SeedPerRank(self.config["seed"])
        self._callbacks: list[pl.Callback] = [self.cost, self.budget, self.baseline, self.checkpoints, seeds]
        if schedule is not None:
            self._callbacks.append(LengthTracker(schedule, self.cost, self.folder))
        curriculum = schedule is not None and schedule.is_curriculum  # scores at other lengths are not comparable
        if curriculum:
            check_comparisons(self.config["optimizer"])
        if (patience := trainer["early_stopping"]) is not None and not curriculum:
            self._callbacks.append(EarlyStopping(monitor, mode=self.task.mode, patience=patience))
        if epochs := trainer.get("stop_when_solved", 0):
            self._callbacks.append(StopWhenSolved(self.task, epochs, schedule))
        if (averaging := self.config["optimizer"].get("averaging")) is not None:
            self._callbacks.append(NonMonotonicAveraging(monitor, self.task.mode, averaging))
        is_alone = self.info.world_size == 1 and on_trainer.get() is None
        is_measured = trainer.get("threads") == AUTO_THREADS and is_alone and not uses_gpu(trainer)
        self._measured = MeasuredThreads(self._available_threads if is_measured else 1, self._threads)
        self._callbacks.append(self._measured)
        self._callbacks += [build("callback", node) for node in (self.config.get("callbacks") or {}).values()]

    @property
    def threads(self) -> Threads:
        """Number of CPU threads, and the reason for it."""
        return self._measured.threads

    @property
    def thread_history(self) -> list[list[int]]:
        """Numbers of CPU threads, each with the optimiser step after which it was used."""
        return self._measured.history or [[0, self._threads.number]]  # a model without training has none

    def start_record(self, record: TrainingRecord, resume_point: ResumePoint | None, until: int | None) -> None:
        """Have the checkpoints record what the run is trained with, if the checkpoint admits the data.

        Args:
            record: config and history so far; the fingerprint of the data is added.
            resume_point: the checkpoint to resume from.
            until: the optimiser step after which to save and stop.

        Raises:
            UserError: the data are not those that the checkpoint was trained on.
        """
        self.record = record
        record.fill_auto(self.config)
        record.data = fingerprint(self.data)
        if resume_point is not None:
            record.add_data_changes(resume_point.check_data(record.data, self.config))
            if not resume_point.is_in(self.folder):
                self.checkpoints.adopt_best(resume_point.weights)
        self.checkpoints.record, self.checkpoints.until = (RECORD, record.state), until

    def train_and_test(self, logger: Any) -> None:
        """Train, load the best weights, and score the test split with them.

        Raises:
            StoppedError: a signal stopped the run.
            StepReachedError: the run stopped after ``until``.
            UserError: the config cannot be satisfied.
        """
        with _reported_errors():
            trainer = self._build_trainer(logger)
            self._train(trainer)
            trainer.strategy.barrier()  # all ranks read what rank 0 wrote
            self.model.load_state_dict(run_folder.read_weights(self.folder / run_folder.MODEL))
            if (schedule := self.data.schedule) is not None:
                self.data.choose_test_length(test_length(schedule, self.checkpoints.best_length))
                self.module.set_further(self.data.extra_splits)
            self._test_examples(trainer)
            trainer.test(self.module, datamodule=self.data, verbose=False)
            self.figures = [name for callback in self._callbacks for name in getattr(callback, "figures", ())]

    def train(self, logger: Any, callbacks: Sequence[pl.Callback] = ()) -> None:
        """Train as :meth:`train_and_test` does, without a score of the test split.

        Args:
            logger: of Lightning.
            callbacks: further ones.
        """
        self._callbacks += callbacks
        with _reported_errors():
            self._train(self._build_trainer(logger))

    def _train(self, trainer: pl.Trainer) -> None:
        """Train if there are parameters to train, and validate unless the last step was validated."""
        if any(parameter.requires_grad for parameter in self.model.parameters()):
            self._fit(trainer)
            if self.checkpoints.validated == trainer.global_step and self.baseline.values:
                return
            # The run stopped, or the checkpoint was written, between the last step and the end of its validation.
        else:
            self.cost.seconds += self._prepare_seconds
        trainer.validate(self.module, datamodule=self.data, verbose=False)
        self.checkpoints.update_best(trainer, self.module)

    def _test_examples(self, trainer: pl.Trainer) -> None:
        """Compute the outputs for each example of the validation split with the best weights."""
        if has_examples(self.task) and self.data.schedule is None and not self.data.tokens:
            limit, trainer.limit_test_batches = trainer.limit_test_batches, trainer.limit_val_batches
            if self.config["trainer"]["overfit_batches"]:  # then the limit was checked on training batches
                trainer.limit_test_batches = 1.0
            self.module.split = "valid"
            try:
                trainer.test(self.module, dataloaders=self.data.loader("valid"), verbose=False)
            finally:
                self.module.split, trainer.limit_test_batches = "test", limit

    def _fit(self, trainer: pl.Trainer) -> None:
        """Train; an error before the first step of a resumed run is reported as one of the checkpoint."""
        try:
            with self.stop.handling_signals():
                trainer.fit(self.module, datamodule=self.data, ckpt_path=self.resume_from, weights_only=True)
        except (UserError, StoppedError, StepReachedError):
            raise
        except Exception as error:
            if self.resume_from is None or self.checkpoints.has_started:
                raise
            where = formatting.relative_path(self.resume_from)
            cause = f"{type(error).__name__}: {one_line(error)[:200]}"
            raise UserError(f"ckpt_path: {where} does not fit this run: {cause}") from error

    @property
    def _progress(self) -> object:
        """``trainer.progress``; of a replica, whose lines would mix with those of others, none on the screen."""
        return self.config["trainer"]["progress"] if on_trainer.get() is None else False

    def _build_trainer(self, logger: Any) -> pl.Trainer:
        settings = {key: self.config["trainer"][key] for key in _TRAINER_KEYS}
        if settings["max_epochs"] is None and settings["max_steps"] == -1:
            settings["max_epochs"] = -1  # max_minutes ends the run
        callbacks = self._callbacks
        if self.info.rank == 0:
            callbacks = [
                *callbacks,
                *progress_callbacks(self._progress, self.checkpoints.monitor),
            ]
        if self.info.world_size > 1:
            settings["strategy"] = DDPStrategy(
                cluster_environment=cluster_environment(self.info),
                find_unused_parameters=any(getattr(part, "skips_parameters", False) for part in self.model.modules()),
                gradient_as_bucket_view=True,
            )
        try:
            trainer = pl.Trainer(
                **settings,
                devices=self.info.devices,
                default_root_dir=self.folder,
                logger=logger or False,
                callbacks=callbacks,
                plugins=[AtomicCheckpointIO()],
                num_sanity_val_steps=0,
                log_every_n_steps=1,
                enable_model_summary=False,
                enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
                use_distributed_sampler=False,  # the loaders know their shard
            )
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise UserError(f"trainer: {one_line(error)}") from error
        # With max_steps, Lightning would resume at the end of an epoch with an epoch of no batches.
        vars(trainer.fit_loop)["_iteration_based_training"] = lambda: False
        use_epoch_loop(trainer)
        if (attach := on_trainer.get()) is not None:
            attach(self, trainer)
        return trainer


@contextmanager
def _reported_errors() -> Iterator[None]:
    """Report settings that Lightning refuses as errors of the user, and end the process group."""
    try:
        yield
    except MisconfigurationException as error:
        raise UserError(f"trainer: {one_line(error)}") from error
    finally:
        destroy_process_group()


def prepare_data(
    config: Mapping[str, Any], pretrained: PretrainedInit | None = None, shard: Shard | None = None
) -> tuple[Task, SequenceData]:
    """Read and encode the data of a config.

    Args:
        config: of a run.
        pretrained: a run whose preprocessor is taken, fitted as it is.
        shard: rows of each batch that this process reads.

    Raises:
        UserError: the data cannot be read.
    """
    task = build_task(config["task"])
    if pretrained is None:
        pipeline = config["preprocessing"]
        preprocessor = build_preprocessor(pipeline)
    else:
        pipeline, preprocessor = pretrained.preprocessing, pretrained.trained.preprocessor
    settings = {key: value for key, value in config["data"].items() if key != "allow_change" and value != AUTO}
    data = SequenceData(
        task,
        preprocessor,
        **settings,
        seed=config["seed"],
        overfit_batches=config["trainer"]["overfit_batches"],
        pipeline=pipeline,
        fitted=pretrained is not None,
        shard=shard,
    )
    try:
        data.prepare()
        check_names(label_names(task) or (), "labels")
    except (ValueError, OSError) as error:
        raise UserError(f"task={config['task']['name']}: {one_line(error)}") from error
    if config["data"]["batch_size"] == AUTO:
        data.batch_size, schedule = choose_updates(config, task, data)["data"]["batch_size"], data.schedule
        if schedule is not None and not schedule.varies:  # data.tokens_per_batch bounds it
            data.batch_size = min(data.batch_size, schedule.batch_size)
    return task, data
