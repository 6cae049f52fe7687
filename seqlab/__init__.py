"""seqlab: a bench for sequence models. These are its public names."""

import sys
from typing import TYPE_CHECKING, Any

from seqlab._deprecated import MovedModules
from seqlab._torchmetrics import TorchmetricsFinder
from seqlab._version import __version__

if TYPE_CHECKING:
    from seqlab.config.compose import compose
    from seqlab.contracts import (
        PLUGIN_API,
        Batch,
        Cell,
        Choice,
        ClassificationTask,
        Corpus,
        Examples,
        Gate,
        GeneratedTask,
        InputSpec,
        Interval,
        Kernel,
        LanguageTask,
        Model,
        Preprocessor,
        Probe,
        Ragged,
        Remedy,
        Report,
        ReportingTask,
        SearchSpace,
        State,
        StatefulTask,
        Task,
        UserError,
    )
    from seqlab.inference import load
    from seqlab.io.cache import cache_folder
    from seqlab.plugins.exports import Routine, register_export
    from seqlab.plugins.torch_modules import TorchCell
    from seqlab.recurrence import Recurrent
    from seqlab.runs.results import Result
    from seqlab.training.run import run

# Names are looked up on first use, so that `python -m seqlab --help` does not pay for importing torch.
_HOMES = {
    **dict.fromkeys(
        [
            "PLUGIN_API", "Batch", "Cell", "Choice", "ClassificationTask", "Corpus", "Examples", "Gate",
            "GeneratedTask", "InputSpec", "Interval", "Kernel", "LanguageTask", "Model", "Preprocessor", "Probe",
            "Ragged", "Remedy", "Report", "ReportingTask", "SearchSpace", "State", "StatefulTask", "Task", "UserError",
        ],
        "seqlab.contracts",
    ),
    "Recurrent": "seqlab.recurrence",
    "cache_folder": "seqlab.io.cache",
    "compose": "seqlab.config.compose",
    "load": "seqlab.inference",
    "Routine": "seqlab.plugins.exports",
    "register_export": "seqlab.plugins.exports",
    "TorchCell": "seqlab.plugins.torch_modules",
    "run": "seqlab.training.run",
    "Result": "seqlab.runs.results",
}  # fmt: skip

__all__ = [
    "PLUGIN_API",
    "Batch",
    "Cell",
    "Choice",
    "ClassificationTask",
    "Corpus",
    "Examples",
    "Gate",
    "GeneratedTask",
    "InputSpec",
    "Interval",
    "Kernel",
    "LanguageTask",
    "Model",
    "Preprocessor",
    "Probe",
    "Ragged",
    "Recurrent",
    "Remedy",
    "Report",
    "ReportingTask",
    "Result",
    "Routine",
    "SearchSpace",
    "State",
    "StatefulTask",
    "Task",
    "TorchCell",
    "UserError",
    "__version__",
    "cache_folder",
    "compose",
    "load",
    "register_export",
    "run",
]

sys.meta_path.insert(0, TorchmetricsFinder())
sys.meta_path.append(MovedModules())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'seqlab' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
