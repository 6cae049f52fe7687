"""Runs of earlier releases load and verify; other formats, versions and missing plugins are reported."""

import json
import logging
import shutil
from pathlib import Path

import pytest

import seqlab
from seqlab import PLUGIN_API, UserError
from seqlab.plugins.config import plugin_class
from seqlab.runs.results import read_results
from seqlab.training.verification import verify_run

FIXTURES = Path(__file__).parents[2] / "fixtures"
RUNS = sorted(FIXTURES.glob("run_format_*[0-9]"))

CELL = """
from seqlab_cells.gru import GRU
class Nice(GRU):
    'A cell.'
    plugin_api = {api}
"""


@pytest.fixture
def run(tmp_path):
    shutil.copytree(FIXTURES / "run_format_1", tmp_path / "run")
    return tmp_path / "run"


def change(path, **values):
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(record | values), "utf-8")


def changed_cell(run, **values):
    card = json.loads((run / "model.json").read_text("utf-8"))
    change(run / "model.json", cell=card["cell"] | values)


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
def test_a_run_of_each_release_loads_and_predicts_what_it_predicted(folder):
    expected = json.loads((folder.parent / f"{folder.name}.json").read_text("utf-8"))
    found = seqlab.load(folder).predict(expected["texts"], top=3)
    assert len(expected["texts"]) >= 5
    for answers, before in zip(found, expected["answers"], strict=True):
        assert [each["label"] for each in answers] == [each["label"] for each in before]
        assert [each["probability"] for each in answers] == pytest.approx(
            [each["probability"] for each in before], abs=1e-5
        )


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
def test_a_run_of_each_release_is_verified(folder):
    findings = {finding.what: finding for finding in verify_run(folder)}
    assert {what: each.state for what, each in findings.items() if what != "versions"} == {
        "hashes": "ok", "shapes": "ok", "test metrics": "ok",
    }, findings  # fmt: skip


def test_a_newer_format_names_the_upgrade(run):
    change(run / "model.json", format=2, seqlab="3.1.4")
    with pytest.raises(
        UserError, match=r"format 2, written by seqlab 3\.1\.4; .* reads format 1: pip install -U seqlab"
    ):
        seqlab.load(run)


def test_a_newer_schema_names_the_upgrade(run):
    change(run / "results.json", schema=9)
    with pytest.raises(UserError, match=r"has schema 9; this is seqlab .*: pip install -U seqlab"):
        read_results(run)


def test_a_missing_plugin_is_reported_with_its_distribution(run):
    changed_cell(run, name="nice", distribution="seqlab-nice", version="1.2")
    with pytest.raises(UserError, match=r"needs cell=nice, which is not installed .*pip install seqlab-nice==1\.2"):
        seqlab.load(run)


def test_an_invalid_distribution_name_is_not_printed(run):
    changed_cell(run, name="nice", distribution="-r evil.txt", version="1.2; rm")
    with pytest.raises(UserError, match="cell=nice, which is not installed; there are") as caught:
        seqlab.load(run)
    assert "evil" not in str(caught.value)


def nice(distribution, api=PLUGIN_API):
    entries = "[seqlab.cells]\nnice = nice_cell:Nice\n"
    distribution("seqlab-nice", entries, {"nice_cell": CELL.format(api=api)}, version="2.0")


def test_another_version_of_a_plugin_is_used_with_a_warning(run, distribution, caplog):
    nice(distribution)
    changed_cell(run, name="nice", distribution="seqlab-nice", version="1.0")
    with caplog.at_level(logging.WARNING, logger="seqlab"):
        assert seqlab.load(run).predict(["Satoshi"])
    (line,) = caplog.messages
    assert "cell=nice was of seqlab-nice 1.0, and is of seqlab-nice 2.0" in line
    assert "pip install seqlab-nice==1.0" in line


def test_a_failure_names_the_other_version_of_a_plugin(run, distribution):
    nice(distribution)
    changed_cell(run, name="nice", distribution="seqlab-nice", version="1.0", parameters={"size": 4})
    with pytest.raises(UserError, match=r"size.*was of seqlab-nice 1\.0"):
        seqlab.load(run)


def test_a_plugin_for_another_api_is_rejected(distribution):
    nice(distribution, api=PLUGIN_API + 1)
    with pytest.raises(
        UserError, match=rf"cell=nice of seqlab-nice 2.0 .*plugin API {PLUGIN_API + 1}, .*pip install -U"
    ):
        plugin_class("cell", "nice")


def test_a_run_records_its_formats(run):
    card = json.loads((run / "model.json").read_text("utf-8"))
    assert (card["format"], card["plugin_api"]) == (1, 1)
    assert read_results(run)["schema"] == 1
