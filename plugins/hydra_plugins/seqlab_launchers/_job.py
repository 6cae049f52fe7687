"""A run of a sweep in a process of its own: what the process must know first, and what a signal does to it."""

import logging
import math
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, final

from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from seqlab.distributed.signals import SIGNALS
from seqlab.errors import UserError
from seqlab.plugins.hydra_source import register as register_plugins
from seqlab.sweeps.direction import no_value
from seqlab.sweeps.ledger import entry_of, read_plan
from seqlab.sweeps.plan import register as register_names
from seqlab.sweeps.resources import use_gpus


@final
class Job:
    """A sweep's task function for another process, which learns of resolvers and plugins when it unpickles it.

    Args:
        function: does a run.
        gpus: of the machine, of which the process takes one.
        many: whether the process does many runs. A signal then ends the run at hand and no other is begun.
    """

    def __init__(self, function: Callable[[DictConfig], Any], gpus: Sequence[str], many: bool = False) -> None:
        self.function, self.gpus, self.many = function, gpus, many

    def __reduce__(self) -> Any:
        return _arrive, (self.function, self.gpus, self.many)

    def __call__(self, config: DictConfig) -> Any:
        """Do a run."""
        use_gpus(self.gpus, config.trainer.devices)
        return _STOP.guard(self.function, config) if self.many else self.function(config)


def _arrive(function: Callable[[DictConfig], Any], gpus: Sequence[str], many: bool) -> Job:
    register_plugins()
    register_names()
    logging.raiseExceptions = False  # as on the command line
    if many:
        _STOP.listen()
    return Job(function, gpus, many)


@final
class _Stop:
    """Whether this process was told to stop, and whether a run is at hand that must hear of it."""

    def __init__(self) -> None:
        self.asked = self.busy = self.listens = False

    def listen(self) -> None:
        """Take the signals, of which Ctrl-C comes by the parent only: the process leaves its group."""
        if not self.listens:
            os.setpgid(0, 0)
            for number in SIGNALS:
                signal.signal(number, self._take)
            self.listens = True

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self.busy:  # and training, which stops more gently, has not begun
            raise KeyboardInterrupt

    def guard(self, function: Callable[[DictConfig], Any], config: DictConfig) -> Any:
        """Do a run unless told to stop; its page says what became of it."""
        if self.asked:
            return math.nan
        self.busy = True
        try:
            return function(config)
        except (KeyboardInterrupt, SystemExit):
            self.asked = True
            return math.nan
        finally:
            self.busy = False


_STOP = _Stop()


def folders_of(context: HydraContext | None, config: DictConfig | None, runs: Sequence[Sequence[str]]) -> list[Path]:
    """Say where the files of runs go, by the sweep's plan; what is not in it is composed, which takes longer."""
    assert context is not None
    assert config is not None
    sweep, names = Path(config.hydra.sweep.dir), dict[tuple[str, ...], str]()
    if OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"] == "${run_name:}":  # type: ignore[index, call-overload]  # a container here is a dict
        for run in read_plan(sweep)["runs"]:
            names[tuple(word for word in run["words"] if not word.lstrip("+~").startswith("hydra"))] = run["name"]
    return [sweep / (names.get(tuple(words)) or _subdir(context, config, words)) for words in runs]


def _subdir(context: HydraContext, config: DictConfig, words: Sequence[str]) -> str:
    return str(context.config_loader.load_sweep_config(config, list(words)).hydra.sweep.subdir)


def told(words: Sequence[str], folder: Path, config: DictConfig | None) -> JobReturn:
    """Tell a sweeper what became of a run: its objective, NaN, or to one that optimises why there is none.

    Args:
        words: of the run.
        folder: of the run.
        config: of the sweep.
    """
    assert config is not None
    objective = entry_of(folder).objective
    found = JobReturn(overrides=list(words), cfg=OmegaConf.create(), status=JobStatus.COMPLETED)
    found.return_value = math.nan if objective is None else objective
    if objective is None and (reason := no_value(folder, config.hydra.sweeper)) is not None:
        found.status, found.return_value = JobStatus.FAILED, UserError(reason)
    return found
