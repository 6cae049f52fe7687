"""Equal budgets against closed forms."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

import seqlab
from seqlab.study.matching import SizedModel, match_size, nearest_size

SMALL = ["task=first", "task.examples=10", "task.held_out=10", "cell.hidden_size=20"]
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


@cache
def composed(word):
    return seqlab.compose([*SMALL, word, *(["model.embedding_size=6"] if word.startswith("cell") else [])])


def parameters(cell, hidden):
    """Of an embedding of 8 symbols and the padding, one layer with two biases, and a head of 8 outputs."""
    return 9 * 6 + GATES[cell] * hidden * (6 + hidden + 2) + 8 * (hidden + 1)


@pytest.mark.parametrize("cell", GATES)
def test_counts_equal_closed_forms(cell):
    sized = SizedModel(composed(f"cell={cell}"))
    assert sized.count("parameters", 13) == parameters(cell, 13)
    assert sized.count("state", 13) == 13 * (2 if cell == "lstm" else 1)
    assert sized.count("flops", 13) == GATES[cell] * 13 * (6 + 13)


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_the_matched_size_is_optimal(cell):
    word, found, target = match_size(composed(f"cell={cell}"), composed("cell=lstm"), "parameters")
    size = int(word.removeprefix("cell.hidden_size="))
    assert target == parameters("lstm", 20)
    assert found == parameters(cell, size)
    assert all(abs(found - target) <= abs(parameters(cell, other) - target) for other in range(1, 80))


def test_states_and_flops_are_matched():
    assert match_size(composed("cell=gru"), composed("cell=lstm"), "state")[:2] == ("cell.hidden_size=40", 40)
    word, found, target = match_size(composed("cell=rnn"), composed("cell=gru"), "flops")
    assert target == 3 * 20 * 26
    assert word == "cell.hidden_size=37"
    assert found == 37 * 43


def test_a_model_without_cells_is_sized_by_its_own_option():
    word, found, target = match_size(composed("model=tcn"), composed("cell=gru"), "parameters")
    key, _, size = word.partition("=")
    sized = SizedModel(composed("model=tcn"))
    counts = {other: sized.count("parameters", other) for other in range(1, int(size) + 3)}
    assert key == "model.hidden_size"
    assert found == counts[int(size)]
    assert abs(found - target) == min(abs(each - target) for each in counts.values())


def test_a_budget_without_a_size_stays():
    assert match_size(composed("model=window"), composed("cell=gru"), "state") == (None, 3, 20)


@given(st.integers(1, 5000), st.integers(1, 7))
def test_the_nearest_possible_size_is_found(target, multiple):
    """As of a model whose size must be a multiple of its heads."""

    def cost(size):
        if size % multiple:
            raise seqlab.UserError("no multiple")
        return size * size

    best = min((abs(size * size - target), size) for size in range(multiple, 200, multiple))
    assert nearest_size(cost, target) == best[1]
