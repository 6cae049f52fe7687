"""Multiplication tables of small finite groups."""

from functools import cache
from itertools import permutations
from typing import Literal, NamedTuple

import torch
from torch import Tensor

GroupName = Literal["Z2", "Z60", "S3", "A4xZ5", "A5", "S5"]
"""Cyclic groups Z, symmetric groups S, alternating groups A, and a direct product."""


class Group(NamedTuple):
    """A finite group; element 0 is the identity.

    Attributes:
        names: of the elements: residues of Z, images of 1, 2, ... of a permutation, ``a:b`` of a direct product.
        table: products ``[order, order]`` (int64): ``table[a, b]`` is the element ``a b``, for permutations a before b.
    """

    names: tuple[str, ...]
    table: Tensor


@cache
def group_of(name: GroupName) -> Group:
    """Return the group of a name."""
    factors = [_factor(part[0], int(part[1:])) for part in name.split("x")]
    product = factors[0]
    for factor in factors[1:]:
        product = _direct(product, factor)
    return product


@cache
def generators_of(name: GroupName) -> Tensor:
    """Return the identity and a generating set (int64): each next element that earlier ones do not generate."""
    table = group_of(name).table
    chosen, found = [0], {0}
    for element in range(1, len(table)):
        if element not in found:
            chosen.append(element)
            found = _closure(table, chosen)
    return torch.tensor(chosen)


def _closure(table: Tensor, elements: list[int]) -> set[int]:
    found, new = {0}, {0}
    while new:
        new = {int(table[a, b]) for a in new for b in elements} - found
        found |= new
    return found


def _factor(kind: str, size: int) -> Group:
    if kind == "Z":
        residues = torch.arange(size)
        return Group(tuple(map(str, range(size))), (residues.unsqueeze(1) + residues) % size)
    elements = [each for each in permutations(range(size)) if kind == "S" or _is_even(each)]
    number = {element: index for index, element in enumerate(elements)}
    table = [[number[tuple(b[image] for image in a)] for b in elements] for a in elements]
    names = tuple("".join(str(image + 1) for image in element) for element in elements)
    return Group(names, torch.tensor(table))


def _is_even(element: tuple[int, ...]) -> bool:
    inversions = sum(a > b for place, a in enumerate(element) for b in element[place + 1 :])
    return inversions % 2 == 0


def _direct(left: Group, right: Group) -> Group:
    order = len(right.names)
    product = left.table[:, None, :, None] * order + right.table[None, :, None, :]
    names = tuple(f"{a}:{b}" for a in left.names for b in right.names)
    return Group(names, product.reshape(len(names), len(names)))
