"""Whole reports: contents, safety of the page, damaged files."""

import csv
import io
import re
import time
from pathlib import Path

import pytest

from seqlab import UserError
from seqlab.study.report import write_report
from seqlab.study.report.reading import collect
from seqlab.study.report.writer import check_replaceable
from seqlab.sweeps import ledger

from .sweep_folders import Page, complete, curve_of, grid, horizon_of, page_of


@pytest.fixture
def full(sweep, record):
    return complete(sweep, record)


@pytest.fixture(scope="module")
def out(sweeps, record):
    """Write the report of a sweep with everything."""
    folder = complete(sweeps, record)
    return write_report([folder], folder.parent / "out").parent


def test_a_page_has_no_scripts_and_loads_nothing(out):
    text = (out / "report.html").read_text("utf-8")
    page = Page(text)
    assert not {"script", "link", "iframe", "img", "object", "embed", "base", "form"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "srcset", "action", "data", "poster")
        assert name not in ("href", "xlink:href") or value.startswith("#"), (tag, value)
        assert "url(" not in value.replace("url(#", ""), (tag, value)
    styles = " ".join(re.findall(r"<style.*?</style>", text, re.DOTALL))
    assert "@import" not in styles
    assert "url(" not in styles
    assert "http" not in text.replace("http-equiv", "")


def test_ids_are_unique_and_references_resolve(out):
    text = (out / "report.html").read_text("utf-8")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([\w-]+)', text)) <= set(ids)
    assert "#1b1f24" not in text.partition("</style>")[2]  # the ink of figures is the page's


def test_the_answer_comes_first_and_missing_runs_and_setup_last(out):
    page = Page((out / "report.html").read_text("utf-8")).text
    result, note = page.index("On first,"), page.index("1 failed, 1 missing. See Missing runs.")
    assert (
        result
        < note
        < page.index("Test accuracy against")
        < page.index("Learning curves")
        < page.index("Methods: first")
        < page.index("Setup")
    )
    assert page.index("Cost") < page.index("path cause command") < page.index("Setup")
    assert "out of <script>memory</script>" in page  # as text
    assert "python -m seqlab 'cell=<b>' seed=9" in page
    assert "12 of 14 are in this report" in page
    assert "out of \\<script\\>memory" in (out / "report.md").read_text("utf-8")


def test_result_figures_and_commands_are_in_the_page(out, record):
    page = Page((out / "report.html").read_text("utf-8")).text
    assert "On first, gru reaches 8 steps (interval 8 to 16); rnn reaches 4 steps (interval 4 to 8)." in page
    markdown = (out / "report.md").read_text("utf-8")
    for made in grid(record):
        assert made["command"] in page
        assert made["command"] in markdown
    figures = re.findall(r"\(figures/(\S+)\)", markdown)
    assert len(figures) >= 6
    for name in figures:
        assert (out / "figures" / name).read_text("utf-8").startswith("<?xml")
        assert (out / "figures" / name).with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "State h at step 50: singular-value bound: 10 times the gradient after 7 steps (1.39 per step)." in page
    assert "25.0%" in page


def test_the_table_of_runs_has_a_row_for_each(out):
    rows = list(csv.DictReader(io.StringIO((out / "results.csv").read_text("utf-8"))))
    assert [row["state"] for row in rows] == ["done"] * 12 + ["missing", "failed"]
    first = rows[0]
    assert (first["label"], first["distance"], first["seed"], first["test/accuracy"]) == ("rnn", "4", "0", "1.0")
    assert float(first["parameters"]) > 0
    assert first["bounds/chance"] == "0.125"


def test_horizons_of_a_search(full):
    horizon_of(full)
    page = page_of(full)
    assert "gru reaches 12 steps (interval 10 to 14, budget-limited)" in page
    assert "6 runs; the full grid at the same resolution has 24 (25%)" in page
    assert "gru: likely cause of the limit: gradient; of the gradient 1e-9 is left at 14 steps back." in page
    assert "python -m seqlab cell.forget_bias=5" in page


def test_runs_without_a_decision_of_the_search_are_excluded(full):
    horizon_of(full)
    found = collect([full])
    excluded = {Path(fault.place).name for fault in found.faults if fault.kind == "excluded"}
    done = {entry.name for entry in ledger.read_entries(full) if entry.state == "done"}
    assert excluded
    assert excluded == done - {run.folder.name for run in found.runs}
    assert {run.horizon_label for run in found.runs} == {"gru"}
    page = page_of(full)
    assert f"{len(excluded)}: budget checks" in page
    assert not {name for name in excluded if name in page}  # nothing is wrong with them


DAMAGE = {
    "results.json": ('{"schema": 1, "metr', "cannot be read"),
    "curves/metrics.csv": ("step,valid/accuracy\nmany,0.5\n", "line 2: step is 'many'"),
    "curves/gradient_flow.csv": ("step,layer\n1,0\n", "it has no column direction"),
    "curves/saturation.csv": ("\x00\x01", "it has no column step"),
    "run.json": ('{"state"', "run.json cannot be read"),
}


def test_damaged_files_are_named_and_the_rest_is_reported(full):
    for place, (name, (content, _)) in enumerate(DAMAGE.items()):
        (full / f"run_{place}" / name).write_text(content)
    page = page_of(full)
    for place, (name, (_, cause)) in enumerate(DAMAGE.items()):
        assert cause in page
        assert f"run_{place}" + (f"/{name}" if name != "run.json" else "") in page
    assert "gru reaches 8 steps" in page


def test_no_record_breaks_a_report(sweep, record):
    """Whatever a record contains, the other run is reported."""
    keys = ["schema", "config", "metrics", "best", "cost", "tables", "chance", "versions", "git", "hardware", "kernel"]
    places = [(key, value) for key in keys for value in (None, "text", [], 7)]
    odd = [{**record(seed=7 + place), key: value} for place, (key, value) in enumerate(places)]
    assert "lstm reaches 4 steps" in page_of(sweep("odd", [*odd, record("lstm", score=1.0)]))


@pytest.mark.parametrize("content", ['{"schema": 1}', '{"runs"', '{"schema": 1, "rows": [{"label": 3}]}', "[]"])
def test_damaged_plans_and_horizons(full, content):
    (full / "horizon.json").write_text(content)
    (full / "sweep.json").write_text(content)
    found = collect([full])
    assert {fault.place.rpartition("/")[2] for fault in found.faults if fault.kind == "damaged"} == {
        "horizon.json",
        "sweep.json",
    }
    assert len(found.runs) == 12


def test_a_score_that_is_not_finite_is_named(sweep, record):
    page = page_of(sweep("nan", [record(score=None), record(seed=1, score=1.0)]))
    assert "test accuracy is not a finite number" in page


def test_folders_are_found_and_read_once(sweep, record, tmp_path, real):
    a = sweep("sweeps/a", grid(record, ["rnn"]))
    sweep("sweeps/b", grid(record, ["gru"]))
    assert len(collect([tmp_path / "sweeps", a]).runs) == collect([tmp_path / "sweeps", a]).total == 12
    again = sweep("sweeps/c", grid(record, ["gru"])[:1])
    found = collect([tmp_path / "sweeps"])
    assert len(found.runs) == 12
    (fault,) = found.faults
    assert fault.kind == "duplicate"
    assert again.name in fault.place
    assert "same settings" in fault.cause
    assert "On first" in page_of(real)  # a single run


def test_settings_that_are_not_comparable(sweep, record, tmp_path):
    a = sweep("a", grid(record, ["rnn"], task__choices=4))
    b = sweep("b", grid(record, ["gru"], task__choices=8))
    with pytest.raises(UserError, match=r"task=first: these folders are not comparable: task.choices \(4 and 8\)") as e:
        write_report([a, b], tmp_path / "out")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "out").exists()
    page = page_of(a, b, apart=True)
    assert "On first task.choices=4, rnn reaches 4 steps" in page
    assert "On first task.choices=8, gru reaches 8 steps" in page


def test_a_mix_of_tasks_and_an_ordinary_sweep(sweep, record):
    other = grid(record, ["rnn", "gru"], [4])
    for made in other:
        made["config"]["task"] = {"name": "names", "split_seed": 0}
        made["sequence_length_means"] = "maximum"
        made["tables"], made["metrics"]["test"]["accuracy"] = {}, 0.6 + 0.1 * made["config"]["seed"]
        made["best"]["valid"] = 0.5 + 0.1 * made["config"]["seed"] + (made["config"]["cell"]["name"] == "gru")
    page = page_of(sweep("mixed", [*grid(record), *other]))
    assert "On first, gru reaches" in page
    said = "On names, gru has the best validation accuracy; its test accuracy is 0.650 ± 0.071 (2 seeds); next is rnn"
    assert said in page


def test_folders_without_runs(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        write_report([tmp_path / "nowhere"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no runs"):
        write_report([tmp_path / "empty"], tmp_path / "out")


@pytest.mark.parametrize("name", ["results.csv", "report.md", "report.html"])
def test_only_a_report_is_replaced(out, tmp_path, name):
    """A folder with another file of that name is refused and stays unchanged."""
    own = tmp_path / "own"
    own.mkdir()
    (own / name).write_text("mine\n")
    with pytest.raises(UserError, match=f"holds {name}, which no report wrote"):
        write_report([out], own)
    assert [path.name for path in own.iterdir()] == [name]
    assert (own / name).read_text() == "mine\n"
    check_replaceable(out)


def test_a_sweep_without_finished_runs(sweep):
    page = page_of(sweep("a", [], missing=["x", "y"]))
    assert "No finished run" in page
    assert "2 missing" in page
    page = page_of(sweep("b", [], missing=[f"m{place}" for place in range(50)]))
    assert "50 missing. The first 40 are listed; results.csv has all." in page


@pytest.mark.slow
def test_two_hundred_runs_take_seconds(sweep, record, tmp_path):
    """At most 30 s of processor time."""
    folder = sweep("large", grid(record, ["rnn", "gru", "lstm"], [2**n for n in range(2, 10)], range(9)))
    for entry in ledger.read_entries(folder):
        curve_of(folder / entry.name, [0.5] * 100)
    began = time.process_time()
    text = write_report([folder], tmp_path / "out").read_text("utf-8")
    assert time.process_time() - began < 30
    assert len(text) < 3e6
