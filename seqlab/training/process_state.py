"""Global state of the process: random generators, threads, default dtype, Lightning's messages."""

import logging
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import torch
from lightning_fabric.utilities import registry

_SEEDS = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
"""Environment variables that Lightning's ``seed_everything`` sets."""
_IGNORED_WARNINGS = (
    ".*does not have many workers.*",
    ".*`training_step` returned `None`.*",  # a skipped step, which is logged
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    ".*`srun` command is available.*",
    ".*callbacks used to create the checkpoint need to be provided.*",  # a run may resume with another config
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # the values are those of all ranks
)


@contextmanager
def restored_process_state() -> Iterator[None]:
    """Restore the number of threads, the default dtype and the random generators of Python, NumPy and torch."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    python, numpy = random.getstate(), np.random.get_state()
    environment = {name: os.environ.get(name) for name in _SEEDS}
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        random.setstate(python)
        np.random.set_state(numpy)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def rng_state() -> dict[str, Any]:
    """Return the states of the random generators as tensors and plain values."""
    version, internal, gauss = random.getstate()
    python = [version, torch.tensor(internal), gauss]  # of 625 numbers, which take long to pickle one by one
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": python}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Set the random generators to what :func:`rng_state` returned."""
    torch.set_rng_state(state["torch"])
    version, internal, gauss = state["python"]  # earlier releases saved a list of the numbers
    random.setstate((version, tuple(torch.as_tensor(internal).tolist()), gauss))
    for device, generator in zip(range(torch.cuda.device_count()), state.get("cuda", ()), strict=False):
        torch.cuda.set_rng_state(generator, device)  # the number of devices may differ from that of the checkpoint


@cache
def _entry_points(**group: str) -> Any:
    """Look up entry points once: Lightning reads the metadata of every installed package for each trainer, 10 ms."""
    return entry_points(**group)


vars(registry)["entry_points"] = _entry_points


def silence_lightning() -> None:
    """Hide Lightning's advertisements and the warnings that do not apply here."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)
