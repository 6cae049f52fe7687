"""Recipes: reading, checks and verdicts."""

from dataclasses import replace

import pytest

import seqlab
from seqlab import UserError
from seqlab.config.compose import compose_all
from seqlab.study.recipes import Recipe, Row, load, names

GOOD = """
title: t
source: s
metric: accuracy
mode: max
words: [task=first]
rows:
  - {label: gru, words: [cell=gru], theirs: 0.5}
"""


def test_every_recipe_can_be_composed_and_names_its_source():
    """With each of its rows, and the first also with ``quick``."""
    assert {"tcn/adding600", "tcn/copying1000", "tcn/copying_horizon", "zaremba/ptb_small"} <= set(names())
    asked = []
    for name in names():
        recipe = load(name)
        assert any(letter.isdigit() for letter in recipe.source)
        asked += [[*recipe.words, *row.words] for row in recipe.rows]
        asked.append([*recipe.words, *recipe.rows[0].words, *recipe.quick])
    for config in compose_all(asked):
        assert config.trainer.max_epochs in (None, "auto") or config.trainer.max_epochs >= 1
        if config.model.name == "recurrent" and config.cell.name == "lstm":
            assert config.cell.forget_bias in (0, 1, "chrono")  # 0 where the paper names none


@pytest.mark.parametrize(
    ("name", "parameters"), [("tcn/adding600", 70_000), ("tcn/copying1000", 16_000), ("tcn/copying_horizon", 10_000)]
)
def test_the_networks_have_the_papers_size(name, parameters, tmp_path):
    """Within 3 %."""
    recipe = load(name)
    tiny = [
        "trainer.max_epochs=1",
        "trainer.max_steps=1",
        "task.examples=2",
        "task.held_out=2",
        "data.batch_size=2",
        "kernel=loop",
    ]
    for number, row in enumerate(recipe.rows):
        words = [word for word in row.words if not word.startswith("task.sequence_length")]
        short = ["task.sequence_length=4", "logger=none", "trainer.progress=false", "trainer.threads=1"]
        result = seqlab.run(seqlab.compose([*recipe.words, *words, *tiny, *short]), tmp_path / str(number))
        assert result.cost["parameters"] == pytest.approx(parameters, rel=0.03)
        assert recipe.metric in result.metrics


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("deletang/regular", 1), ("deletang/non_regular", 0), ("grazzi/parity", 3), ("grazzi/modular_arithmetic", 1),
        ("merrill/word_problem", 3), ("feng/selective_copying", 0), ("gu/induction_heads", 2),
        ("gu/induction_heads", 3), ("gu/induction_heads", 4),
    ],
)  # fmt: skip
def test_recipes_of_state_tracking_run_for_two_steps(name, row, tmp_path):
    """By ``quick``; scores beyond the training length are the mean over the further tests."""
    recipe = load(name)
    plain = ["logger=none", "trainer.progress=false", "trainer.threads=1", "kernel=loop"]
    words = [*recipe.words, *recipe.rows[row].words, *recipe.quick, *plain]
    result = seqlab.run(seqlab.compose(words), tmp_path)
    assert result.cost["steps"] == 2
    tests = result.record["tables"].get("further_tests") or []
    expected = [test["accuracy"] for test in tests] if recipe.beyond else [result.metrics["accuracy"]]
    assert recipe.value(result.record) == pytest.approx(sum(expected) / len(expected))


def test_a_run_without_further_lengths_has_no_score_beyond():
    record = {"metrics": {"test": {"m": 0.5}}, "tables": {"further_tests": []}}
    assert recipe("max").value(record) == 0.5
    with pytest.raises(UserError, match=r"metric is m at further lengths \(task\.eval_lengths\)"):
        replace(recipe("max"), beyond=True).value(record)


def recipe(mode, tolerance=0.1):
    return Recipe("n", "t", "s", "m", mode, (), (), tolerance=tolerance)


@pytest.mark.parametrize(
    ("mode", "bound", "values", "verdict"),
    [
        ("min", "", [1.05, 0.95], "reached"),
        ("min", "", [0.8], "better"),
        ("min", "", [1.2], "not reached"),
        ("max", "", [1.2], "better"),
        ("max", "", [0.8], "not reached"),
        ("max", "at most", [0.2], "reached"),  # theirs says that it fails, and so it does
        ("max", "at most", [1.05], "reached"),
        ("max", "at most", [1.2], "better"),
        ("max", "at least", [1.2], "reached"),
        ("max", "at least", [0.8], "not reached"),
        ("min", "at least", [0.2], "better"),
        ("min", "at most", [1.2], "not reached"),
        ("min", "", [], "not run"),
    ],
)
def test_verdicts(mode, bound, values, verdict):
    assert recipe(mode).judge(Row("r", (), 1.0, bound), values) == verdict


def test_a_row_without_a_published_number_has_no_verdict(tmp_path):
    (tmp_path / "mine.yaml").write_text(GOOD.replace(", theirs: 0.5", ""))
    (row,) = load(str(tmp_path / "mine.yaml")).rows
    assert (row.format_value(), recipe("max").judge(row, [0.5])) == ("-", "no figure")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("title: t\n", ""), "lacks title"),
        (("mode: max", "mode: most"), "mode must be .* got most"),
        (("metric: accuracy", "metrics: accuracy"), "lacks metric"),
        (("title: t", "title: t\nminuts: 3"), "there is no key minuts"),
        (("title: t", "title: t\nseeds: 0"), "seeds must be .* got 0"),
        (("title: t", "title: t\nseeds: many"), "seeds is 'many', of the wrong type"),
        (("theirs: 0.5", "theirs: half"), "row 1: theirs is 'half', of the wrong type"),
        (("theirs: 0.5", "theirs: 0.5, at_most: true, at_least: true"), "at_most and at_least are both true"),
        (("rows:\n  - {label: gru, words: [cell=gru], theirs: 0.5}", "rows: []"), "rows is empty"),
        (("title: t", "title: [t"), "is not valid YAML"),
    ],
)
def test_a_bad_recipe_is_one_line(tmp_path, changed, message):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert load(str(path)).rows[0].theirs == 0.5
    path.write_text(GOOD.replace(*changed))
    with pytest.raises(seqlab.UserError, match=message) as caught:
        load(str(path))
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe(tmp_path):
    with pytest.raises(seqlab.UserError, match=r"tcn/adding: there is no such recipe; there are .*tcn/adding600"):
        load("tcn/adding")
    with pytest.raises(seqlab.UserError, match="there is no such file"):
        load(str(tmp_path / "none.yaml"))
