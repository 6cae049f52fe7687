"""Groups by their axioms, orders of elements, and derived series; permutations against tuples of itertools."""

from collections import Counter
from itertools import pairwise, permutations
from typing import get_args

import pytest
import torch

from seqlab_tasks.synthetic.groups import GroupName, generators_of, group_of

ORDERS = {"Z2": 2, "Z60": 60, "S3": 6, "A4xZ5": 60, "A5": 60, "S5": 120}
every_group = pytest.mark.parametrize("name", ORDERS)


def test_all_groups_are_tested():
    assert set(get_args(GroupName)) == set(ORDERS)


@every_group
def test_the_axioms_hold(name):
    """Closed, associative, with the identity 0, and each element once in each row and column."""
    names, table = group_of(name)
    order, numbers = ORDERS[name], torch.arange(ORDERS[name])
    assert len(set(names)) == order
    assert table.shape == (order, order)
    assert torch.equal(table.sort(0).values, numbers.unsqueeze(1).expand(order, order))
    assert torch.equal(table.sort(1).values, numbers.expand(order, order))
    assert torch.equal(table[0], numbers)
    assert torch.equal(table[:, 0], numbers)
    assert torch.equal(table[table], table[:, table])  # (a b) c = a (b c)


@pytest.mark.parametrize("name", ["S3", "A5", "S5"])
def test_products_apply_the_first_permutation_first(name):
    """By mapping each point through both, with names as images of 1, 2, ..."""
    names, table = group_of(name)
    assert set(names) <= {"".join(map(str, images)) for images in permutations(range(1, len(names[0]) + 1))}
    for a in range(0, len(names), 7):
        for b in range(len(names)):
            mapped = "".join(names[b][int(point) - 1] for point in names[a])
            assert names[table[a, b]] == mapped


def element_orders(table):
    found = []
    for element in range(len(table)):
        power, order = element, 1
        while power:
            power, order = int(table[power, element]), order + 1
        found.append(order)
    return Counter(found)


def generated(table, elements):
    """The closure of some elements under products."""
    found, new = {0}, {0}
    while new:
        new = {int(table[a, b]) for a in new for b in elements} - found
        found |= new
    return found


@every_group
def test_generators_generate_the_group(name):
    """No element does that earlier ones generate: each at least doubles the subgroup (Lagrange)."""
    table, moves = group_of(name).table, generators_of(name).tolist()
    assert moves[0] == 0
    orders = [len(generated(table, moves[:end])) for end in range(1, len(moves) + 1)]
    assert orders[-1] == ORDERS[name]
    assert all(later % earlier == 0 and later > earlier for earlier, later in pairwise(orders))


def commutators(table, elements):
    """The subgroup that the commutators of some elements generate."""
    inverse = {a: int((table[a] == 0).nonzero()) for a in elements}
    made = {int(table[table[inverse[a], inverse[b]], table[a, b]]) for a in elements for b in elements}
    return generated(table, made)


def test_elements_have_the_known_orders():
    """Of A5: 1, 15 of order 2, 20 of order 3, 24 of order 5; of S5 also 10 + 15, 30 of order 4, 20 of order 6."""
    assert element_orders(group_of("A5").table) == {1: 1, 2: 15, 3: 20, 5: 24}
    assert element_orders(group_of("S5").table) == {1: 1, 2: 25, 3: 20, 4: 30, 5: 24, 6: 20}
    assert element_orders(group_of("A4xZ5").table) == {1: 1, 2: 3, 3: 8, 5: 4, 10: 12, 15: 32}
    assert max(element_orders(group_of("Z60").table)) == 60


@pytest.mark.parametrize(
    ("name", "series"),
    [
        ("Z2", [2, 1]), ("Z60", [60, 1]), ("S3", [6, 3, 1]), ("A4xZ5", [60, 4, 1]), ("A5", [60, 60]),
        ("S5", [120, 60, 60]),
    ],
)  # fmt: skip
def test_the_derived_series_is_the_known_one(name, series):
    """It ends at 1 for a solvable group; A5 is its own commutator subgroup, so that A5 and S5 are not solvable."""
    table, elements = group_of(name).table, set(range(ORDERS[name]))
    found = [len(elements)]
    for _ in series[1:]:
        elements = commutators(table, elements)
        found.append(len(elements))
    assert found == series
