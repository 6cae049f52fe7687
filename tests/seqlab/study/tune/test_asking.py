"""Asking for trials: each has a run, and a space without further points is not asked again."""

import pytest

pytest.importorskip("optuna")

from seqlab.study.tune.search import Search, Settings


@pytest.fixture
def opened(names_folder, tmp_path):
    """Open a search of few points, as each call of the command does."""

    def open_search(*overrides, **settings):
        words = (
            "task=names", f"task.data_dir={names_folder}", "model=recurrent", "cell=gru", "cell.hidden_size=8",
            "cell.initialisation=torch", "model.pooling=last", "model.output_dropout=0.0", "model.input_dropout=0.0",
            "model.depth=1", "model.bidirectional=false", "model.embedding_size=8", "preprocessing.steps=[]",
            "preprocessing.min_count=1", "task.balance=none", "task.label_smoothing=0.0", "optimizer.weight_decay=0.0",
            "optimizer.lr=0.01", "data.batch_size=16,32",
        )  # fmt: skip
        search = Search(Settings(tmp_path / "found", (*words, *overrides), **settings))
        search.open()
        return search

    return open_search


def test_a_trial_whose_run_was_not_stored_gets_it(opened):
    """Killed between the trial and the name of its run."""
    opened().study.ask()
    search = opened()
    assert [trial.run for trial in search.study.unfinished()] == [None]
    (trial,) = search._continued()
    assert trial.run is not None


def test_an_exhausted_space_is_not_asked_again(opened):
    search = opened()
    while search._ask() is not None:
        pass
    count = len(search.study.trials)
    assert search._ask() is None
    assert len(search.study.trials) == count
