"""The page of one run."""

import json

import pytest
import torch

import seqlab
from seqlab.runs.run_folder import PREDICTIONS, RESULTS, write_weights
from seqlab.study.report import write_report
from tests.seqlab.resumable import write_names

from .sweep_folders import Page

SECTIONS = ["Losses", "Test scores", "Classes", "Confusion", "Calibration", "Confident errors", "Data", "Settings"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    write_names(folder / "names", {"Aaish": "aa ba na la", "Ooish": "oa bo na lo", "Eeish": "ea be na le"})
    config = [
        "task=names",
        f"task.data_dir={folder / 'names'}",
        "cell=gru",
        "cell.hidden_size=4",
        "trainer.max_epochs=3",
    ]
    seqlab.run(seqlab.compose([*config, "trainer.progress=false", "trainer.threads=1"]), folder / "run", "the command")
    return folder / "run"


def test_the_page_has_every_part(run, tmp_path):
    page = Page(write_report([run], tmp_path / "report").read_text("utf-8"))
    for title in SECTIONS:
        assert title in page.text
    record = json.loads((run / RESULTS).read_text("utf-8"))
    for name in record["metrics"]["test"]:
        assert name in page.text
    for part in ("linear baseline", "95 % interval", "the command", "cell.hidden_size", "rarest"):
        assert part in page.text
    for row in record["tables"]["confident_errors"]:
        assert row["text"] in page.text
    for tag, name, value in page.attributes:
        assert name not in ("href", "xlink:href") or value.startswith("#"), (tag, value)
    figures = {path.name for path in (tmp_path / "report" / "figures").iterdir()}
    assert {f"names_{name}.svg" for name in ("loss", "confusion", "reliability")} <= figures


@pytest.mark.parametrize("key", ["linear", "intervals", "fingerprint", "data", "notes"])
@pytest.mark.parametrize("value", [None, [], "x", {"test": 3, "labels": 3}])
def test_a_record_of_anything_is_reported(run, tmp_path, key, value):
    folder = tmp_path / "run"
    folder.mkdir()
    record = json.loads((run / RESULTS).read_text("utf-8"))
    (folder / RESULTS).write_text(json.dumps({**record, key: value}), "utf-8")
    assert "Test scores" in Page(write_report([folder], tmp_path / "report").read_text("utf-8")).text


def test_damaged_predictions_are_named(run, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / RESULTS).write_bytes((run / RESULTS).read_bytes())
    write_weights(folder / PREDICTIONS, {"test.target": torch.zeros(3, dtype=torch.int64)})
    page = Page(write_report([folder], tmp_path / "report").read_text("utf-8"))
    assert "has no test.predicted" in page.text
    assert "Confusion" not in page.text
