"""What is searched: rows out of words, their labels and the words of their runs; mistakes are one line."""

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from seqlab import UserError
from seqlab.config.compose import configs
from seqlab.study.horizon.rows import rows_of
from seqlab.study.horizon.search import Batch
from seqlab.study.horizon.settings import Settings, read_settings
from seqlab.sweeps.plan import choices_of


def names(words, **settings):
    return [row.name for row in rows_of(words, read_settings(settings))]


def test_commas_multiply_out_and_labels_tell_the_rows_apart():
    assert names(["cell=rnn,lstm", "task=first,adding"]) == ["rnn/first", "lstm/first", "rnn/adding", "lstm/adding"]
    assert names(["cell=rnn", "model.depth=1,2", "task=first"]) == ["rnn depth=1/first", "rnn depth=2/first"]
    assert names(["task=first", "task.choices=2,4", "model=window"]) == [
        "window/first choices=2",
        "window/first choices=4",
    ]


def test_rows_that_no_list_can_say_have_words_of_their_own():
    rows = {"IRNN": "cell=rnn cell.nonlinearity=relu cell.initialisation=identity", "gru": ["cell=gru"]}
    tasks = {"short": ["task=first", "task.choices=3"]}
    found = rows_of(["cell.hidden_size=5"], read_settings({"rows": rows, "tasks": tasks, "only": ["IRNN/short"]}))
    (row,) = found
    assert (row.config.cell.nonlinearity, row.config.cell.hidden_size, row.hidden_size) == ("relu", 5, 5)
    assert row.task_words == ("task=first", "task.choices=3")
    words = row.run(Batch(30, 0.01, (7,)), 7)
    assert {"task.sequence_length=30", "optimizer.lr=0.01", "seed=7", "cell.nonlinearity=relu"} <= set(words)


def test_twice_the_budget_is_twice_what_is_configured():
    (row,) = rows_of(["task=first", "model=window", "trainer.max_epochs=3", "trainer.max_steps=50"], Settings())
    usual, longer = (row.run(Batch(8, 0.01, (0,), budget), 0) for budget in (1, 2))
    assert [word for word in longer if word not in usual] == ["trainer.max_epochs=6", "trainer.max_steps=100"]


def test_what_the_command_line_sets_the_search_leaves_alone():
    (row,) = rows_of(["task=first", "trainer.early_stopping=3"], Settings())
    assert not any(word.startswith("trainer.early_stopping") for word in row.added)
    (row,) = rows_of(["task=first"], Settings())
    assert "trainer.early_stopping=null" in row.added


@pytest.mark.parametrize(("experiment", "rows"), [("horizon_quick", 8), ("horizon", 8)])
def test_the_experiments_are_searches_by_one_grid_of_learning_rates(experiment, rows):
    words = [f"experiment={experiment}"]
    assert choices_of(words) == ("horizon", "basic")
    with configs():
        composed = GlobalHydra.instance().config_loader().load_configuration("config", words, RunMode.MULTIRUN)
    found = rows_of(words, read_settings(composed.hydra.sweeper))
    assert len({row.name for row in found}) == rows
    assert {row.label for row in found} == {"rnn", "IRNN", "lstm", "gru"}
    assert all(row.config.trainer.max_epochs >= 10 for row in found)


@pytest.mark.parametrize(
    ("words", "settings", "fragment"),
    [
        (["task=first", "optimizer.lr=0.1"], {}, "set hydra.sweeper.learning_rates"),
        (["task=first", "seed=1,2"], {}, "set hydra.sweeper.seeds and hydra.sweeper.first_seed"),
        (["task=names"], {}, "task=names has no distance to search over; these have: adding"),
        (["task=first"], {"only": ["gru"]}, "only has gru; the rows of this search are lstm/first"),
        ([], {"start": 0}, "hydra.sweeper.start must be >= 1, got 0"),
        ([], {"start": 9, "max_distance": 8}, "max_distance must be >= hydra.sweeper.start=9, got 8"),
        ([], {"learning_rates": 0.1}, r"learning_rates must be a list, such as \[0.1\], got 0.1"),
        ([], {"learning_rates": []}, "one at least"),
        ([], {"learning_rates": [0.1, 0.1]}, "each may occur once"),
        ([], {"resolution": 0}, "resolution must be >= 0.0001 and <= 1, got 0"),
        ([], {"match": "size"}, "match must be none, parameters, state or flops, got size"),
        ([], {"check_budget": 3}, "check_budget must be true or false, got 3"),
        ([], {"rows": {"a": 3}}, "rows.a must list overrides such as cell=lstm, got 3"),
    ],
)
def test_mistakes_are_one_line(words, settings, fragment):
    with pytest.raises(UserError, match=fragment) as caught:
        rows_of(words, read_settings(settings))
    assert "\n" not in str(caught.value)
