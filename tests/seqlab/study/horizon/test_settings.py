"""Settings of a search, its rows, their labels and the overrides of their runs."""

import pytest
from hydra.types import RunMode

from seqlab import UserError
from seqlab.config.compose import compose_full
from seqlab.study.horizon.search import Batch
from seqlab.study.horizon.settings import Settings, expand_rows, read_settings
from seqlab.study.horizon.trials import RowSearch
from seqlab.sweeps.plan import chosen_plugins


def rows_of(overrides, **settings):
    return expand_rows(overrides, read_settings(settings))


def names(overrides, **settings):
    return [row.name for row in rows_of(overrides, **settings)]


def test_the_defaults_of_the_config_file_are_those_of_the_code():
    assert read_settings(compose_full(["hydra/sweeper=horizon"], RunMode.MULTIRUN).hydra.sweeper) == Settings()


def test_sweeps_are_expanded_and_labels_are_distinct():
    assert names(["cell=rnn,lstm", "task=first,adding"]) == ["rnn/first", "lstm/first", "rnn/adding", "lstm/adding"]
    assert names(["cell=rnn", "model.depth=1,2", "task=first"]) == ["rnn depth=1/first", "rnn depth=2/first"]
    choices = names(["task=first", "task.choices=2,4", "model=window"])
    assert choices == ["window/first choices=2", "window/first choices=4"]
    assert names(["cell=choice(rnn,gru)", "task=first"]) == ["rnn/first", "gru/first"]
    assert names(["cell=glob([rnn,gru])", "task=first"]) == ["gru/first", "rnn/first"]
    assert names(["cell=rnn,gru", "cell=lstm", "task=first"]) == ["lstm/first"]  # the last one counts
    halves = ["cell=lstm", "cell.forget_bias=0.5,1.5", "task=first"]
    assert names(halves) == ["lstm forget_bias=0.5/first", "lstm forget_bias=1.5/first"]
    assert names(["model.dropout=0.25,0.5", "task=first"], rows={"a": "cell=rnn", "b": ["cell=gru"]}) == [
        f"{label} dropout={rate}/first" for label in "ab" for rate in (0.25, 0.5)
    ]


def test_named_rows_have_overrides_of_their_own():
    rows = {"IRNN": "cell=rnn cell.nonlinearity=relu cell.initialisation=identity", "gru": ["cell=gru"]}
    tasks = {"short": ["task=first", "task.choices=3"]}
    (row,) = rows_of(["cell.hidden_size=5"], rows=rows, tasks=tasks, only=["IRNN/short"])
    assert (row.config.cell.nonlinearity, row.config.cell.hidden_size, row.hidden_size) == ("relu", 5, 5)
    assert row.task_overrides == ("task=first", "task.choices=3")
    overrides = row.run_overrides(Batch(30, 0.01, (7,)), 7)
    assert {"task.sequence_length=30", "optimizer.lr=0.01", "seed=7", "cell.nonlinearity=relu"} <= set(overrides)


def test_rows_may_differ_in_their_learning_rate():
    """Each then has its own; without a sweep of it, the search tries all of its rates in every row."""
    first, second = rows_of(["task=first", "cell=gru", "optimizer.lr=0.003,0.02"], learning_rates=[0.5, 0.6])
    assert (first.name, second.name) == ("gru lr=0.003/first", "gru lr=0.02/first")
    rules = Settings().rules
    assert [RowSearch.of(row, rules).search.rules.rates for row in (first, second)] == [(0.003,), (0.02,)]
    overrides = second.run_overrides(Batch(4, 0.02, (0,)), 0)
    assert [each for each in overrides if each.startswith("optimizer.lr")] == ["optimizer.lr=0.02"]
    (row,) = rows_of(["task=first"])
    assert RowSearch.of(row, rules).search.rules.rates == rules.rates


def test_twice_the_budget_is_twice_the_configured_length():
    (row,) = rows_of(["task=first", "model=window", "trainer.max_epochs=3", "trainer.max_steps=50"])
    usual, longer = (row.run_overrides(Batch(8, 0.01, (0,), budget), 0) for budget in (1, 2))
    assert [each for each in longer if each not in usual] == ["trainer.max_epochs=6", "trainer.max_steps=100"]


def test_the_search_does_not_override_the_command_line():
    (row,) = rows_of(["task=first", "trainer.early_stopping=3"])
    assert not any(each.startswith("trainer.early_stopping") for each in row.added)
    (row,) = rows_of(["task=first"])
    assert "trainer.early_stopping=null" in row.added


@pytest.mark.parametrize("experiment", ["horizon_quick", "horizon"])
def test_the_experiments_are_searches(experiment):
    overrides = [f"experiment={experiment}"]
    assert chosen_plugins(overrides) == ("horizon", "basic")
    found = expand_rows(overrides, read_settings(compose_full(overrides, RunMode.MULTIRUN).hydra.sweeper))
    assert len({row.name for row in found}) == 8
    assert {row.label for row in found} == {"rnn", "IRNN", "lstm", "gru"}
    assert all(row.config.trainer.max_epochs >= 10 for row in found)


def test_the_law_of_horizons_varies_four_factors():
    """The command line may narrow it, so that a long study is done in parts."""
    overrides = ["experiment=horizon_law", "cell.hidden_size=16", "trainer.max_steps=200"]
    found = expand_rows(overrides, read_settings(compose_full(overrides, RunMode.MULTIRUN).hydra.sweeper))
    assert len({row.name for row in found}) == 6 * 2 * 2 * 5
    assert len({row.learning_rates for row in found}) == 5


@pytest.mark.parametrize(
    ("overrides", "settings", "message"),
    [
        (["task=first", "optimizer.lr=0.1"], {}, "set hydra.sweeper.learning_rates"),
        (["task=first", "optimizer.lr=interval(0,1)"], {}, "an interval has no list of values"),
        (["task=first", "seed=1,2"], {}, "set hydra.sweeper.seeds and hydra.sweeper.first_seed"),
        (["task=first", "model.dropout=interval(0,1)"], {}, "an interval has no list of values"),
        (["task=first", "cell=glob(x*)"], {}, "no value"),
        (["task=names"], {}, "task=names has no distance to search over; these have: adding"),
        (["task=first"], {"only": ["gru"]}, "only has gru; the rows of this search are lstm/first"),
        ([], {"start": 0}, "hydra.sweeper.start must be >= 1, got 0"),
        ([], {"start": 9, "max_distance": 8}, "max_distance must be >= hydra.sweeper.start=9, got 8"),
        ([], {"learning_rates": 0.1}, r"learning_rates must be a list, such as \[0.1\], got 0.1"),
        ([], {"learning_rates": []}, r"one or more different rates, got \[\]"),
        ([], {"learning_rates": [0.1, 0.1]}, r"got \[0.1, 0.1\]"),
        ([], {"resolution": 0}, "hydra.sweeper.resolution must be >= 0.0001 and <= 1, got 0"),
        ([], {"match": "size"}, "match must be none, parameters, state or flops, got size"),
        ([], {"check_budget": 3}, "check_budget must be true or false, got 3"),
        ([], {"rows": {"a": 3}}, "rows.a must list overrides such as cell=lstm, got 3"),
    ],
)
def test_mistakes_are_one_line(overrides, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        rows_of(overrides, **settings)
    assert "\n" not in str(caught.value)
