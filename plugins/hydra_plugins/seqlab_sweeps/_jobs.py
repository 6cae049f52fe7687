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
from seqlab.plugins.hydra_source import register as register_plugins
from seqlab.sweeps.direction import no_value
from seqlab.sweeps.ledger import entry_of, read_plan
from seqlab.sweeps.plan import register as register_names
from seqlab.sweeps.resources import use_gpus

_COMPOSERS: dict[tuple[str, ...], Composer] = {}
"""Composers of this process, by what all runs of a sweep have in common: every run brings a new loader."""


@final
class CachingLoader:
    """Config loader that composes each choice of groups once per process, which takes longer than setting values.

    Args:
        loader: Hydra's own.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """Return the config of a run, equal to that of Hydra's loader.

        Args:
            master_config: of the sweep.
            sweep_overrides: of the run.

        Raises:
            hydra.errors.HydraException: it cannot be composed.
        """
        loader, common = self._loader, tuple(map(str, master_config.hydra.overrides.hydra))
        key = (str(master_config.hydra.job.config_name), *common)
        if key not in _COMPOSERS:
            _COMPOSERS[key] = Composer(
                lambda chosen: loader.load_sweep_config(master_config, list(chosen)), lambda: loader.list_groups("")
            )
        composer = _COMPOSERS[key]
        (config,) = composer.all([sweep_overrides])
        own = [each for each in map(composer.parse, sweep_overrides) if not each.is_hydra_override()]
        config.hydra.overrides.task = [each.input_line for each in own]
        set_override_dirname(config, own)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config


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
    """

    def __init__(self, function: Callable[[DictConfig], Any], gpus: Sequence[str], many: bool = False) -> None:
        self.function, self.gpus, self.many = function, gpus, many

    def __reduce__(self) -> Any:
        return _unpickle, (self.function, self.gpus, self.many)

    def __call__(self, config: DictConfig) -> Any:
        """Train a run."""
        use_gpus(self.gpus, config.trainer.devices)
        return _STOP.guard(self.function, config) if self.many else self.function(config)


def _unpickle(function: Callable[[DictConfig], Any], gpus: Sequence[str], many: bool) -> Job:
    register_plugins()
    register_names()
    logging.raiseExceptions = False  # as on the command line
    if many:
        _STOP.listen()
    return Job(function, gpus, many)


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


def run_folders(context: HydraContext | None, config: DictConfig | None, runs: Sequence[Sequence[str]]) -> list[Path]:
    """Return the folder of each run, read from the sweep's plan; a run that is not in it is composed, which is slow."""
    assert context is not None
    assert config is not None
    sweep, names = Path(config.hydra.sweep.dir), dict[tuple[str, ...], str]()
    if OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"] == "${run_name:}":  # type: ignore[index, call-overload]  # a container here is a dict
        for run in read_plan(sweep)["runs"]:
            names[tuple(word for word in run["words"] if not word.lstrip("+~").startswith("hydra"))] = run["name"]
    return [sweep / (names.get(tuple(overrides)) or _subdir(context, config, overrides)) for overrides in runs]


def _subdir(context: HydraContext, config: DictConfig, overrides: Sequence[str]) -> str:
    return str(context.config_loader.load_sweep_config(config, list(overrides)).hydra.sweep.subdir)


def job_return(overrides: Sequence[str], folder: Path, config: DictConfig | None) -> JobReturn:
    """Return the objective of a run to the sweeper; NaN, or an error for a sweeper that optimises, where there is none.

    Args:
        overrides: of the run.
        folder: of the run.
        config: of the sweep.
    """
    assert config is not None
    objective = entry_of(folder).objective
    found = JobReturn(overrides=list(overrides), cfg=OmegaConf.create(), status=JobStatus.COMPLETED)
    found.return_value = math.nan if objective is None else objective
    if objective is None and (reason := no_value(folder, config.hydra.sweeper)) is not None:
        found.status, found.return_value = JobStatus.FAILED, UserError(reason)
    return found
