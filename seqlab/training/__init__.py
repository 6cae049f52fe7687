"""Training, written once: one module, one data module, the run folder, ``run``."""

from seqlab.training.results import Result
from seqlab.training.run import run
from seqlab.training.trained import Trained, load

__all__ = ["Result", "Trained", "load", "run"]
