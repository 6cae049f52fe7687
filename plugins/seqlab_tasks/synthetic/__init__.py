"""Tasks without data whose difficulty is a distance: how many steps lie between what is read and what it is for."""

from seqlab_tasks.synthetic.adding import Adding
from seqlab_tasks.synthetic.copying import Copying
from seqlab_tasks.synthetic.dyck import Dyck
from seqlab_tasks.synthetic.first import First
from seqlab_tasks.synthetic.generated import Bounds, Determined, Generated
from seqlab_tasks.synthetic.hmm import HMM
from seqlab_tasks.synthetic.parity import Parity
from seqlab_tasks.synthetic.recall import Recall
from seqlab_tasks.synthetic.temporal_order import TemporalOrder

__all__ = [
    "HMM",
    "Adding",
    "Bounds",
    "Copying",
    "Determined",
    "Dyck",
    "First",
    "Generated",
    "Parity",
    "Recall",
    "TemporalOrder",
]
