"""Runs of a sweep in other processes: configs, set-up of the process, signals, and return values."""

import logging
import math
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, final

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from seqlab.config.compose import Composer
from seqlab.distributed.signals import SIGNALS
from seqlab.errors import UserError
from seqlab.plugins.hydra_internals import set_override_dirname
from seqlab.plugins.hydra_source import register
from seqlab.sweeps.direction import missing_value_cause
from seqlab.sweeps.launchers import use_gpus
from seqlab.sweeps.ledger import read_entry, read_plan
from seqlab.sweeps.plan import register_run_name

_Composers = dict[tuple[str, ...], Composer]
_COMPOSERS: _Composers = {}
"""Composers of a process of joblib, by the overrides that all runs of a sweep share: every run brings a new loader."""


@final
class CachingLoader:
    """Config loader that composes each choice of groups once, which takes longer than setting values.

    In the process of the launcher once for each loader, that is for each sweep; in other processes once.
    """

    def __init__(self, loader: ConfigLoader, composers: _Composers | None = None) -> None:
        self._loader, self._composers = loader, {} if composers is None else composers

    def __reduce__(self) -> Any:
        return _unpickle_loader, (self._loader,)

    def __getattr__(self, name: str) -> Any:
        """Return what other launchers use of the loader."""
        return getattr(self._loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """Return the config of a run, equal to that of Hydra's loader.

        Raises:
            hydra.errors.HydraException: it cannot be composed.
        """
        loader, common = self._loader, tuple(map(str, master_config.hydra.overrides.hydra))
        key = (str(master_config.hydra.job.config_name), *common)
        if key not in self._composers:
            self._composers[key] = Composer(
                lambda chosen: loader.load_sweep_config(master_config, list(chosen)), lambda: loader.list_groups("")
            )
        composer = self._composers[key]
        (config,) = composer.all([sweep_overrides])
        own = [each for each in map(composer.parse, sweep_overrides) if not each.is_hydra_override()]
        config.hydra.overrides.task = [each.input_line for each in own]
        set_override_dirname(config, own)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config


def _unpickle_loader(loader: ConfigLoader) -> CachingLoader:
    return CachingLoader(loader, _COMPOSERS)


def with_cache(context: HydraContext) -> HydraContext:
    """Return a context whose config loader is a :class:`CachingLoader`."""
    if isinstance(context.config_loader, CachingLoader):
        return context
    return HydraContext(config_loader=CachingLoader(context.config_loader), callbacks=context.callbacks)  # type: ignore[arg-type]  # a run calls load_sweep_config only


@final
class Job:
    """Task function of a sweep for another process; unpickling it registers resolvers and plugins there.

    Args:
        function: trains one run.
        gpus: of the machine; the process takes one.
        many: whether the process trains many runs. A signal then stops the current run, and no other starts.
        folder: working folder of the process; ``None`` for that in which it starts.
    """

    def __init__(
        self,
        function: Callable[[DictConfig], Any],
        gpus: Sequence[str],
        many: bool = False,
        folder: str | None = None,
    ) -> None:
        self.function, self.gpus, self.many, self.folder = function, gpus, many, folder

    def __reduce__(self) -> Any:
        return _unpickle, (self.function, self.gpus, self.many, self.folder)

    def __call__(self, config: DictConfig) -> Any:
        """Train a run."""
        use_gpus(self.gpus, config.trainer.devices)
        return _STOP.guard(self.function, config) if self.many else self.function(config)


def _unpickle(function: Callable[[DictConfig], Any], gpus: Sequence[str], many: bool, folder: str | None) -> Job:
    if folder is not None:
        os.chdir(folder)
    register()
    register_run_name()
    logging.raiseExceptions = False  # as on the command line
    if many:
        _STOP.listen()
    return Job(function, gpus, many, folder)


@final
class _StopRequest:
    """Whether this process was told to stop, and whether a run is in progress."""

    def __init__(self) -> None:
        self.requested = self.busy = self.listens = False

    def listen(self) -> None:
        """Handle signals, in a process group of its own: Ctrl-C arrives through the parent only."""
        if not self.listens:
            os.setpgid(0, 0)
            for number in SIGNALS:
                signal.signal(number, self._handle)
            self.listens = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if self.busy:  # training has not begun; it handles signals itself, and stops more gently
            raise KeyboardInterrupt

    def guard(self, function: Callable[[DictConfig], Any], config: DictConfig) -> Any:
        """Train a run unless told to stop; return NaN for a run that was interrupted or not started."""
        if self.requested:
            return math.nan
        self.busy = True
        try:
            return function(config)
        except (KeyboardInterrupt, SystemExit):
            self.requested = True
            return math.nan
        finally:
            self.busy = False


_STOP = _StopRequest()


def run_folders(context: HydraContext, config: DictConfig, runs: Sequence[Sequence[str]]) -> list[Path]:
    """Return the folder of each run, from the sweep's plan; a run that is not in it is composed, which is slow."""
    sweep, names = Path(config.hydra.sweep.dir), dict[tuple[str, ...], str]()
    if OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"] == "${run_name:}":  # type: ignore[index, call-overload]  # a container here is a dict
        for run in read_plan(sweep)["runs"]:
            names[tuple(each for each in run["words"] if not each.lstrip("+~").startswith("hydra"))] = run["name"]

    def name(overrides: Sequence[str]) -> str:
        return names.get(tuple(overrides)) or str(
            context.config_loader.load_sweep_config(config, list(overrides)).hydra.sweep.subdir
        )

    return [sweep / name(overrides) for overrides in runs]


def job_returns(runs: Sequence[Sequence[str]], folders: Sequence[Path], config: DictConfig) -> list[JobReturn]:
    """Return the objective of each run to the sweeper: NaN without one, or an error if the sweeper optimises."""
    found = []
    for overrides, folder in zip(runs, folders, strict=True):
        objective = read_entry(folder).objective
        job = JobReturn(overrides=list(overrides), cfg=OmegaConf.create(), status=JobStatus.COMPLETED)
        job.return_value = math.nan if objective is None else objective
        if objective is None and (cause := missing_value_cause(folder, config.hydra.sweeper)) is not None:
            job.status, job.return_value = JobStatus.FAILED, UserError(cause)
        found.append(job)
    return found
