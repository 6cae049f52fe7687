"""A Triton kernel that writes down the offsets that the kernels of the scan compute."""

# mypy: disable-error-code="no-untyped-def"

from typing import no_type_check

import triton  # type: ignore[import-untyped]  # it has no types
import triton.language as tl  # type: ignore[import-untyped]  # it has no types

from seqlab_cells.gpu.scan import offsets, program, rows_of


@no_type_check
@triton.jit(do_not_specialize=["batch", "time", "directions"])
def write_offsets(
    to,  # [replicas, directions run, 4, rows], int64: of W, of kept steps, of outputs, of the last kept step
    lengths, order, base, batch, time, directions, ragged: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Write one program's."""
    direction, replica, chain = program(directions)
    _, row, length, first = rows_of(lengths, order, base, replica, batch, time, ragged, rows)
    kept, out, to_next, _ = offsets(row, length, first, replica, direction, batch, time, directions, ragged)
    column = tl.arange(0, rows)[:, None]
    to += (replica * tl.num_programs(1) + direction) * (4 * rows)
    tl.store(to + column, chain + tl.zeros((rows, 1), tl.int64))
    tl.store(to + rows + column, kept)
    tl.store(to + 2 * rows + column, out)
    tl.store(to + 3 * rows + column, kept + (length[:, None] - 1) * to_next)
