"""``rerun``: the same training once more."""

import json
import shutil


def test_the_numbers_come_out_again(cli, tongues, tmp_path):
    shown = cli("rerun", str(tongues), "--out", "again")
    assert shown.code == 0, shown
    assert "the same bytes" in shown.out
    assert "to the last digit" in shown.out
    record = json.loads((tmp_path / "again" / "results.json").read_text("utf-8"))
    assert record["command"] == f"seqlab rerun {tongues}"
    shown = cli("rerun", str(tongues), "--out", "again")
    assert shown.code == 1
    assert "is there already" in shown.err


def test_numbers_that_do_not(cli, tongues, tmp_path):
    shutil.copytree(tongues, tmp_path / "copy")
    path = tmp_path / "copy" / "results.json"
    record = json.loads(path.read_text("utf-8"))
    record["config"]["seed"] = 5
    record["metrics"]["test"]["loss"] = 123.0
    path.write_text(json.dumps(record), "utf-8")
    shown = cli("rerun", str(tmp_path / "copy"))
    assert shown.code == 1
    assert (tmp_path / "copy_again" / "results.json").is_file()
    assert "not the same bytes" in shown.out
    assert "loss was 123.0" in shown.out
