"""A card by a protocol of seconds: its JSON, its page, and what a second call repeats."""

import json
import shutil

import pytest

from seqlab import UserError
from seqlab.cli.commands.card import _exit_code
from seqlab.study.card.card import FILE, Card, chosen_bits, read_card, summary, unfinished
from seqlab.study.card.page import _missing, compose, write_page

from .conftest import Silent, make


def test_the_file_holds_the_card(made):
    record = json.loads((made.folder / FILE).read_text("utf-8"))
    assert record == json.loads(json.dumps(made.record))
    assert (record["schema"], record["protocol"], record["finished"]) == ("card 1", "micro", True)
    assert read_card(made.folder) == record
    assert read_card(made.folder / FILE) == record


def test_the_size_meets_the_budget(made):
    """No other hidden size of a GRU is nearer: its model has 4 x 9 + 3h(4 + h + 2) + 8(h + 1) parameters."""
    counts = {h: 36 + 3 * h * (4 + h + 2) + 8 * (h + 1) for h in range(1, 100)}
    assert made.record["hidden_size"] == min(counts, key=lambda h: abs(counts[h] - 900))
    assert made.record["parameters"] == counts[made.record["hidden_size"]]
    assert made.record["state_bits"] == 32 * made.record["hidden_size"]


def test_every_stage_is_there(made):
    record = made.record
    assert record["spectrum"]["measured"]["linear"] is False
    assert {row["name"] for row in record["cost"]["kernels"]} >= {"torch.nn.GRU", "loop"}
    assert {check["result"] for check in record["conformance"]} == {"passed"}
    assert [row["protocol"] for row in record["reach"]["rows"]] == ["fixed"]
    assert record["reach"]["flow"]["curves"]
    tracking, capacity = record["parts"]
    parity, unknown = tracking["rows"]
    assert [each["length"] for each in parity["lengths"]] == [4, 8]
    assert unknown["missing"] == "task=no_such_task is not installed"
    assert record["missing_tasks"] == ["no_such_task"]
    (copied,) = capacity["rows"]
    assert 0 <= copied["bits"]["mean"] <= copied["asked"] == 2


def test_intervals_stay_within_the_metric(made):
    rows = [row for part in made.record["parts"] for row in part["rows"] if row["missing"] is None]
    shown = [row["score"] for row in rows] + [each["score"] for row in rows for each in row.get("lengths", [])]
    assert all(0 <= each["low"] <= each["mean"] <= each["high"] <= 1 for each in shown)


def test_a_second_call_repeats_nothing(made, tmp_path):
    folder = tmp_path / "gru"
    shutil.copytree(made.folder, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*/results.json")}
    assert len(before) == made.progress.runs == 3
    second = make(folder, made.protocol)
    assert (second.progress.stages, second.progress.runs) == (["reach", "tracking, capacity"], 0)
    assert second.progress.left == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/*/results.json")} == before
    assert second.record["cost"] == made.record["cost"]


def test_a_lost_run_is_trained_once_more(made, tmp_path):
    folder = tmp_path / "gru"
    shutil.copytree(made.folder, folder)
    lost = next((folder / "runs").iterdir())
    shutil.rmtree(lost)
    redone = make(folder, made.protocol)
    assert redone.progress.runs == 1
    assert (lost / "results.json").is_file()
    scores = [[row.get("score") for row in part["rows"]] for part in redone.record["parts"]]
    assert scores == [[row.get("score") for row in part["rows"]] for part in made.record["parts"]]


def test_the_cost_alone_is_measured_again(made, tmp_path):
    folder = tmp_path / "gru"
    shutil.copytree(made.folder, folder)
    record = Card(made.protocol, made.subject, folder, "command").time(Silent())
    assert record["cost"]["kernels"] != made.record["cost"]["kernels"]
    before, after = ({**each, "cost": None, "summary": None} for each in (made.record, record))
    assert json.loads(json.dumps(before)) == after
    assert json.loads((folder / FILE).read_text("utf-8")) == json.loads(json.dumps(record))
    with pytest.raises(UserError, match="has no card of gru by this protocol"):
        Card(made.protocol, made.subject, tmp_path / "none", "command").time(Silent())


def test_runs_that_the_clock_cut_are_counted(made, tmp_path):
    folder = tmp_path / "gru"
    shutil.copytree(made.folder, folder)
    place = next((folder / "runs").iterdir()) / "results.json"
    results = json.loads(place.read_text("utf-8"))
    results["config"]["trainer"] |= {"max_minutes": 1, "max_steps": results["cost"]["steps"] + 1}
    results["cost"]["fit_seconds"] = 61.0
    place.write_text(json.dumps(results), "utf-8")
    again = make(folder, made.protocol)
    runs = [run for part in again.record["parts"] for row in part["rows"] for run in row["runs"]]
    assert sorted(run["cut"] for run in runs) == [False, True]
    page = write_page(again.record, made.protocol, folder).read_text("utf-8")
    assert "The clock ended 1 of them before" in page
    assert "The clock ended" not in write_page(made.record, made.protocol, tmp_path).read_text("utf-8")


def test_bits_are_those_of_the_size_that_validation_chooses(made):
    """Not the most bits on the test split."""
    (part,) = [part for part in made.record["parts"] if part["kind"] == "bits"]
    (row,) = part["rows"]
    other = {**row, "label": "other", "bits": {**row["bits"], "mean": 99.0}}
    assert part["chosen"] == row["label"]
    assert chosen_bits({**part, "rows": [other, row]}) == row["bits"]
    assert chosen_bits({**part, "rows": [other, row], "chosen": None}) is None


def test_the_page_shows_every_section(made):
    page = write_page(made.record, made.protocol, made.folder).read_text("utf-8")
    titles = [section.title for section in compose(made.record, made.protocol).sections]
    assert titles == [
        "Results", "Reach", "State tracking", "Capacity", "Gradient flow", "Cost", "Conformance", "Expressivity",
        "Setup",
    ]  # fmt: skip
    assert "task=no_such_task is not installed" in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"schema": "card 9"}, "has schema 'card 9'; this version reads 'card 1'"),
        ({"cell": 3}, "its cell is '3'"),
        (
            {"summary": [{"section": "a", "name": "b", "better": "max", "value": "x", "low": None, "high": None}]},
            "summary",
        ),
    ],
)
def test_other_files_are_refused(made, tmp_path, changed, told):
    (tmp_path / FILE).write_text(json.dumps({**made.record, **changed}), "utf-8")
    with pytest.raises(UserError, match=told):
        read_card(tmp_path)


def test_a_folder_without_a_card(tmp_path):
    with pytest.raises(UserError, match=r"no card: it has no card\.json"):
        read_card(tmp_path)


def test_failed_runs_of_a_search_are_no_horizon(made):
    """The row is missing, and the exit code 1; runs that are left make the card unfinished."""
    (row,) = made.record["reach"]["rows"]
    failed = {**row, "finished": False, "failed": 1, "open": 0, "horizon": None}
    record = {**made.record, "reach": {**made.record["reach"], "rows": [failed]}}
    (found,) = (each for each in summary(record) if each["section"] == "reach")
    assert found["value"] is None
    assert _exit_code(record) == 1
    assert "1 of" in str(dict(_missing(record))["reach: first, fixed"])
    assert list(unfinished(record)) == []
    failed["open"] = 1
    assert list(unfinished(record)) == ["first, fixed"]


def test_the_exit_code_of_a_card_that_has_only_its_cost(made):
    assert _exit_code({**made.record, "conformance": None, "reach": None, "parts": [], "finished": False}) == 1
