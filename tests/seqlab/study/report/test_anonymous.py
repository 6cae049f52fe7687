"""Anonymous reports: no path, name, host or commit, in any file."""

import csv
import getpass
import socket
from pathlib import Path

import pytest

from seqlab.study.report import write_report
from seqlab.study.report.anonymous import Scrubber
from seqlab.study.report.writer import compose

from .sweep_folders import flow_of, horizon_of


@pytest.fixture
def alice(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "alice.liddell")
    monkeypatch.setattr(socket, "gethostname", lambda: "rabbit-hole.wonder.land")
    return Scrubber()


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("task.data=/home/x/reviews.csv cell=gru", "task.data=PATH cell=gru"),
        ("~/data/a.csv, C:\\Users\\x\\a.csv", "PATH, PATH_2"),
        ("at rabbit-hole by Alice.Liddell", "at NAME by NAME"),
        ("write to a.b@c.org", "write to MAIL"),
        ("steps/s, 2/3 of the seeds, on/off, 1.5e-3, https://example.org/a", None),
        ("the list of names", None),
    ],
)
def test_what_identifies_someone_is_replaced(alice, text, scrubbed):
    assert alice.text(text) == (text if scrubbed is None else scrubbed)


@pytest.mark.parametrize("form", ["html", "latex"])
def test_no_file_identifies_anyone(sweep, record, tmp_path, alice, form):
    made = [
        record(cell, 4, seed, 0.9, task__data="/home/alice.liddell/secret/a.csv")
        for cell in ("gru", "rnn")
        for seed in (0, 1)
    ]
    for each in made:
        each["git"] = {"commit": "c0ffee0123456789", "dirty": False}
        each["command"] += " hydra.run.dir=/scratch/alice.liddell/runs logger.wandb.entity=cheshire"
    made[0]["config"]["task"]["data"] = "/data/other/b.csv"  # a setting that varies is in labels and figures
    folder = sweep("liddell", made, ["never"])
    horizon_of(folder)
    out = write_report([folder], tmp_path / "out", form=form, anonymous=True).parent
    hidden = (
        "liddell",
        "secret",
        "scratch",
        "c0ffee",
        "rabbit",
        "cheshire",
        "b.csv",
        str(tmp_path),
        Path(str(tmp_path)).name,
    )
    files = [path for path in out.rglob("*") if path.suffix in (".html", ".md", ".csv", ".tex", ".svg", ".pdf")]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes().lower()
        assert [word for word in hidden if word.lower().encode() in content] == [], path


@pytest.mark.parametrize("name", ["alice", "max"])  # the latter is a mode, too
def test_rows_and_verdicts_are_those_of_the_report_with_names(sweep, record, monkeypatch, name):
    monkeypatch.setattr(getpass, "getuser", lambda: name)
    made = [
        record("gru", 4, seed, score, task__data=f"/home/{name}/{file}.csv")
        for file, score in (("a", 1.0), ("b", 0.1))
        for seed in (0, 1)
    ]
    document, tables = compose([sweep(f"of_{name}", made)], anonymous=True)
    rows = list(csv.DictReader(tables["results.csv"].splitlines()))
    assert [row["label"] for row in rows] == ["gru data=PATH"] * 2 + ["gru data=PATH_2"] * 2
    sentence = document.sections[0].blocks[0].text
    assert "gru data=PATH reaches 4 steps" in sentence
    assert "gru data=PATH_2 reaches no distance" in sentence


def test_computers_of_runs_and_further_forms_of_paths():
    scrubber = Scrubber()
    assert scrubber.text("its process on node7.uni.edu is gone") == "its process on NAME is gone"
    assert scrubber.text("uri=file:///home/x/runs to=host:/home/x/y") == "uri=PATH to=host:PATH_2"
    assert scrubber.text("A=/a/b:/home/x/c") == "A=PATH_3:PATH_4"


def test_damaged_curves_are_named_without_their_folders(sweep, record, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = sweep("liddell", [record("gru")])
    flow_of(folder / "run_0")
    (folder / "run_0" / "curves" / "saturation.csv").write_text("step,layer\n")
    page, tables = compose([folder.relative_to(tmp_path)], anonymous=True)
    assert "saturation.csv" in tables["results.csv"]
    assert "liddell" not in tables["results.csv"] + str(page)
