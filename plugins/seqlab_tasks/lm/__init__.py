"""Language modelling."""

from seqlab_tasks.lm.task import LanguageModelling

__all__ = ["LanguageModelling"]
