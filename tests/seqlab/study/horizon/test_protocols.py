"""Horizons under a curriculum: the rule, the rows, the tests beyond the horizon, and the causes."""

from statistics import median

import pytest
from hydra.types import RunMode
from hypothesis import given
from hypothesis import strategies as st

from seqlab import UserError
from seqlab.config.compose import compose_full
from seqlab.study.horizon.curriculum import CurriculumSearch
from seqlab.study.horizon.limits import Diagnostics, explain_drift, explain_limit, explain_optimisation
from seqlab.study.horizon.search import Batch, DistanceGrid, Finding, Rules, Search
from seqlab.study.horizon.settings import expand_rows, read_settings
from seqlab.study.horizon.trials import generalises

RATES, SEEDS = (0.001, 0.003, 0.01), (0, 1, 2)
RULES = Rules(DistanceGrid(4, 1000, 0.5), RATES, SEEDS, further=True)
lengths = st.integers(0, 1000)


def run(search, outcome):
    """Run a search to its end; return its batches."""
    generator, outcomes, batches = search.batches(), None, []
    while True:
        try:
            batches.append(generator.send(outcomes))
        except StopIteration:
            return batches
        outcomes = {seed: outcome(batches[-1], seed) for seed in batches[-1].seeds}


@given(st.fixed_dictionaries({rate: st.tuples(lengths, lengths, lengths) for rate in RATES}))
def test_a_curriculum_reaches_what_two_of_three_seeds_reach_at_the_best_rate(reached):
    search = CurriculumSearch(RULES)
    batches = run(search, lambda batch, seed: reached[batch.rate][seed])
    found = search.finding
    assert [(batch.rate, batch.distance, batch.further) for batch in batches] == [(rate, 1000, True) for rate in RATES]
    assert found.finished
    best = max(map(median, reached.values()))  # of three lengths the median is what two reach
    assert (found.horizon or 0) == best
    if best:
        ends = [(min(each), max(each)) for rate, each in reached.items() if rate == found.learning_rate]
        assert ends == [(found.lower or 0, found.upper)]


def test_a_failed_run_leaves_a_curriculum_open():
    search = CurriculumSearch(RULES)
    run(search, lambda batch, seed: None if seed == 1 else 50 + seed)
    assert not search.finding.finished
    assert search.finding.horizon == 50


def test_a_fixed_search_ends_with_tests_beyond_its_horizon():
    search = Search(RULES)
    *others, last = run(search, lambda batch, seed: batch.distance <= 40)
    assert last == Batch(search.finding.horizon, search.finding.learning_rate, SEEDS, further=True)
    assert not any(batch.further for batch in others)
    unsolved = Search(RULES)
    assert not any(batch.further for batch in run(unsolved, lambda batch, seed: False))
    failed = Search(RULES)
    run(failed, lambda batch, seed: None if batch.further and seed == 2 else batch.distance <= 40)
    assert not failed.finding.finished


def test_a_row_of_each_protocol():
    settings = read_settings({"protocols": ["fixed", "curriculum"], "start": 5, "max_distance": 70})
    fixed, curriculum = expand_rows(["task=first", "cell=gru"], settings)
    assert [fixed.protocol, curriculum.protocol] == ["fixed", "curriculum"]
    usual, further = (fixed.run_overrides(Batch(8, 0.01, (0,), further=kind), 0) for kind in (False, True))
    assert [each for each in further if each not in usual] == ["task.eval_multiples=[2,4,10,100]"]
    assert "callbacks=[gradient_flow]" in usual
    (today,) = expand_rows(["task=first", "cell=gru"], read_settings({}))
    assert today.run_overrides(Batch(8, 0.01, (0,)), 0) == usual
    climbs = curriculum.run_overrides(Batch(70, 0.01, (0,), further=True), 0)
    assert {"task.lengths=curriculum", "task.start_length=5", "task.sequence_length=70"} < set(climbs)
    assert not any(each.startswith("callbacks") for each in climbs)
    (_, own) = expand_rows(["task=first", "cell=gru", "task.eval_multiples=[3]", "task.start_length=6"], settings)
    climbs = own.run_overrides(Batch(70, 0.01, (0,), further=True), 0)
    assert [each for each in climbs if "multiples" in each or "start" in each] == [
        "task.eval_multiples=[3]", "task.start_length=6"
    ]  # fmt: skip


@pytest.mark.parametrize(("task", "real"), [("adding", True), ("first", False), ("copying", False), ("hmm", False)])
def test_targets_tell_real_numbers_from_symbols(task, real):
    (row,) = expand_rows([f"task={task}", "cell=gru"], read_settings({}))
    assert row.has_real_targets is real


@pytest.mark.parametrize(("experiment", "cells"), [("reach_quick", 3), ("reach", 8)])
def test_the_experiments_are_searches_by_both_protocols(experiment, cells):
    overrides = [f"experiment={experiment}"]
    settings = read_settings(compose_full(overrides, RunMode.MULTIRUN).hydra.sweeper)
    rows = expand_rows(overrides, settings)
    assert settings.seeds == 3
    assert len({row.label for row in rows}) == cells
    assert {row.protocol for row in rows} == {"fixed", "curriculum"}
    assert {row.has_real_targets for row in rows} == {True, False}
    assert all(row.config.trainer.max_minutes <= 4 for row in rows)


@pytest.mark.parametrize(
    ("overrides", "settings", "message"),
    [
        (["task=first"], {"protocols": "fixed"}, r"protocols must be a list, such as \[fixed\], got fixed"),
        (["task=first"], {"protocols": []}, r"one or both of fixed, curriculum, got \[\]"),
        (["task=first"], {"protocols": ["fixed", "fixed"]}, "one or both of fixed, curriculum"),
        (["task=first"], {"protocols": ["uniform"]}, "hydra.sweeper.protocols"),
        (["task=first", "task.lengths=curriculum"], {}, "set hydra.sweeper.protocols instead"),
    ],
)
def test_mistakes_are_one_line(overrides, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        expand_rows(overrides, read_settings(settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({}, None),
        ({5: 1.0}, None),
        ({20: 0.98, 40: 1.0}, 10),
        ({20: 1.0, 40: 0.99, 100: 0.5, 1000: 1.0}, 40),
        ({20: 1.0, 100: 1.0}, 100),
    ],
)
def test_a_model_generalises_up_to_the_first_length_that_it_fails(scores, expected):
    tests = [{"split": f"length {length}", "accuracy": score} for length, score in scores.items()]
    tables = {"bounds": [{"solved": 0.99}], "further_tests": [*tests, {"split": "attractors", "accuracy": 0.1}]}
    record = {"best": {"monitor": "accuracy", "mode": "max"}, "tables": tables}
    assert generalises(record, 10) == expected
    assert generalises(record, 0) is None
    for row in tests:
        row["accuracy"] *= -1
    tables["bounds"], record["best"]["mode"] = [{"solved": -0.99}], "min"
    assert generalises(record, 10) == expected


def test_optimisation_needs_a_curriculum_that_gets_twice_as_far():
    fixed = Finding(horizon=9, upper=12)
    assert explain_optimisation(fixed, Finding(horizon=23)) is None
    assert explain_optimisation(fixed, Finding()) is None
    assert explain_optimisation(Finding(horizon=9), Finding(horizon=1000)) is None
    reason = explain_optimisation(fixed, Finding(horizon=2400))
    assert "12" in reason
    assert "2,400" in reason
    stuck = Diagnostics(1e-9, None, 0.0, "at chance")
    given = {"reached_the_end": False, "budget_limited": True, "optimisation": reason}
    assert explain_limit([stuck], **given) == ("optimisation", reason)


def test_drift_is_a_matter_of_real_numbers():
    recall = {"first": Finding(horizon=4000), "copying": Finding()}
    assert explain_drift(Finding(horizon=41), recall) is None
    assert explain_drift(Finding(), recall) is None
    assert explain_drift(Finding(horizon=1), {}) is None
    reason = explain_drift(Finding(horizon=40), recall)
    assert "symbols (first) up to 4,000" in reason
    given = {"reached_the_end": False, "budget_limited": None, "drift": reason}
    growing, stuck = (Diagnostics(None, None, 0.0, "solved", share) for share in (0.8, 0.5))
    assert explain_limit([stuck], **given) == ("analogue drift", reason)
    assert explain_limit([growing], reached_the_end=False, budget_limited=None)[0] == "budget"
    cause, because = explain_limit([stuck], reached_the_end=False, budget_limited=None)
    assert cause == "unknown"
    assert "50%" in because
