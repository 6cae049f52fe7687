"""MinGRU by a scan in parallel over time."""

from typing import final

from seqlab_cells.mingru.cell import MinGRU
from seqlab_cells.parallel import Parallel


@final
class MinGRUParallel(Parallel):
    """:class:`.parallel.Parallel` over MinGRU's own coefficients."""

    cell = MinGRU
