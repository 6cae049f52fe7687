"""``verify``: a run folder against what it says of itself."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file


@pytest.fixture
def copy(tongues, tmp_path):
    shutil.copytree(tongues, tmp_path / "copy")
    return tmp_path / "copy"


def states(finished):
    return {finding["what"]: finding["state"] for finding in json.loads(finished.out)["findings"]}


def change(path, alter):
    record = json.loads(path.read_text("utf-8"))
    alter(record)
    path.write_text(json.dumps(record), "utf-8")


def test_a_whole_run(cli, tongues):
    shown = cli("verify", str(tongues), "--json")
    assert shown.code == 0, shown
    assert set(states(shown).values()) == {"ok"}
    assert "to the last digit" in shown.out
    assert "test metrics" in cli("verify", str(tongues)).out


def test_weights_that_were_changed(cli, copy):
    weights = load_file(copy / "model.safetensors")
    name = next(name for name in weights if "head" in name and weights[name].dim() == 2)
    weights[name] = -weights[name]
    save_file(weights, copy / "model.safetensors")
    shown = cli("verify", str(copy), "--json")
    assert shown.code == 1
    assert states(shown) | {"versions": "ok"} == {
        "hashes": "wrong",
        "shapes": "ok",
        "versions": "ok",
        "data": "ok",
        "test metrics": "wrong",
    }
    assert "model.safetensors" in shown.out


def test_weights_of_another_shape(cli, copy):
    weights = load_file(copy / "model.safetensors")
    weights["head.bias"] = torch.zeros(77)
    save_file(weights, copy / "model.safetensors")
    shown = cli("verify", str(copy))
    assert shown.code == 1
    assert "does not fit together" in shown.err
    assert "head.bias" in shown.err


def test_a_metric_that_does_not_come_out(cli, copy):
    change(copy / "results.json", lambda record: record["metrics"]["test"].update(accuracy=0.123))
    shown = cli("verify", str(copy), "--json")
    assert shown.code == 1
    assert states(shown)["test metrics"] == "wrong"
    assert "accuracy was 0.123" in shown.out
    assert cli("verify", str(copy), "--no-score").code == 0


def test_other_versions_are_told(cli, copy):
    change(copy / "results.json", lambda record: record["versions"].update(torch="1.0"))
    shown = cli("verify", str(copy), "--no-score", "--json")
    assert shown.code == 0
    assert states(shown)["versions"] == "differs"
    assert "torch was 1.0" in shown.out


def test_no_run(cli, tmp_path):
    shown = cli("verify", str(tmp_path))
    assert shown.code == 1
    assert "no results.json" in shown.err
