"""Printed commands: a shell and Hydra read back the same text."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from seqlab.io.formatting import hydra_override, relative_path, shell_command, text_arguments

PARSER = OverridesParser.create()


def read_back(word):
    """Read a word as Hydra does: parse it, put it into a config, and look it up."""
    parsed = PARSER.parse_override(word)
    assert not parsed.is_sweep_override()
    return OmegaConf.create({"value": parsed.value()}).value


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_hydra_reads_any_text_back(text):
    """After a shell, too, for which ``shlex.split`` stands."""
    (*_, word) = shlex.split(shell_command("-m", hydra_override("hydra.run.dir", text)))
    assert read_back(word) == text


ODD = [
    "a b", "it's", 'q"uote', "x=y", "a,b", "ümläut", "new\nline", "$HOME", "${x}", "${oc.env:HOME}", "back\\slash",
    'back\\"q', "end\\", "end\\\\", '\\\\"', "#hash", "~tilde", "[x]", "{b}", "(p)", "*", "null", "true", "1e5", "12",
    " blank ", "a:b", "!x", "-dash", "nan", "0x1f", "1_000", "choice(1,2)", "emo\N{GRINNING FACE}", "'", '"', "\\",
]  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_hydra_reads_odd_names_back(text):
    assert read_back(hydra_override("hydra.run.dir", text)) == text


@pytest.mark.parametrize("text", ["runs/names/2026-01-02_03-04-05_recurrent_lstm", "/tmp/a_b/c.d", "../x"])
def test_plain_names_are_not_quoted(text):
    assert shell_command(hydra_override("hydra.run.dir", text)) == f"python -m seqlab hydra.run.dir={text}"


def test_a_leading_dash_is_no_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert relative_path(tmp_path / "-run") == "./-run"
    assert relative_path(tmp_path / "run") == "run"
    assert text_arguments(["a", "-b"]) == ["--", "a", "-b"]
    assert text_arguments(["a", "b"]) == ["a", "b"]
