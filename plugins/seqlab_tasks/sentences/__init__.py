"""English sentences from grammars of seqlab's own, in which the answer depends on a word a set distance before it."""

from seqlab_tasks.sentences.agreement import Agreement
from seqlab_tasks.sentences.fluent import Fluent

__all__ = ["Agreement", "Fluent"]
