"""The learning rate of a card is chosen on validation, by the pilot of its protocol."""

import pytest

from seqlab.errors import UserError
from seqlab.study.card.measure import Measurement
from seqlab.study.card.pool import Pool
from seqlab.study.card.protocol import load
from seqlab.study.card.rates import choose_rate, progress
from seqlab.study.card.subject import choose_subject

from .conftest import MICRO

PILOT = """
pilot:
  title: Learning rate
  text: Short runs.
  kind: scores
  limits: [0, 1]
  words: []
  rows:
    adding: {words: [task=adding, task.sequence_length=2]}
    unknown: {words: [task=no_such_task]}
"""


def test_no_rate_is_chosen_before_every_run_of_the_pilot_has_ended(tmp_path, monkeypatch):
    """Another process may train them, or a process may have died; a rate chosen by the others would change later."""
    path = tmp_path / "pilot.yaml"
    path.write_text(MICRO.replace("learning_rates: [0.01]", "learning_rates: [0.01, 0.05]") + PILOT, "utf-8")
    protocol = load(str(path))
    subject = choose_subject("gru", [], protocol)
    with Pool(1) as pool:
        monkeypatch.setattr(pool, "run", lambda folder, runs: None)
        with pytest.raises(UserError, match="of the pilot is missing; repeat the command"):
            choose_rate(Measurement(protocol, subject, tmp_path / "card", pool))


def test_the_rate_that_learns_is_chosen_and_used(tmp_path):
    """Runs at a rate that fails, or that changes nothing, make no progress; a task that is missing is left out."""
    path = tmp_path / "pilot.yaml"
    micro = MICRO.replace("learning_rates: [0.01]", "learning_rates: [1.0e-12, 0.05, 1.0e+30]")
    path.write_text(micro.replace("trainer.max_epochs=2", "trainer.max_epochs=20") + PILOT, "utf-8")
    protocol = load(str(path))
    subject = choose_subject("gru", [], protocol)
    ended = []
    with Pool(1, lambda: ended.append(1)) as pool:
        measurement = Measurement(protocol, subject, tmp_path / "card", pool)
        found = choose_rate(measurement)
        assert (found["chosen"], measurement.rate, len(ended)) == (0.05, 0.05, 3)
        assert choose_rate(measurement) == found
    assert len(ended) == 3, "runs are not repeated"
    (row,) = found["rows"]
    slow, good, failed = row["progress"]
    assert good > 0.3 > slow + 0.2
    assert failed == 0
    part, row = protocol.parts[0], protocol.parts[0].rows[0]
    assert "optimizer.lr=0.05" in measurement.run_words(part, row, 0)


def record(value, mode="min", baseline=0.5, verdict="learning"):
    scores = {"valid": {"score": value}}
    return {
        "best": {"monitor": "score", "mode": mode, "verdict": verdict}, "metrics": scores,
        "chance": {"valid": {"score": baseline}}, "ranges": {"score": [0.0, 1.0]}, "tables": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "mode", "expected"), [(0.5, "min", 0), (0.1, "min", 0.8), (0.9, "max", 0.8), (0.7, "min", 0)]
)
def test_progress_is_the_share_of_the_way_from_the_baseline_to_the_best_score(micro, value, mode, expected):
    part = load(str(micro)).parts[0]
    assert progress(record(value, mode), part) == pytest.approx(expected)
    assert progress({**record(value, mode), "chance": {"valid": {}}}, part) == 0
    assert progress(record(value, mode, verdict="solved"), part) == 1, "where it stopped does not matter"
