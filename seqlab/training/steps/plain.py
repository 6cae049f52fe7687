"""Which trainers and callbacks the short loops of this package serve."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loops.fetchers import _PrefetchDataFetcher
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy

from seqlab.training.module import SequenceModule


def is_plain(trainer: Any, data_fetcher: Any) -> bool:
    """Return whether a trainer runs our module on one CPU, in full precision and without a profiler."""
    return (
        type(trainer.lightning_module) is SequenceModule
        and type(trainer.strategy) is SingleDeviceStrategy
        and trainer.strategy.root_device.type == "cpu"
        and type(trainer.precision_plugin) is Precision
        and type(trainer.profiler) is PassThroughProfiler
        and type(data_fetcher) is _PrefetchDataFetcher
    )


def overrides(callback: pl.Callback, hook: str) -> bool:
    """Return whether a callback has a hook of its own."""
    return getattr(type(callback), hook) is not getattr(pl.Callback, hook)
