"""Types and ranges of the keys of seqlab's launchers."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from seqlab.discovery.values import Ge, Le, Meaning, NotEmpty, check_value

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
        UserError: a value is of the wrong type or out of its range.
    """
    for key, annotation in _TYPES.get(name, {}).items():
        if key in node:
            check_value(f"hydra.launcher.{key}", annotation, node[key])
