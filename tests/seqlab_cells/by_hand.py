"""A second way to compute a step: one number at a time, by the equations, without tensors."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seqlab import Cell

Vector = list[float]


def sigma(v: float) -> float:
    return 1 / (1 + math.exp(-v))


def times(matrix: Tensor, vector: Sequence[float]) -> Vector:
    return [sum(w * v for w, v in zip(row, vector, strict=True)) for row in matrix.tolist()]


def plus(*vectors: Sequence[float]) -> Vector:
    return [sum(terms) for terms in zip(*vectors, strict=True)]


def normalised(vector: Sequence[float], gain: Sequence[float]) -> Vector:
    mean = sum(vector) / len(vector)
    variance = sum((v - mean) ** 2 for v in vector) / len(vector)
    return [g * (v - mean) / math.sqrt(variance + 1e-5) for v, g in zip(vector, gain, strict=True)]


def parts(vector: Vector, count: int) -> list[Vector]:
    size = len(vector) // count
    return [vector[k * size : (k + 1) * size] for k in range(count)]


def shaken(cell: Cell) -> Cell:
    """Give every parameter of a cell a value of its own, in float64: ones and zeros would hide a mistake."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in cell.double().parameters():
            parameter.add_(torch.randn_like(parameter))
    return cell


def one_step(cell: Cell, x: Vector, state: Sequence[Vector]) -> tuple[Vector, list[Vector]]:
    """The cell's own step for one row: its output and its state."""
    inputs = torch.tensor(x, dtype=torch.float64).view(1, 1, -1)
    leaves = tuple(torch.tensor([leaf], dtype=torch.float64) for leaf in state)
    y, new = cell.step(cell.project(inputs)[0], leaves)
    return y[0].tolist(), [leaf[0].tolist() for leaf in new]
