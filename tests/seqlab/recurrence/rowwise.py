"""The truth for any cell: one row at a time, no padding, no batch, plain Python lists."""

import torch
from torch import Tensor

from seqlab import Cell, Recurrent, State


def rowwise(recurrent: Recurrent, x: Tensor, lengths: list[int]) -> tuple[Tensor, list[State]]:
    """Outputs ``[time, batch, output]`` and the final state of each cell, ``[batch, ...]`` a leaf."""
    rows = [_row(recurrent, x[:length, row : row + 1]) for row, length in enumerate(lengths)]
    outputs = [torch.cat([y, y.new_zeros(len(x) - len(y), *y.shape[1:])]) for y, _ in rows]
    ends = zip(*(ends for _, ends in rows), strict=True)
    return torch.cat(outputs, dim=1), [tuple(torch.cat(leaf) for leaf in zip(*end, strict=True)) for end in ends]


def _row(recurrent: Recurrent, x: Tensor) -> tuple[Tensor, list[State]]:
    steps, ends = list(x), []
    cells = iter(recurrent.cells)
    for _ in range(recurrent.depth):
        forward, end = _steps(next(cells), steps, x)
        ends.append(end)
        if recurrent.bidirectional:
            backward, end = _steps(next(cells), steps[::-1], x)
            ends.append(end)
            forward = [torch.cat(pair, dim=-1) for pair in zip(forward, backward[::-1], strict=True)]
        steps = forward
    return (torch.stack(steps) if steps else x.new_zeros(0, 1, recurrent.output_size)), ends


def _steps(cell: Cell, steps: list[Tensor], like: Tensor) -> tuple[list[Tensor], State]:
    state, outputs = cell.initial_state(like.new_zeros(1, 1)), []
    for x in steps:
        y, state = cell.step(cell.project(x.unsqueeze(0))[0], state)
        outputs.append(y)
    return outputs, state
