"""Generated tasks whose difficulty is a distance: the number of steps between an input and the output it decides."""

from seqlab_tasks.synthetic.distance import Adding, Copying, First, Recall, TemporalOrder
from seqlab_tasks.synthetic.generated import Bounds, Deterministic, Generated
from seqlab_tasks.synthetic.structure import HMM, Dyck, Parity

__all__ = [
    "HMM", "Adding", "Bounds", "Copying", "Deterministic", "Dyck", "First", "Generated", "Parity", "Recall",
    "TemporalOrder",
]  # fmt: skip
