"""The search against an oracle that knows the outcome of every run, so that the full grid is known, too."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab.study.horizon.search import DistanceGrid, Rules, Search

RATES = (0.001, 0.003, 0.01)
SEEDS, FRESH = (0, 1, 2), (3, 4, 5)


def run(rules, solves):
    """Run a search to its end; return it and its batches."""
    search, batches = Search(rules), []
    generator = search.batches()
    outcomes = None
    while True:
        try:
            batch = generator.send(outcomes)
        except StopIteration:
            return search, batches
        batches.append(batch)
        outcomes = {seed: solves(batch, seed) for seed in batch.seeds}


def oracle(limits):
    """Each run solves distances up to the limit of its seed and rate."""
    return lambda batch, seed: batch.distance <= limits[batch.rate, seed]


@st.composite
def rules(draw, **fixed):
    start = draw(st.integers(1, 20))
    grid = DistanceGrid(start, draw(st.integers(start, 400)), draw(st.sampled_from([0.02, 0.1, 0.5])))
    return Rules(grid, RATES, SEEDS, **fixed)


limits = st.fixed_dictionaries({key: st.integers(0, 500) for key in product(RATES, (*SEEDS, *FRESH))})


@given(st.integers(1, 50), st.integers(1, 2000), st.floats(0.01, 1))
def test_a_grid_goes_from_start_to_stop_by_steps_of_its_resolution(start, more, resolution):
    grid = DistanceGrid(start, start + more, resolution)
    assert (grid.distances[0], grid.distances[grid.last]) == (start, start + more)
    for low, high in zip(grid.distances, grid.distances[1:], strict=False):
        assert 0 < high - low <= max(1, resolution * low)
    assert all(
        grid.distances[grid.doubled(index)] >= min(2 * distance, start + more)
        for index, distance in enumerate(grid.distances)
    )


def test_below_100_the_default_resolution_is_1():
    assert DistanceGrid(4, 100, 0.02).distances == tuple(range(4, 101))


@given(rules(check_budget=False), limits)
def test_the_search_finds_the_boundaries_of_the_full_grid(rules, limits):
    """If longer is harder for every seed and rate, each boundary is that of the full grid."""
    search, _ = run(rules, oracle(limits))
    distances, found = rules.grid.distances, search.finding
    counts = {
        distance: max(sum(distance <= limits[rate, seed] for seed in SEEDS) for rate in RATES) for distance in distances
    }
    assert found.finished
    assert found.horizon == max((distance for distance in distances if counts[distance] >= 2), default=None)
    assert found.upper == min((distance for distance in distances if not counts[distance]), default=None)
    assert found.lower == max((distance for distance in distances if counts[distance] == len(SEEDS)), default=None)
    if found.upper is not None and found.horizon is not None:
        assert found.horizon < found.upper


@given(rules(check_budget=False), st.integers(0, 500))
def test_a_sharp_limit_is_found_exactly_and_the_interval_is_one_step(rules, limit):
    search, _ = run(rules, lambda batch, seed: batch.distance <= limit)
    distances, found = rules.grid.distances, search.finding
    below = [distance for distance in distances if distance <= limit]
    assert found.lower == found.horizon == (below[-1] if below else None)
    assert found.upper == next((distance for distance in distances if distance > limit), None)


@given(rules(confirm_seeds=FRESH, check_budget=False), limits)
def test_confirming_seeds_agree_with_both_ends(rules, limits):
    search, _ = run(rules, oracle(limits))
    distances, found = rules.grid.distances, search.finding
    if found.lower is not None:
        result = search.results[distances.index(found.lower)]
        assert all(found.lower <= limits[result.best, seed] for seed in (*SEEDS, *FRESH))
    if found.upper is not None:
        (confirmed,) = search.results[distances.index(found.upper)].confirmed
        assert all(found.upper > limits[confirmed, seed] for seed in FRESH)
        assert all(found.upper > limits[rate, seed] for rate in RATES for seed in SEEDS)
    if found.horizon is not None:
        assert (found.lower or 0) <= found.horizon < (found.upper or math.inf)


@given(rules(confirm_seeds=FRESH), st.randoms(use_true_random=False))
def test_a_search_over_noise_ends_with_ordered_boundaries(rules, random):
    """Outcomes are independent of the distance."""
    search, batches = run(rules, lambda batch, seed: random.random() < 0.6)
    found = search.finding
    if found.horizon is not None:
        assert (found.lower or 0) <= found.horizon < (found.upper or math.inf)
    runs = [(batch.distance, batch.rate, batch.budget, seed) for batch in batches for seed in batch.seeds]
    assert len(runs) == len(set(runs))


@given(st.integers(32, 800), st.integers(0, 2))
def test_a_search_takes_at_most_a_quarter_of_the_grid(limit, best):
    """With one limit for all seeds and one rate that learns, confirmation and the longer budget included."""
    rules = Rules(DistanceGrid(4, 2000, 0.02), RATES, SEEDS, FRESH)
    search, batches = run(rules, lambda batch, seed: batch.distance <= limit and batch.rate == RATES[best])
    tried = rules.grid.distances[max(search.results)]
    assert 4 * sum(len(batch.seeds) for batch in batches) <= rules.grid.count_up_to(tried) * len(RATES) * len(SEEDS)


def test_the_rate_that_reached_furthest_comes_first():
    _, batches = run(Rules(DistanceGrid(4, 64, 0.5), RATES, SEEDS), lambda batch, seed: batch.rate == 0.01)
    assert [batch.rate for batch in batches] == [*RATES, 0.01, 0.01, 0.01, 0.01]


@pytest.mark.parametrize(("reached", "limited"), [(100, True), (10, False)])
def test_a_longer_budget_that_solves_what_no_seed_solved_is_reported(reached, limited):
    search, batches = run(
        Rules(DistanceGrid(4, 64, 0.02), RATES, SEEDS),
        lambda batch, seed: batch.distance <= (10 if batch.budget == 1 else reached),
    )
    assert batches[-1].budget == 2
    assert batches[-1].distance == search.finding.upper == 11
    assert search.finding.budget_limited is limited


def test_runs_that_failed_leave_a_question_open_unless_the_others_decide_it():
    rules = Rules(DistanceGrid(4, 64, 0.02), (0.01,), SEEDS, check_budget=False)
    open_question, _ = run(rules, lambda batch, seed: None if seed else batch.distance < 8)
    assert not open_question.finding.finished
    assert open_question.finding.upper is None
    decided, _ = run(rules, lambda batch, seed: None if seed == 2 else batch.distance < 20)
    assert decided.finding.finished
    assert (decided.finding.horizon, decided.finding.lower, decided.finding.upper) == (19, None, None)
