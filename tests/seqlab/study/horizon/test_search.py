"""The search against an oracle: every run's outcome is known beforehand, so that the whole grid can be asked."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab.study.horizon.search import Ladder, Rules, Search

RATES = (0.001, 0.003, 0.01)
SEEDS, FRESH = (0, 1, 2), (3, 4, 5)


def conduct(rules, solves):
    """Run a search to its end; gives it, and the batches that it asked for."""
    search, asked = Search(rules), []
    asking = search.ask()
    answers = None
    while True:
        try:
            batch = asking.send(answers)
        except StopIteration:
            return search, asked
        asked.append(batch)
        answers = {seed: solves(batch, seed) for seed in batch.seeds}


def oracle(limits):
    """Each run solves what is no farther than its seed's and rate's limit."""
    return lambda batch, seed: batch.distance <= limits[batch.rate, seed]


@st.composite
def rules(draw, **fixed):
    start = draw(st.integers(1, 20))
    ladder = Ladder(start, draw(st.integers(start, 400)), draw(st.sampled_from([0.02, 0.1, 0.5])))
    return Rules(ladder, RATES, SEEDS, **fixed)


limits = st.fixed_dictionaries({key: st.integers(0, 500) for key in product(RATES, (*SEEDS, *FRESH))})


@given(st.integers(1, 50), st.integers(1, 2000), st.floats(0.01, 1))
def test_a_ladder_climbs_from_start_to_stop_by_steps_of_its_resolution(start, more, resolution):
    ladder = Ladder(start, start + more, resolution)
    assert (ladder.rungs[0], ladder.rungs[ladder.last]) == (start, start + more)
    for low, high in zip(ladder.rungs, ladder.rungs[1:], strict=False):
        assert 0 < high - low <= max(1, resolution * low)
    assert all(
        ladder.rungs[ladder.doubled(place)] >= min(2 * rung, start + more) for place, rung in enumerate(ladder.rungs)
    )


def test_below_100_the_default_resolution_is_1():
    assert Ladder(4, 100, 0.02).rungs == tuple(range(4, 101))


@given(rules(check_budget=False), limits)
def test_the_search_finds_what_the_whole_grid_says(rules, limits):
    """Where longer is harder for every seed and rate, each boundary is the one that asking everything gives."""
    search, _ = conduct(rules, oracle(limits))
    rungs, found = rules.ladder.rungs, search.finding
    counts = {rung: max(sum(rung <= limits[rate, seed] for seed in SEEDS) for rate in RATES) for rung in rungs}
    assert found.complete
    assert found.horizon == max((rung for rung in rungs if counts[rung] >= 2), default=None)
    assert found.upper == min((rung for rung in rungs if not counts[rung]), default=None)
    assert found.lower == max((rung for rung in rungs if counts[rung] == len(SEEDS)), default=None)
    if found.upper is not None and found.horizon is not None:
        assert found.horizon < found.upper


@given(rules(check_budget=False), st.integers(0, 500))
def test_a_sharp_limit_is_found_exactly_and_the_interval_is_one_step(rules, limit):
    search, _ = conduct(rules, lambda batch, seed: batch.distance <= limit)
    rungs, found = rules.ladder.rungs, search.finding
    below = [rung for rung in rungs if rung <= limit]
    assert found.lower == found.horizon == (below[-1] if below else None)
    assert found.upper == next((rung for rung in rungs if rung > limit), None)


@given(rules(confirming=FRESH, check_budget=False), limits)
def test_fresh_seeds_agree_with_both_ends(rules, limits):
    search, _ = conduct(rules, oracle(limits))
    rungs, found = rules.ladder.rungs, search.finding
    if found.lower is not None:
        level = search.levels[rungs.index(found.lower)]
        assert all(found.lower <= limits[level.best, seed] for seed in (*SEEDS, *FRESH))
    if found.upper is not None:
        (confirmed,) = search.levels[rungs.index(found.upper)].confirmed
        assert all(found.upper > limits[confirmed, seed] for seed in FRESH)
        assert all(found.upper > limits[rate, seed] for rate in RATES for seed in SEEDS)
    if found.horizon is not None:
        assert (found.lower or 0) <= found.horizon < (found.upper or math.inf)


@given(rules(confirming=FRESH), st.randoms(use_true_random=False))
def test_noise_leaves_an_order_and_an_end(rules, random):
    """Outcomes that know nothing of distance: the search ends, and its ends stand in order."""
    search, asked = conduct(rules, lambda batch, seed: random.random() < 0.6)
    found = search.finding
    if found.horizon is not None:
        assert (found.lower or 0) <= found.horizon < (found.upper or math.inf)
    runs = [(batch.distance, batch.rate, batch.budget, seed) for batch in asked for seed in batch.seeds]
    assert len(runs) == len(set(runs))


@given(st.integers(32, 800), st.integers(0, 2))
def test_a_search_takes_less_than_a_quarter_of_the_grid(limit, best):
    """With one limit for all seeds and one rate that learns, confirmation and the longer budget included."""
    rules = Rules(Ladder(4, 2000, 0.02), RATES, SEEDS, FRESH)
    search, asked = conduct(rules, lambda batch, seed: batch.distance <= limit and batch.rate == RATES[best])
    tried = rules.ladder.rungs[max(search.levels)]
    assert 4 * sum(len(batch.seeds) for batch in asked) <= rules.ladder.up_to(tried) * len(RATES) * len(SEEDS)


def test_the_rate_that_went_farthest_comes_first():
    _, asked = conduct(Rules(Ladder(4, 64, 0.5), RATES, SEEDS), lambda batch, seed: batch.rate == 0.01)
    assert [batch.rate for batch in asked] == [*RATES, 0.01, 0.01, 0.01, 0.01]


@pytest.mark.parametrize(("reached", "limited"), [(100, True), (10, False)])
def test_a_longer_budget_that_solves_what_no_seed_solved_is_told(reached, limited):
    search, asked = conduct(
        Rules(Ladder(4, 64, 0.02), RATES, SEEDS),
        lambda batch, seed: batch.distance <= (10 if batch.budget == 1 else reached),
    )
    assert asked[-1].budget == 2
    assert asked[-1].distance == search.finding.upper == 11
    assert search.finding.budget_limited is limited


def test_runs_that_failed_leave_a_question_open_unless_the_others_decide_it():
    rules = Rules(Ladder(4, 64, 0.02), (0.01,), SEEDS, check_budget=False)
    open_question, _ = conduct(rules, lambda batch, seed: None if seed else batch.distance < 8)
    assert not open_question.finding.complete
    assert open_question.finding.upper is None
    decided, _ = conduct(rules, lambda batch, seed: None if seed == 2 else batch.distance < 20)
    assert decided.finding.complete
    assert (decided.finding.horizon, decided.finding.lower, decided.finding.upper) == (19, None, None)
