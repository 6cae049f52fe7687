"""MinLSTM by a scan in parallel over time."""

from typing import final

from seqlab_cells.minlstm.cell import MinLSTM
from seqlab_cells.parallel import Parallel


@final
class MinLSTMParallel(Parallel):
    """:class:`.parallel.Parallel` over MinLSTM's own coefficients."""

    cell = MinLSTM
