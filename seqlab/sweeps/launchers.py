"""Types and ranges of the keys of launchers, and the keys that a launcher or a sweeper of Hydra takes."""

import dataclasses
import inspect
import shutil
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Annotated, Any, Literal

from seqlab.errors import UserError
from seqlab.plugins.diagnostics import unknown_key
from seqlab.plugins.hydra_internals import CORE_PLUGINS
from seqlab.plugins.signature import Ge, Le, Meaning, NotEmpty, check_value

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
    "gpus_per_node": Annotated[int, Ge(0)] | None,
    "mem_gb": Annotated[float, Ge(0)] | None,
}
_TYPES: dict[str, dict[str, Any]] = {
    "joblib": {
        "n_jobs": _Processes | Annotated[int, Le(-1), Meaning("-1 is one for each CPU")],
        "batch_size": _Count | Literal["auto"],
        "pre_dispatch": _Text | _Count,
        "verbose": Annotated[int, Ge(0)],
    },
    "submitit_local": {**_SUBMITIT, "parallel": _Processes},
    "slurm": {
        **_SUBMITIT,
        "array_parallelism": _Count | None,
        "array_size": _Count,
        "signal_delay_s": Annotated[int, Ge(0)] | None,
        "setup": list[str] | None,
        "srun_args": list[str] | None,
        "additional_parameters": dict[str, Any] | None,
    },
}
"""Further keys are options of sbatch or of joblib, which check them."""


def check_launcher(name: str, node: Mapping[str, Any]) -> None:
    """Check the keys of ``hydra.launcher``.

    Args:
        name: of the launcher.
        node: as plain values.

    Raises:
        UserError: a value is of the wrong type or out of its range, or there is no Slurm.
    """
    if name in _SLURM and shutil.which("srun") is None:
        raise UserError(
            f"hydra/launcher={name}: there is no srun on the PATH; run this on a node of a Slurm cluster, or with "
            "hydra/launcher=submitit_local"
        )
    for key, annotation in _TYPES.get(name, {}).items():
        if key in node:
            check_value(f"hydra.launcher.{key}", annotation, node[key])


_SLURM = ("slurm", "submitit_slurm")
_COUNTS = ("n_trials", "n_jobs", "max_batch_size")
"""Keys of sweepers that count something, by whatever name they are chosen."""


def check_plugin(place: str, node: Mapping[str, Any]) -> None:
    """Check that the class of a launcher or of a sweeper takes the keys that it is given.

    Args:
        place: ``hydra.launcher`` or ``hydra.sweeper``.
        node: as plain values.

    Raises:
        UserError: it is no plugin of Hydra, or has no such key; or a sweeper is to do no run.
    """
    module, _, name = str(node.get("_target_", "")).rpartition(".")
    if not module.startswith(("hydra_plugins.", CORE_PLUGINS)):
        raise UserError(f"{place}._target_ must name a plugin of Hydra, got {node.get('_target_')}")
    try:
        target = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return  # which Hydra says
    taken = _taken(target, module)
    for key, value in node.items():
        if taken is not None and key not in taken and not key.startswith("_"):
            raise UserError(unknown_key(f"{place}.{key}", [f"{place}.{each}" for each in taken]))
        if place == "hydra.sweeper" and key in _COUNTS and value is not None:
            check_value(f"{place}.{key}", _Count, value)


def _taken(target: type, module: str) -> list[str] | None:
    """List the keys that a class takes; ``None`` where nobody knows."""
    parameters = inspect.signature(target).parameters.values()
    named = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
    if len(named) == len(parameters):
        return named
    if "joblib" in module:
        return [*named, *inspect.signature(import_module("joblib").Parallel).parameters]
    if "submitit" in module:
        queues = import_module("hydra_plugins.hydra_submitit_launcher.config")
        queue = queues.LocalQueueConf if "Local" in target.__name__ else queues.SlurmQueueConf
        return [*named, *_fields(queue), *_OF_SEQLAB, *_TYPES["slurm"], *_OF_SBATCH]
    return None


def _fields(schema: type) -> Iterable[str]:
    return (each.name for each in dataclasses.fields(schema))


_OF_SEQLAB = ("parallel", "array_size")
"""Keys by which seqlab's launchers exceed those of the package."""
_OF_SBATCH = (
    "account", "dependency", "exclude", "exclusive", "gpus_per_task", "gres", "mail_type", "mail_user",
    "mem", "mem_per_cpu", "mem_per_gpu", "nodelist", "ntasks_per_node", "num_gpus", "teardown", "time",
    "use_srun", "wckey",
)  # fmt: skip
"""Further options that submitit hands to sbatch."""
