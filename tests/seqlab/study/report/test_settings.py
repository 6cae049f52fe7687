"""Comparable runs and their labels."""

from seqlab.study.report.reading import collect
from seqlab.study.report.runs import incomparable_settings, label_runs


def runs_of(*folders):
    return collect(list(folders)).runs


def test_a_budget_that_differs_between_folders_is_not_comparable(sweep, record):
    short = sweep("short", [record(trainer__max_epochs=1)])
    long = sweep("long", [record("rnn", trainer__max_epochs=9), record("rnn", seed=1, trainer__max_epochs=9)])
    assert incomparable_settings(runs_of(short, long)) == ["trainer.max_epochs (1 and 9)"]
    assert incomparable_settings(runs_of(short)) == incomparable_settings(runs_of(long)) == []


def test_settings_that_vary_within_a_sweep_are_comparable(sweep, record):
    one = sweep("one", [record(trainer__max_epochs=1)])
    several = sweep("several", [record("rnn", trainer__max_epochs=epochs) for epochs in (1, 9)])
    runs = runs_of(one, several)
    assert incomparable_settings(runs) == []
    assert list(label_runs(runs).values()) == ["gru max_epochs=1", "rnn max_epochs=1", "rnn max_epochs=9"]


def test_task_options_are_controlled_and_seeds_distances_and_rates_are_not(sweep, record):
    a = sweep("a", [record(task__choices=8, task__split_seed=0, optimizer__lr=0.1)])
    b = sweep("b", [record("rnn", 9, 3, task__choices=4, task__split_seed=1, optimizer__lr=0.2, data__workers=3)])
    runs = runs_of(a, b)
    assert incomparable_settings(runs) == ["task.choices (4 and 8)"]
    assert list(label_runs(runs).values()) == ["gru choices=8", "rnn choices=4"]


def test_each_plugin_varies_by_itself(sweep, record):
    """A GRU smaller than the RNN beside it is no variation of either; two sizes of one cell are."""
    sizes = [record("rnn", cell__hidden_size=9), record("gru", cell__hidden_size=5)]
    assert list(label_runs(runs_of(sweep("a", sizes))).values()) == ["rnn", "gru"]
    sizes.append(record("gru", cell__hidden_size=7))
    assert list(label_runs(runs_of(sweep("b", sizes))).values()) == [
        "rnn hidden_size=9",
        "gru hidden_size=5",
        "gru hidden_size=7",
    ]


def test_a_model_without_a_cell_is_labelled_by_its_name(sweep, record):
    runs = runs_of(sweep("a", [record("gru"), record("gru", model="attention"), record("lstm", model="attention")]))
    assert list(label_runs(runs).values()) == ["gru", "attention"]  # the third is the second: the cell means nothing


def test_two_options_of_one_name_have_full_keys(sweep, record):
    made = [record(cell__x=1, model__x=1), record(cell__x=2, model__x=1), record(cell__x=1, model__x=2)]
    assert next(iter(label_runs(runs_of(sweep("a", made))).values())) == "gru cell.x=1 model.x=1"
