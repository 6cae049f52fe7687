"""Contracts of plugins, in plain torch and torchmetrics."""

from seqlab.contracts.api import OLDEST_PLUGIN_API, PLUGIN_API
from seqlab.contracts.batch import Batch, Corpus, Examples, Ragged
from seqlab.contracts.cell import Cell, Gate, Probe, Remedy, State
from seqlab.contracts.kernel import Kernel
from seqlab.contracts.model import CellFactory, HeadFactory, InputSpec, Model
from seqlab.contracts.preprocessor import Preprocessor
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

__all__ = [
    "OLDEST_PLUGIN_API",
    "PLUGIN_API",
    "Batch",
    "Cell",
    "CellFactory",
    "ClassificationTask",
    "Corpus",
    "Examples",
    "Gate",
    "GeneratedTask",
    "HeadFactory",
    "InputSpec",
    "Kernel",
    "LanguageTask",
    "Model",
    "Preprocessor",
    "Probe",
    "Ragged",
    "Remedy",
    "Report",
    "ReportingTask",
    "State",
    "StatefulTask",
    "Task",
    "UserError",
]
