"""The script of the scaling law: its held-out points and what counts as inside."""

import json
import math
import random
from itertools import product
from pathlib import Path

import pytest

from seqlab.study.law import Point, fit_law


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import horizon_law

    return horizon_law


FACTORS = {
    "cell.hidden_size": (8, 16, 32), "model.depth": (1, 2), "trainer.max_steps": (100, 200, 400, 800),
    "optimizer.lr": (0.0025, 0.005, 0.01),
}  # fmt: skip


def rows(depth):
    """Rows of one part of the study, whose horizons double with the training steps."""
    draws = random.Random(depth)
    found = []
    for task, cell, size, steps, rate in product(("first", "adding"), ("gru", "rnn"), (8, 16, 32), (100, 400), (1, 2)):
        low = 2 ** round(math.log2(steps / 50) + draws.gauss(0, 1))
        label = f"{cell} hidden_size={size} max_steps={steps} lr={rate}"
        words = [f"cell.hidden_size={size}", f"trainer.max_steps={steps}", f"optimizer.lr={rate}"]
        found.append({"label": label, "task": task, "words": words, "lower": low, "upper": 2 * low})
    return found


def test_held_out_points_are_fixed_by_their_factors(script):
    points = [
        Point("first gru", dict(zip(FACTORS, map(float, values), strict=True)), 2, 4)
        for values in product(*FACTORS.values())
    ]
    parts = script.divided(points)
    assert len(parts["extrapolation"]) == 18 + 6
    assert 0.15 < len(parts["interpolation"]) / (72 - 24) < 0.4
    assert script.divided(points[::-1])["interpolation"] == parts["interpolation"][::-1]
    assert script.divided(points[:5])["fit"] == [point for point in points[:5] if point in parts["fit"]]


@pytest.mark.parametrize(
    ("ends", "meets", "by_censoring"),
    [
        ((8, 16), True, False),
        ((15, 200), True, True),  # its middle, 55, lies beyond the prediction
        ((40, 80), False, False),
        ((None, 8), True, True),  # the median, 10, does not lie in it
        ((None, 16), True, False),
        ((8, None), True, False),
        ((None, 2), False, False),
        ((64, None), False, False),
    ],
)
def test_a_horizon_is_inside_where_its_interval_meets_the_prediction(script, ends, meets, by_censoring):
    law = fit_law([Point("a", {}, 8, 10), Point("a", {}, 10, 12.5), Point("a", {}, 6, 8), Point("a", {}, 12.5, 20)] * 9)
    found = script.outcome(law, Point("a", {}, *ends))
    assert 3 < found.low < 8 < found.median < 12 < 15 < found.high < 40
    assert (found.meets, found.by_censoring) == (meets, by_censoring)


@pytest.mark.parametrize(
    ("horizon", "tried", "ends"),
    [(8, [2, 4, 8, 16, 32], (8, 16)), (None, [2, 4], (None, 2)), (64, [32, 64], (64, None))],
)
def test_a_narrow_interval_begins_at_the_horizon(script, horizon, tried, ends):
    row = {"horizon": horizon, "lower": None, "upper": 99, "trials": [{"distance": distance} for distance in tried]}
    found = script.narrowed(row)
    assert (found["lower"], found["upper"]) == ends


def test_parts_of_a_study_make_one_law(script, monkeypatch, tmp_path, capsys):
    """The depth of each part stands on its command line alone."""
    folders = [tmp_path / f"depth_{depth}" for depth in (1, 2)]
    for depth, folder in enumerate(folders, start=1):
        folder.mkdir()
        search = {"runs": 9, "finished": True, "rows": [{**row, "task_words": []} for row in rows(depth)]}
        (folder / "horizon.json").write_text(json.dumps(search))
        plan = {"schema": 1, "words": [f"model.depth={depth}"], "runs": [], "working_folder": "."}
        (folder / "sweep.json").write_text(json.dumps(plan))
    made = [tmp_path / "law.csv", tmp_path / "law.png"]
    monkeypatch.setattr("sys.argv", ["", *map(str, folders), "--csv", str(made[0]), "--figure", str(made[1])])
    script.main()
    out = capsys.readouterr().out
    assert "all: " in out
    assert "model.depth: " in out
    lines = made[0].read_text().splitlines()
    assert len(lines) == 1 + 2 * len(rows(1))
    assert {"group", "model.depth", "part", "inside"} <= set(lines[0].split(","))
    assert made[1].stat().st_size > 10_000
