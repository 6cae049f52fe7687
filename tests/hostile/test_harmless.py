"""Hostile inputs that are valid data: accepted, and harmless."""

import io
import json
import time

import pytest

from seqlab.cli.terminal import GuardedStream
from seqlab.io.safe_io import escape_control, normalise_unicode
from seqlab_preprocessing import steps
from seqlab_preprocessing.package_steps import html, mojibake
from seqlab_preprocessing.words import Reviews
from seqlab_tasks.names import clean

MANY = 40_000
LONG = {
    "digits before a letter": "1" * MANY + "a",
    "emoticons in layers": ":" * MANY + "\u2665" + "-D" * MANY,
    "addresses in layers": "a.vn" * MANY + "http://b",
    "dots and no ending": "http://" + "." * MANY,
    "labels of a domain and no ending": "a." * MANY,
    "tags that never end": "<a " * MANY,
    "quotes in a tag that never ends": "<a " + '"' * MANY,
    "comments that never end": "<!--" * MANY,
    "entities that are none": "&a" * MANY,
    "a letter with marks": "a" + "\u0301" * MANY,
    "marks in two orders": "a" + "\u0301\u0323" * MANY,
    "what Unicode writes out at length": "\ufdfa" * MANY,
    "apostrophes": "'" * MANY + "a" + "_'" * MANY,
    "brackets": ":" + "(" * MANY + "x",
    "scripts": "<script>" * MANY,
    "what looks like the wrong encoding": "\u00c3\u00b3" * MANY,
}
STEPS = {
    "ascii": steps.ascii_fold, "emoji": steps.emoji, "mojibake": mojibake, "nfkc": steps.nfkc, "nfc": steps.nfc,
    "lines": lambda text: normalise_unicode("NFC", text), "whitespace": steps.whitespace,
    "punctuation": steps.punctuation, "urls": steps.urls, "html": html, "names": clean,
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_no_step_takes_long_over_a_text_that_was_made_for_it(step):
    """What takes the square of 40,000 characters takes far longer."""
    for what, text in LONG.items():
        began = time.process_time()
        assert isinstance(STEPS[step](text), str)
        assert time.process_time() - began < 5, what


def test_no_text_breaks_a_pipeline():
    texts = list(LONG.values())
    made = Reviews()
    made.fit(["one two three"])
    assert len(made.encode(texts)) == len(texts)


def test_what_is_printed_commands_no_terminal():
    kept = io.StringIO()
    GuardedStream(kept).write("a\x1b[2Jb\x9bc\u202ed\te\r\n")
    assert kept.getvalue() == "a\\x1b[2Jb\\x9bc\\u202ed\te\r\n"
    assert escape_control("é\u0301 ok") == "é\u0301 ok"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_colours_and_progress_bars_pass_to_a_terminal():
    kept = Terminal()
    GuardedStream(kept).write("\x1b[1mbold\x1b[0m\x1b[2K\x1b]0;title\x07")
    assert kept.getvalue() == "\x1b[1mbold\x1b[0m\x1b[2K\\x1b]0;title\\x07"


def test_a_report_of_a_run_with_a_script_in_its_names_runs_none(target, call):
    path = target / "run" / "results.json"
    record = json.loads(path.read_text("utf-8"))
    evil = "</code><script>alert(1)</script><img src=x onerror=alert(1)>$\\frac{"
    record |= {"command": evil, "notes": [evil], "title": evil}
    record["config"]["task"]["name"] = "<script>"
    record["versions"] = {evil: evil}
    record["metrics"]["test"] = {record["best"]["monitor"]: 0.5, evil: 0.5}
    path.write_text(json.dumps(record), "utf-8")
    code, _, err, _ = call("report", "run")
    assert code == 0, err
    page = (target / "run" / "report" / "report.html").read_text("utf-8")
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<img" not in page
    assert "onerror=" not in page.replace("onerror=alert(1)&gt;", "")
    assert sorted(each.name for each in target.iterdir()) == ["outside", "run", "texts.csv"]


def test_pictures_are_not_called_by_what_a_record_says(target, call):
    """A task that is called like a path is damaged, and the report stays in its folder."""
    path = target / "run" / "results.json"
    record = json.loads(path.read_text("utf-8"))
    record["config"]["task"]["name"] = "../../outside/evil"
    path.write_text(json.dumps(record), "utf-8")
    code, _, err, _ = call("report", "run")
    assert code == 0, err
    assert "config.task.name" in (target / "run" / "report" / "report.md").read_text("utf-8")
    assert [each.name for each in (target / "outside").iterdir()] == ["precious"]


def test_a_plan_that_leads_out_of_its_sweep_is_a_fault_of_the_report(target, call):
    plan = {"schema": 1, "words": [], "working_folder": "/", "runs": [{"name": "../run", "words": []}], "open": False}
    (target / "sweep").mkdir()
    (target / "sweep" / "sweep.json").write_text(json.dumps(plan), "utf-8")
    code, _, err, _ = call("report", "sweep")
    assert code == 0, err
    assert "no name of a folder" in (target / "sweep" / "report" / "report.md").read_text("utf-8")
