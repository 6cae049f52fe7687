"""Contracts of plugins, in plain torch and torchmetrics; a name is imported when it is used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqlab.contracts.api import OLDEST_PLUGIN_API, PLUGIN_API
    from seqlab.contracts.batch import Batch, Corpus, Examples, Ragged
    from seqlab.contracts.cell import Cell, Gate, Probe, Remedy, State
    from seqlab.contracts.kernel import Kernel
    from seqlab.contracts.model import CellFactory, HeadFactory, InputSpec, Model
    from seqlab.contracts.preprocessor import Preprocessor
    from seqlab.contracts.space import Choice, Interval, SearchSpace
    from seqlab.contracts.task import (
        ClassificationTask,
        GeneratedTask,
        LanguageTask,
        Report,
        ReportingTask,
        StatefulTask,
        Task,
    )
    from seqlab.errors import UserError

_HOMES = {
    "seqlab.contracts.api": ["OLDEST_PLUGIN_API", "PLUGIN_API"],
    "seqlab.contracts.batch": ["Batch", "Corpus", "Examples", "Ragged"],
    "seqlab.contracts.cell": ["Cell", "Gate", "Probe", "Remedy", "State"],
    "seqlab.contracts.kernel": ["Kernel"],
    "seqlab.contracts.model": ["CellFactory", "HeadFactory", "InputSpec", "Model"],
    "seqlab.contracts.preprocessor": ["Preprocessor"],
    "seqlab.contracts.space": ["Choice", "Interval", "SearchSpace"],
    "seqlab.contracts.task": [
        "ClassificationTask", "GeneratedTask", "LanguageTask", "Report", "ReportingTask", "StatefulTask", "Task",
    ],
    "seqlab.errors": ["UserError"],
}  # fmt: skip
"""Names by module: those of a task take a second to import, which a recurrent layer in another project need not."""

__all__ = [
    "OLDEST_PLUGIN_API",
    "PLUGIN_API",
    "Batch",
    "Cell",
    "CellFactory",
    "Choice",
    "ClassificationTask",
    "Corpus",
    "Examples",
    "Gate",
    "GeneratedTask",
    "HeadFactory",
    "InputSpec",
    "Interval",
    "Kernel",
    "LanguageTask",
    "Model",
    "Preprocessor",
    "Probe",
    "Ragged",
    "Remedy",
    "Report",
    "ReportingTask",
    "SearchSpace",
    "State",
    "StatefulTask",
    "Task",
    "UserError",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(home), name)
            return value
    raise AttributeError(f"module 'seqlab.contracts' has no attribute {name!r}")
