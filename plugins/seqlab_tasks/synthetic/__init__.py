"""Generated tasks of memory over a distance, of state tracking, of recall and of generalisation to longer sequences."""

from seqlab_tasks.synthetic.arithmetic import ModularArithmetic
from seqlab_tasks.synthetic.associative import MQAR, InductionHeads, SelectiveCopying
from seqlab_tasks.synthetic.automata import CycleNavigation, EvenPairs, WordProblem
from seqlab_tasks.synthetic.distance import Adding, Copying, First, Recall, TemporalOrder
from seqlab_tasks.synthetic.generated import Bounds, Deterministic, Generated
from seqlab_tasks.synthetic.strings import DuplicateString, OddsFirst, ReverseString, StackManipulation
from seqlab_tasks.synthetic.structure import HMM, Dyck, Parity

__all__ = [
    "HMM", "MQAR", "Adding", "Bounds", "Copying", "CycleNavigation", "Deterministic", "DuplicateString", "Dyck",
    "EvenPairs", "First", "Generated", "InductionHeads", "ModularArithmetic", "OddsFirst", "Parity", "Recall",
    "ReverseString", "SelectiveCopying", "StackManipulation", "TemporalOrder", "WordProblem",
]  # fmt: skip
