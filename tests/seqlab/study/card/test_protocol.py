"""Included protocols agree with the tasks that they name; mistakes in others are told with their place."""

import math

import pytest

import seqlab
from seqlab import UserError
from seqlab.config.build import build_task
from seqlab.config.compose import Composer
from seqlab.config.schema import plain_config
from seqlab.plugins.registry import plugins
from seqlab.study.card.protocol import FULL, QUICK, load

from .conftest import MICRO

PROTOCOLS = [load(FULL), load(QUICK)]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.version)
def test_rows_of_installed_tasks_can_be_composed(protocol):
    composer = Composer()
    for part in (*protocol.parts, protocol.pilot):
        for row in part.rows:
            if part.task_of(row) in plugins("task"):
                config = composer.checked([*protocol.words, *part.run_words(row), "cell=gru"])
                assert config.trainer.max_steps > 0  # the clock is a safety net


def test_the_bits_are_those_of_the_task():
    """Without any learning, the bound on the recalled bits is 0: the baseline's loss is that of a uniform guess."""
    for protocol in PROTOCOLS:
        (part,) = [part for part in protocol.parts if part.kind == "bits"]
        for row in part.rows:
            config = plain_config(seqlab.compose([*protocol.words, *part.run_words(row)]))
            task = build_task(config["task"])
            assert row.bits == pytest.approx(task.copied * math.log2(task.choices))
            assert row.bits - task.baseline_loss * row.steps / math.log(2) == pytest.approx(0, abs=1e-9)


def test_the_quick_protocol_asks_the_same_questions():
    full, quick = PROTOCOLS
    assert (full.version, quick.version) == ("2", "2 quick")
    assert full.digest != quick.digest
    for ours, theirs in zip(full.parts, quick.parts, strict=True):
        assert (ours.name, ours.kind) == (theirs.name, theirs.kind)
        assert ours.trained >= theirs.trained
        assert {row.label for row in theirs.rows} <= {row.label for row in ours.rows}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("seeds: 1", "seeds: 0", "seeds must be >= 1, got 0"),
        ("seeds: 1", "seeds: many", "seeds is 'many', of the wrong type"),
        (
            "learning_rates: [0.01]",
            "learning_rates: [0.01, x]",
            r"learning_rates must be numbers > 0, got \[0\.01, 'x'\]",
        ),
        ("learning_rates: [0.01]", "learning_rates: [0.01, 0.1]", "several learning_rates need a pilot"),
        ("minutes: 0.1\n", "", "lacks minutes"),
        ("minutes: 0.1", "minute: 0.1", "there is no key minute"),
        ("kind: bits", "kind: bytes", r"parts\.capacity: kind must be one of lengths, bits, scores"),
        ("trained: 4", "trained: 0", r"parts\.tracking: lengths needs trained and tested"),
        ("limits: [0, 1]\n    words", "limits: [0]\n    words", r"parts\.capacity: limits must have two numbers"),
        ("words: [task=parity]", "words: []", r"rows\.parity: words must choose a task"),
        ("words: [task=parity]", "words: [task=parity, hydra.run.dir=/]", r"hydra\.run\.dir"),
        ("parts:", "parts: [", "is not valid YAML"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, before, after, told):
    path = tmp_path / "mine.yaml"
    assert before in MICRO
    path.write_text(MICRO.replace(before, after, 1), "utf-8")
    with pytest.raises(UserError, match=told) as caught:
        load(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_does_not_exist():
    with pytest.raises(UserError, match="there is no such file"):
        load("nowhere.yaml")


PILOT = """
pilot:
  title: Learning rate
  text: Short runs.
  kind: scores
  words: []
  rows:
    unknown: {words: [task=not_installed]}
"""


def test_a_pilot_chooses_among_several_rates_by_scores_of_one_length(tmp_path):
    path = tmp_path / "pilot.yaml"
    path.write_text(MICRO + PILOT, "utf-8")
    assert load(str(path)).pilots == ()
    several = MICRO.replace("learning_rates: [0.01]", "learning_rates: [0.01, 0.05]")
    path.write_text(several + PILOT, "utf-8")
    assert "not_installed" in load(str(path)).missing_tasks()
    path.write_text(several + PILOT.replace("kind: scores", "kind: lengths\n  trained: 4\n  tested: [4]"), "utf-8")
    with pytest.raises(UserError, match="pilot: kind must be one of bits, scores, got 'lengths'"):
        load(str(path))
