"""The GPU benchmark scripts, run without a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import seqlab

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def run(script: str, *words: str) -> str:
    environment = {**os.environ, "JAXTYPING_DISABLE": "1"}  # the interpreter reads the kernels' source
    command = [sys.executable, str(FOLDER / script), "--dry", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def test_finished_measurements_are_not_repeated(tmp_path):
    """Failed ones neither; truncated ones are."""
    from budget import Budget

    done = []

    def make(key):
        done.append(key)
        if key == "bad":
            raise ValueError("not\nhere")
        return {"value": 1}

    def work(*keys):
        return [(key, lambda key=key: make(key)) for key in keys]

    assert Budget(tmp_path, "points", 1e6).each(work("one", "bad", "two"))
    path = tmp_path / "points.jsonl"
    path.write_text(path.read_text("utf-8") + '{"key": "three", "val', "utf-8")
    again = Budget(tmp_path, "points", 1e6)
    assert again.each(work("one", "bad", "two", "three"))
    assert done == ["one", "bad", "two", "three"]
    assert again.found["bad"]["error"] == "ValueError: not\nhere"
    assert [json.loads(line)["key"] for line in path.read_text("utf-8").splitlines()] == ["one", "bad", "two", "three"]


def test_nothing_starts_after_the_time_limit(tmp_path):
    from budget import Budget

    budget = Budget(tmp_path, "points", 0)
    assert not budget.each([("one", dict)])
    assert not budget.found


def test_the_points_cover_all_variants():
    """Every cell, dtype and direction, ragged and not: `auto` looks them up."""
    from gpu_points import DTYPES, declared

    points = declared()
    assert len(points) <= 120
    assert len({point.key for point in points}) == len(points)
    variants = {(point.cell, point.dtype, point.directions, point.ragged) for point in points}
    for cell in ("lstm", "gru", "rnn"):
        for dtype in DTYPES:
            assert {(cell, dtype, d, r) for d in (1, 2) for r in (False, True)} <= variants
    for point in points:  # what is kept, the projection and its gradients, at 4 bytes: within 30 GB
        assert point.batch * point.time * point.hidden * point.directions * 4 * 16 < 120e9


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_point_in_tiny_sizes(tmp_path):
    """By the interpreter: all points, all right, and a record that `auto` can read."""
    from gpu_points import tiny

    from seqlab_cells.gpu import limits

    said = run("gpu_campaign.py", "--to", str(tmp_path), "--minutes", "60", "--workers", "1")
    assert f"{len(tiny())} of {len(tiny())} points" in said
    assert "failed: none" in said
    rows = [json.loads(line) for line in (tmp_path / "points.jsonl").read_text("utf-8").splitlines()]
    assert not [row for row in rows if "error" in row]
    assert not [row for row in rows if row.get("faults")]
    (tmp_path / "record").mkdir()
    (tmp_path / "record.json").rename(tmp_path / "record" / "none.json")
    found = limits.records("none", tmp_path / "record")
    assert {point["epilogue"] for point in found} == {"Lstm", "Gru", "linear"}
    layer = {key: value for key, value in found[0].items() if key not in ("speed", "save")}
    assert limits.nearest_speed("none", layer, tmp_path / "record") == found[0]["speed"]


def test_every_study_composes(tmp_path):
    from gpu_studies import studies, words

    from seqlab.study.recipes import load

    data = tmp_path / "ptb"
    for dry in (False, True):
        for study in studies(data):
            given = [word for word in words(study, tmp_path, dry=dry) if not word.startswith("hydra.")]
            if given[0] == "reproduce":
                recipe = load(given[1])
                given = [*recipe.words, *recipe.rows[0].words, *(word for word in given[2:] if "=" in word)]
            config = seqlab.compose([word for word in given if word != "-m"])
            assert config.trainer.accelerator == ("cpu" if dry else "gpu")
            if study.key.startswith("ptb"):
                assert config.task.data_dir == str(data)
            if study.key in ("adding600", "copying1000"):
                assert config.kernel.name == "auto"


@pytest.mark.slow
def test_a_dry_study_is_not_repeated(tmp_path):
    said = run("gpu_studies.py", "--to", str(tmp_path), "--only", "names", "--minutes", "60")
    assert "names: done" in said
    assert "accuracy" in said.splitlines()[-1]
    rows = json.loads((tmp_path / "studies.json").read_text("utf-8"))
    assert rows[0]["examples_s"] > 0
    assert (tmp_path / "names" / "done").is_file()
