"""``tune``: what it needs, and what its folder is not."""

import sys

from seqlab.study.tune.outcome import settings_of, verdict
from seqlab.study.tune.search import Row
from seqlab.study.tune.study import Trial


def test_without_optuna_a_line_says_what_to_install(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    cli("tune", "task=names").refused("optuna is not installed", 'pip install "seqlab[tune]"')


def test_a_search_is_not_resumed_as_a_sweep(cli, tmp_path):
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "tune.json").write_text("{}", "utf-8")
    cli("resume", "found").refused("found is of a search", "tune")


def trial(number, *words, role=None):
    return Trial(number, words, "complete", role, f"run{number}", 0.5, {}, None, 1.0, {})


def row(folder, title, score, role=None):
    return Row(title, trial(0, role=role), {"metrics": {"test": {"macro_f1": score}}}, folder)


def test_the_last_line_says_which_wins(tmp_path):
    linear = row(tmp_path, "linear baseline", 0.8)
    for score, maximises, begins in (
        (0.9, True, "the winner beats the linear baseline"),
        (0.9, False, "the linear baseline wins on the test split"),
        (0.7, True, "the linear baseline wins on the test split"),
        (0.8, True, "the winner and the linear baseline are equal"),
    ):
        assert verdict([row(tmp_path, "winner", score), linear], "macro_f1", maximises=maximises).startswith(begins)
    alone = verdict([row(tmp_path, "winner", 0.8, role="linear")], "macro_f1", maximises=True)
    assert alone == "the linear baseline wins: test macro_f1 0.8000"


def test_settings_are_those_that_the_default_does_not_have():
    default, other = trial(1, "task=names", "cell=lstm", role="default"), trial(2, "task=names", "cell=gru")
    assert settings_of(default, [default, other]) == "(default)"
    assert settings_of(other, [default, other]) == "cell=gru"
    assert settings_of(other, [other, trial(3, "task=names", "cell=rnn")]) == "cell=gru"
