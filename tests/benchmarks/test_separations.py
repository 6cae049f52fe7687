"""The script of the separations that theory demands: its cells, its verdicts and its figure."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from seqlab.config.compose import Composer


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import separations

    return separations


def test_every_run_can_be_composed(script):
    rows = list(script.chosen(list(script.TASKS), ["*"]))
    assert len(rows) == len(set(rows)) == 9 + 9 + 9
    composer = Composer()
    for task, _, cell in rows[::4]:
        config = composer.checked(script.overrides(task, cell, 0.003, 1))
        assert (config.seed, config.task.eval_lengths[1]) == (1, 4 * config.task.sequence_length)
    assert [cell for _, _, cell in script.chosen(["A5"], ["gru", "lr*"])] == ["gru", "lru"]


def row(script, task, kind, short, long, baseline=0.5):
    scores = {20: [short, 1.0], 80: [long, long]}
    return script.Row(task, kind, "cell", 0.01, scores, {20: baseline, 80: baseline}, 2000)


@pytest.mark.parametrize(
    ("task", "kind", "short", "long", "holds"),
    [
        ("parity", "positive", 0.9, 0.51, True),
        ("parity", "positive", 0.9, 0.6, False),
        ("parity", "signed", 0.96, 0.5, True),
        ("parity", "signed", 0.94, 1.0, False),
        ("S3", "nonlinear", 0.98, 1.0, False),
        ("S3", "nonlinear", 0.99, 0.2, True),
        ("S3", "diagonal", 0.1, 0.1, True),
    ],
)
def test_verdicts(script, task, kind, short, long, holds):
    found = row(script, task, kind, short, long)
    assert script.verdict(found, [found])[1] is holds


def test_diagonal_cells_are_below_the_worst_of_the_others_on_a5(script):
    gru, lru = row(script, "A5", "nonlinear", 0.99, 0.5), row(script, "A5", "diagonal", 0.2, 0.1)
    assert not script.verdict(lru, [gru, lru])[1], "one seed of it reaches 1"
    lru.scores[20][1] = 0.3
    assert script.verdict(lru, [gru, lru])[1]
    assert not script.verdict(lru, [lru])[1], "without the others there is no comparison"


def test_a_rate_at_which_a_run_failed_is_not_chosen(script, monkeypatch):
    """The other one is read; without it, or while a run of it is missing, there is no row."""
    tables = {"further_tests": [{"split": f"length {n}", "accuracy": 0.9, "chance_accuracy": 0.5} for n in (20, 80)]}
    shared = {"lengths": {"reached": 20}, "metrics": {"valid": {"accuracy": 1.0}}, "data": {"test": {"examples": 9}}}
    monkeypatch.setattr(script, "run_folder", lambda folder, words: words)
    monkeypatch.setattr(script, "read_results", lambda words: {**shared, "tables": tables})
    args = SimpleNamespace(rates=[0.003, 0.01], seeds=2)
    for other, rate in (("done", 0.003), ("missing", None), ("failed", None)):
        states = {"optimizer.lr=0.003": other, "optimizer.lr=0.01": "failed"}

        def entry(words, states=states):
            (state,) = (states[word] for word in words if word in states)
            return SimpleNamespace(state=state if "seed=1" in words else "done")

        monkeypatch.setattr(script, "read_entry", entry)
        found = script.read_row(Path(), "parity", "nonlinear", "gru", args)
        assert (None if found is None else found.rate) == rate


def test_table_and_figure(script, tmp_path):
    rows = [row(script, "A5", "nonlinear", 0.99, 0.5), row(script, "parity", "signed", 0.9, 0.5)]
    table = script.records(rows)
    assert [each["holds"] for each in table] == ["yes", "NO"]
    assert (table[0]["T: worst"], table[0]["4 T: baseline"]) == ("0.9900", "0.5000")
    script.draw(rows, tmp_path / "new" / "figure.png")
    assert (tmp_path / "new" / "figure.png").read_bytes().startswith(b"\x89PNG")
