"""Even pairs by counting, walks step by step, products by composing tuples; distributions by enumeration."""

from collections import Counter
from functools import reduce
from itertools import groupby, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab import Batch
from seqlab_tasks.synthetic import CycleNavigation, EvenPairs, WordProblem
from seqlab_tasks.synthetic.automata import positions
from seqlab_tasks.synthetic.groups import generators_of


def sampled(task, count, length, seed=0):
    inputs = task.sequences(count, length, torch.Generator().manual_seed(seed))
    return [[task.symbols[token - 1] for token in row] for row in inputs.tolist()], task.answer(inputs).tolist()


@given(length=st.integers(2, 40), seed=st.integers(0, 99))
def test_even_pairs_by_runs(length, seed):
    """A sequence of r runs has r - 1 unequal neighbours."""
    task = EvenPairs()
    for symbols, target in zip(*sampled(task, 20, length, seed), strict=True):
        runs = len(list(groupby(symbols)))
        assert task.labels[target] == ("even" if runs % 2 else "odd")


def test_even_pairs_of_the_paper():
    """Deletang et al. give 001110 as even, 0101001 as odd."""
    task = EvenPairs()
    for word, label in (("001110", "even"), ("0101001", "odd")):
        assert task.labels[int(task.answer(torch.tensor([[int(bit) + 1 for bit in word]])))] == label


@given(length=st.integers(1, 40), states=st.integers(2, 9), seed=st.integers(0, 99))
def test_cycles_are_walked_step_by_step(length, states, seed):
    task = CycleNavigation(states=states)
    for symbols, target in zip(*sampled(task, 20, length, seed), strict=True):
        cycle = list(range(states))
        for symbol in symbols:
            cycle = {"+1": cycle[1:] + cycle[:1], "-1": cycle[-1:] + cycle[:-1], "0": cycle}[symbol]
        assert task.labels[target] == str(cycle[0])


@pytest.mark.parametrize("states", [2, 3, 5, 8])
@pytest.mark.parametrize("moves", [1, 2, 5, 7])
def test_positions_by_enumeration(states, moves):
    counts = Counter(sum(walk) % states for walk in product((-1, 0, 1), repeat=moves))
    assert positions(states, moves) == pytest.approx([counts[state] / 3**moves for state in range(states)])


def test_the_baseline_of_a_ragged_batch_knows_each_length():
    task = CycleNavigation()
    outputs = task.baseline_outputs(Batch(torch.ones(3, 7, dtype=torch.int64), torch.tensor([1, 7, 2]), torch.zeros(3)))
    for row, moves in zip(outputs, (1, 7, 2), strict=True):
        assert row.softmax(0).tolist() == pytest.approx(positions(5, moves), abs=1e-6)


def composed(group, names):
    """Multiply elements by their names alone."""
    if group[0] == "Z":
        return str(sum(map(int, names)) % int(group[1:]))
    if "x" in group:
        pairs = [name.split(":") for name in names]
        return composed("A4", [a for a, _ in pairs]) + ":" + composed("Z5", [b for _, b in pairs])
    points = range(len(names[0]))
    maps = [tuple(int(image) - 1 for image in name) for name in names]
    return "".join(str(reduce(lambda point, mapped: mapped[point], maps, point) + 1) for point in points)


@pytest.mark.parametrize("group", ["Z2", "Z60", "S3", "A4xZ5", "A5", "S5"])
def test_each_target_is_the_product_so_far(group):
    task = WordProblem(group=group)
    for symbols, targets in zip(*sampled(task, 30, 12), strict=True):
        assert [task.labels[target] for target in targets] == [composed(group, symbols[:end]) for end in range(1, 13)]


@pytest.mark.parametrize("group", ["Z2", "A5", "S5"])
def test_moves_are_generators(group):
    """Also those that replace others, which they differ from; targets are products as with all elements."""
    task, moves = WordProblem(group=group, generators=True), {each + 1 for each in generators_of(group).tolist()}
    inputs = task.sequences(400, 6, torch.Generator().manual_seed(0))
    where = torch.ones_like(inputs, dtype=torch.bool)
    other = task.perturb(inputs, where, torch.Generator().manual_seed(1))
    assert set(inputs[:, 1:].flatten().tolist()) == set(other[:, 1:].flatten().tolist()) == moves
    assert (other != inputs).all()
    assert torch.equal(task.answer(inputs), WordProblem(group=group).answer(inputs))


@pytest.mark.parametrize("generators", [False, True])
@pytest.mark.parametrize("group", ["S3", "A5", "S5"])
def test_every_product_is_reached_at_every_step(group, generators):
    """Also after one step, and equally often within 5 standard deviations."""
    task = WordProblem(group=group, generators=generators)
    targets = task.answer(task.sequences(6_000, 5, torch.Generator().manual_seed(0)))
    expected = 6_000 / task.outputs
    for step in targets.unbind(1):
        counts = torch.bincount(step, minlength=task.outputs)
        assert (counts - expected).abs().max() < 5 * expected**0.5
