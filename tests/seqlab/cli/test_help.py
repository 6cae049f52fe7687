"""``--help``: the overview in a narrow terminal, and every key of a choice with its value and meaning."""

import re

import pytest

import seqlab
from seqlab.cli.help import plain


def test_the_overview_keeps_to_a_terminal_of_80_columns(cli):
    out = cli("--help").out
    assert max(map(len, out.splitlines())) <= 80
    assert not re.search(r"^hydra", out, re.MULTILINE)  # a line that was broken where it is indented


@pytest.mark.parametrize(
    "words",
    [
        ["cell=lstm", "task=names"],
        ["cell=gru", "task=lm", "optimizer=nt_asgd"],
        ["cell=rnn", "task=first", "callbacks=gradient_flow"],
    ],
)
def test_every_key_of_a_choice_is_explained(cli, words):
    config = seqlab.compose(words)
    lines = cli(*words, "--help").out.splitlines()
    told = dict(re.fullmatch(r"  ([\w.]+)=(.*)", line).groups() for line in lines if line.startswith("  "))
    for group in ("cell", "model", "task", "trainer", "optimizer", "data"):
        keys = {f"{group}.{key}" for key in config[group]} - {f"{group}.name"}
        assert keys <= told.keys(), keys - told.keys()
    assert {"seed", "ckpt_path", "init_from", "freeze"} <= told.keys()
    assert ("callbacks.gradient_flow.every" in told) == ("callbacks=gradient_flow" in words)
    assert all(re.search(r"\S  \S", meaning) or meaning.startswith("  ") for meaning in told.values()), told
    assert told["optimizer.lr"].startswith(f"{config.optimizer.lr}  ")
    assert not [line for line in lines if "``" in line or ":class:" in line]


def test_marks_of_docstrings_are_taken_out():
    assert plain("an average (:class:`.pooling.Attention`) of :math:`T` steps, or ``last``") == (
        "an average (pooling.Attention) of T steps, or last"
    )


def test_a_terminal_that_says_it_has_no_columns(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "0")
    assert "cell=" in cli("--help").out
