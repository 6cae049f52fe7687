"""What comes next in a text?"""

from seqlab_tasks.lm.task import LanguageModelling

__all__ = ["LanguageModelling"]
