"""Anonymous reports: no path, name, host or commit, in any file."""

import getpass
import socket
from pathlib import Path

import pytest

from seqlab.study.report import write_report
from seqlab.study.report.anonymous import Scrubber

from .sweep_folders import horizon_of


@pytest.fixture
def alice(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "alice.liddell")
    monkeypatch.setattr(socket, "gethostname", lambda: "rabbit-hole.wonder.land")
    return Scrubber()


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("task.data=/home/x/reviews.csv cell=gru", "task.data=PATH cell=gru"),
        ("~/data/a.csv, C:\\Users\\x\\a.csv", "PATH, PATH"),
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
        each["command"] += " hydra.run.dir=/scratch/alice.liddell/runs logger.wandb.entity=alice.liddell"
    made[0]["config"]["task"]["data"] = "/data/other/b.csv"  # a setting that varies is in labels and figures
    folder = sweep("liddell", made, ["never"])
    horizon_of(folder)
    out = write_report([folder], tmp_path / "out", form=form, anonymous=True).parent
    hidden = ("liddell", "secret", "scratch", "c0ffee", "rabbit", "b.csv", str(tmp_path), Path(str(tmp_path)).name)
    files = [path for path in out.rglob("*") if path.suffix in (".html", ".md", ".csv", ".tex", ".svg", ".pdf")]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes().lower()
        assert [word for word in hidden if word.lower().encode() in content] == [], path
