"""``tune``: what it needs, and what its folder is not."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from seqlab.cli.tuning import _table
from seqlab.study.tune.outcome import settings_of, verdict
from seqlab.study.tune.search import Row
from seqlab.study.tune.study import Trial


def test_without_optuna_a_line_says_what_to_install(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    cli("tune", "task=names").refused("optuna is not installed", 'pip install "seqlab[tune]"')


def test_a_folder_of_something_else_is_refused_and_kept(cli, tmp_path, names_folder):
    """Trials of other settings would be compared with those of this search; a sweep would lose its plan."""
    pytest.importorskip("optuna")
    (tmp_path / "found").mkdir()
    words = ("tune", "task=names", f"task.data_dir={names_folder}", "--out", "found")
    for name, said in (("sweep.json", "which no search wrote"), ("tune.json", "other overrides")):
        (tmp_path / "found" / name).write_text('{"key": "of another"}', "utf-8")
        cli(*words).refused(said, "--out")
        assert (tmp_path / "found" / name).read_text("utf-8") == '{"key": "of another"}'


def test_replicas_are_refused_before_the_search(cli):
    pytest.importorskip("optuna")
    cli("tune", "task=names", "trainer.replicas=2").refused("trainer.replicas", "once")


def test_a_search_is_not_resumed_as_a_sweep(cli, tmp_path):
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "tune.json").write_text("{}", "utf-8")
    cli("resume", "found").refused("found is of a search", "tune")


def test_a_second_command_in_the_same_folder_says_what_to_do(cli, tmp_path, names_folder):
    pytest.importorskip("optuna")
    hold = (
        "from pathlib import Path; from seqlab.runs.ownership import owned_folder\nwith owned_folder(Path("
        "'found')):\n    print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        other.stdout.readline()
        second = cli("tune", "task=names", f"task.data_dir={names_folder}", "--out", "found")
        second.refused("searches in found", "--out")
        other.communicate("\n")


def test_the_time_of_a_long_search_is_in_minutes():
    search = SimpleNamespace(
        study=SimpleNamespace(trials=[]),
        settings=SimpleNamespace(minutes=90),
        seconds=3900.0,
        metric="",
        maximises=True,
    )
    assert _table(search).title.startswith("65:00 of 90 minutes")


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
