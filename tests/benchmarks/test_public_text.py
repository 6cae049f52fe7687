"""The script of public text sets: how lines become tables, and its interval."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.seqlab_tasks.own_texts import BAD, GOOD


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import public_text

    return public_text


def test_lines_become_rows(script, tmp_path):
    """Quotes, control characters of other encodings and blanks at the end are text; files follow one another."""
    from seqlab_tasks.textclf import TextClassification

    rows = [(text, label) for label, texts in (("1", GOOD), ("0", BAD)) for text in texts]
    rows = [(f'{text} " café … ', label) for text, label in rows]
    for name, part in (("a", rows[:5]), ("b", rows[5:])):
        (tmp_path / name).write_bytes("".join(f"{label} {text}\n" for text, label in part).encode("cp1252"))
    chosen = script.PublicSet("", {"a": "", "b": ""}, is_spaced=True)
    options = dict(option.removeprefix("task.").split("=") for option in chosen.options)
    path = chosen.table("set", tmp_path, tmp_path / "tables")
    _, documents = TextClassification(data=str(path), **options).read_own()
    assert list(zip(documents.texts, documents.labels, strict=True)) == rows


def test_the_interval_is_that_of_scipy(script):
    values = [0.01, -0.02, 0.005, 0.03, 0.0]
    centre, half = script.interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert (centre - half, centre + half) == pytest.approx((expected.low, expected.high))


def test_a_run_with_other_settings_is_another_run(script, tmp_path, monkeypatch):
    ran = []

    def run(config, folder):
        ran.append(folder)
        folder.mkdir(parents=True)
        scores = {metric: {"test": {"accuracy": 0.5}} for metric in ("metrics", "chance")}
        (folder / "results.json").write_text(json.dumps(scores), "utf-8")

    monkeypatch.setattr(script.seqlab, "run", run)
    for word in ("model.markers=true", "model.markers=false", "model.markers=true"):
        assert script.record(tmp_path, ["task=textclf", "model=bow", word], "test")["majority"] == 0.5
    assert len(ran) == len(set(ran)) == 2


def test_scikit_learn_learns_separable_texts(script):
    texts, targets = [*GOOD, *BAD], np.array([1] * len(GOOD) + [0] * len(BAD))
    splits = ("train", "valid", "test")
    found = script.scores_of_scikit_learn(dict.fromkeys(splits, texts), dict.fromkeys(splits, targets))
    assert found["default"] == found["chosen"] == {"accuracy": 1.0, "macro_f1": 1.0}


def test_the_validation_texts_are_scored_without_the_test_texts(script):
    """Test texts that could not be read change nothing."""
    texts, targets = [*GOOD, *BAD], np.array([1] * len(GOOD) + [0] * len(BAD))
    found = script.scores_of_scikit_learn(
        {"train": texts, "valid": texts[::2], "test": [None]}, {"train": targets, "valid": targets[::2]}, "valid"
    )
    assert found["default"]["accuracy"] == 1.0


def test_the_majority_is_that_of_training(script, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"text {n},{'ab'[n % 3 == 0]}\n" for n in range(90)), "utf-8")
    found = script.majority(script.seqlab.compose(["task=textclf", f"task.data={path}"]))
    assert found == pytest.approx(2 / 3, abs=0.04)


def test_a_row_compares_with_the_better_penalty(script):
    runs = [{"accuracy": value, "macro_f1": 0.5, "majority": 0.25} for value in (0.8, 0.9)]
    others = [{way: {"accuracy": value, "macro_f1": 0.5} for way, value in (("default", 0.7), ("chosen", 0.9))}] * 2
    line, gain, margin = script.row("set", runs, others)
    assert (gain, margin) == (pytest.approx(-0.05), pytest.approx(0.6))
    assert line.count("|") == script.HEADER.partition("\n")[0].count("|")
