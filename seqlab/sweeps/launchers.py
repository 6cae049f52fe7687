"""Launchers of sweeps: their keys, one GPU per process, and SLURM jobs."""

import dataclasses
import getpass
import inspect
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

from filelock import FileLock, Timeout

from hydra_ledger.slurm import active_jobs, requeue
from seqlab.errors import UserError
from seqlab.plugins.diagnostics import unknown_key
from seqlab.plugins.hydra_internals import CORE_PLUGINS
from seqlab.plugins.signature import Ge, Le, Meaning, NotEmpty, check_value

__all__ = [
    "VARIABLE", "active_jobs", "check_launcher", "check_plugin", "requeue", "take_gpu", "use_gpus", "visible_gpus",
]  # fmt: skip

VARIABLE = "CUDA_VISIBLE_DEVICES"
_LOCKS: list[FileLock] = []
"""Locks of this process, which the system releases when it ends."""


def visible_gpus() -> list[str]:
    """List the GPUs that this process may use, by the names that ``CUDA_VISIBLE_DEVICES`` takes."""
    given = os.environ.get(VARIABLE)
    if given is None:
        import torch

        return [str(index) for index in range(torch.cuda.device_count())]
    names = [name.strip() for name in given.split(",")]
    return [] if names[0] in ("", "-1") else names


def take_gpu(gpus: Sequence[str], folder: Path | None = None) -> str:
    """Choose the GPU that the fewest processes of this user use, and reserve it until this process ends."""
    folder = folder or Path(tempfile.gettempdir()) / f"seqlab-gpus-{getpass.getuser()}"
    folder.mkdir(parents=True, exist_ok=True)
    for others in count():
        for gpu in gpus:
            lock = FileLock(folder / f"{re.sub('[^A-Za-z0-9-]', '_', gpu)}.{others}.lock", timeout=0)
            try:
                lock.acquire()
            except Timeout:
                continue
            _LOCKS.append(lock)
            return gpu
    raise AssertionError


def use_gpus(gpus: Sequence[str], devices: object) -> None:
    """Make one GPU visible to this process, or all if a run uses several devices; no GPUs change nothing.

    Call it before CUDA is used. A process that trains many runs keeps the GPU of its first.
    """
    if not gpus:
        return
    if devices not in (1, "1", "auto"):
        os.environ[VARIABLE] = ",".join(gpus)
    elif not _LOCKS:
        os.environ[VARIABLE] = take_gpu(gpus)


_Natural = Annotated[int, Ge(0)]
_Count = Annotated[int, Ge(1)]
_Processes = Annotated[int, Ge(1), Le(1024)]
_Text = Annotated[str, NotEmpty()]
_SUBMITIT: dict[str, Any] = {
    "submitit_folder": _Text,
    "name": _Text,
    "timeout_min": _Count | None,
    "nodes": _Count | None,
    "tasks_per_node": _Count | None,
    "cpus_per_task": _Count | None,
    "gpus_per_node": _Natural | None,
    "mem_gb": Annotated[float, Ge(0)] | None,
}
_TYPES: dict[str, dict[str, Any]] = {
    "joblib": {
        "n_jobs": _Processes | Annotated[int, Le(-1), Meaning("-1 is one for each CPU")],
        "batch_size": _Count | Literal["auto"],
        "pre_dispatch": _Text | _Count,
        "verbose": _Natural,
    },
    "submitit_local": {**_SUBMITIT, "parallel": _Processes},
    "slurm": {
        **_SUBMITIT,
        "array_parallelism": _Count | None,
        "array_size": _Count,
        "signal_delay_s": _Natural | None,
        "setup": list[str] | None,
        "srun_args": list[str] | None,
        "additional_parameters": dict[str, Any] | None,
    },
}
"""Types of launcher keys; joblib and sbatch check their other options."""
_SBATCH_KEYS = (
    "account", "dependency", "exclude", "exclusive", "gpus_per_task", "gres", "mail_type", "mail_user",
    "mem", "mem_per_cpu", "mem_per_gpu", "nodelist", "ntasks_per_node", "num_gpus", "teardown", "time",
    "use_srun", "wckey",
)  # fmt: skip
"""Further options that submitit passes to sbatch."""
_COUNT_KEYS = ("n_trials", "n_jobs", "max_batch_size")
"""Keys of sweepers that must be at least 1."""


def check_launcher(name: str, node: Mapping[str, Any]) -> None:
    """Check the values of ``hydra.launcher``."""
    if name in ("slurm", "submitit_slurm") and shutil.which("srun") is None:
        raise UserError(
            f"hydra/launcher={name}: there is no srun on the PATH; run this on a node of a SLURM cluster, or with "
            "hydra/launcher=submitit_local"
        )
    for key, annotation in _TYPES.get(name, {}).items():
        if key in node:
            check_value(f"hydra.launcher.{key}", annotation, node[key])


def check_plugin(place: str, node: Mapping[str, Any]) -> None:
    """Check that the class of ``hydra.launcher`` or ``hydra.sweeper`` has the keys of its config."""
    module, _, name = str(node.get("_target_", "")).rpartition(".")
    if not module.startswith(("hydra_plugins.", CORE_PLUGINS)):
        raise UserError(f"{place}._target_ must name a plugin of Hydra, got {node.get('_target_')}")
    try:
        target = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return  # Hydra reports it
    known = _keys(target, module)
    for key, value in node.items():
        if known is not None and key not in known and not key.startswith("_"):
            raise UserError(unknown_key(f"{place}.{key}", [f"{place}.{each}" for each in known]))
        if place == "hydra.sweeper" and key in _COUNT_KEYS and value is not None:
            check_value(f"{place}.{key}", _Count, value)


def _keys(target: type, module: str) -> list[str] | None:
    """List the keys of a class; ``None`` if they are unknown."""
    parameters = inspect.signature(target).parameters.values()
    named = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
    if len(named) == len(parameters):
        return named
    if "joblib" in module:
        return [*named, *inspect.signature(import_module("joblib").Parallel).parameters]
    if "submitit" in module:
        queues = import_module("hydra_plugins.hydra_submitit_launcher.config")
        queue = queues.LocalQueueConf if "Local" in target.__name__ else queues.SlurmQueueConf
        fields = (each.name for each in dataclasses.fields(queue))
        return [*named, *fields, "parallel", "array_size", *_TYPES["slurm"], *_SBATCH_KEYS]
    return None
