"""The table and the picture of confidence."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

from seqlab_tasks.reliability import draw_reliability, reliability_table, wilson

BINS = np.zeros((15, 3))
BINS[8], BINS[14] = [10, 5.6, 4], [90, 88.2, 81]


def test_the_table_has_the_bins_with_examples():
    rows = reliability_table(BINS)
    assert rows == [
        {"from": 0.5333, "to": 0.6, "examples": 10, "confidence": pytest.approx(0.56), "accuracy": 0.4},
        {"from": 0.9333, "to": 1.0, "examples": 90, "confidence": pytest.approx(0.98), "accuracy": 0.9},
    ]
    assert json.loads(json.dumps(rows)) == rows


def test_the_interval_is_wilsons():
    """8 of 10: 0.490 to 0.943, as every table of it says; it never leaves 0 to 1."""
    low, high = wilson(np.array([8.0, 0.0, 5.0]), np.array([10.0, 5.0, 5.0]))
    assert low[0] == pytest.approx(0.490, abs=5e-4)
    assert high[0] == pytest.approx(0.943, abs=5e-4)
    assert low[1] == pytest.approx(0, abs=1e-12)
    assert high[2] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("bins", [BINS, np.zeros((15, 3)), np.tile([1.0, 0.01, 0.0], (15, 1))])
def test_any_bins_can_be_drawn_without_a_warning(tmp_path, bins):
    draw_reliability(bins, tmp_path / "reliability.png")
    assert [path.name for path in tmp_path.iterdir()] == ["reliability.png"]
    height, width, _ = imread(tmp_path / "reliability.png").shape
    assert 600 < width < height < 1500
