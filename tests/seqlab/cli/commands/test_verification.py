"""``verify``, ``rerun`` and ``replay``: checks of a run folder, and a run that is trained again."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import seqlab
from seqlab import UserError
from seqlab.training import verification


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


def test_a_loss_near_zero_has_no_more_digits_than_float32():
    """The cross-entropy of a sure and right answer, log(1 + 17 exp(-20)), is 3.5e-8, and 0 in float32."""
    exact = math.log1p(17 * math.exp(-20))
    logits = torch.tensor([[20.0] + 17 * [0.0]])
    found = float(torch.nn.functional.cross_entropy(logits, torch.tensor([0])))
    assert abs(found - exact) > verification.CLOSE * exact
    assert verification.compare_metrics("test", {"loss": exact}, {"loss": found}).state == "ok"
    assert verification.compare_metrics("test", {"loss": exact + 1e-5}, {"loss": found}).state == "wrong"


def test_the_bound_follows_the_rounding_error_of_the_run(cli, copy):
    """A metric may differ by 16 times what it differs from the same in float64, and by no more."""
    trained = seqlab.load(copy)
    plain = json.loads((copy / "results.json").read_text("utf-8"))["config"]
    metrics, *_ = verification.rescore(trained, plain)
    error = verification._rounding(trained, plain, metrics)
    assert error.keys() == metrics.keys()
    assert max(error.values()) < 1e-6
    measured = {"loss": 1e-3}
    assert verification.compare_metrics("test", {"loss": 1.010}, {"loss": 1.0}, measured).state == "ok"
    assert verification.compare_metrics("test", {"loss": 1.010}, {"loss": 1.0}).state == "wrong"
    assert verification.compare_metrics("test", {"loss": 1.017}, {"loss": 1.0}, measured).state == "wrong"


def test_weights_of_another_shape(cli, copy):
    weights = load_file(copy / "model.safetensors")
    weights["head.bias"] = torch.zeros(77)
    save_file(weights, copy / "model.safetensors")
    shown = cli("verify", str(copy))
    assert shown.code == 1
    assert "does not fit together" in shown.err
    assert "head.bias" in shown.err


def test_a_wrong_metric(cli, copy):
    change(copy / "results.json", lambda record: record["metrics"]["test"].update(accuracy=0.123))
    shown = cli("verify", str(copy), "--json")
    assert shown.code == 1
    assert states(shown)["test metrics"] == "wrong"
    assert "accuracy was 0.123" in shown.out
    assert cli("verify", str(copy), "--no-score").code == 0


def test_other_versions_are_reported(cli, copy):
    change(copy / "results.json", lambda record: record["versions"].update(torch="1.0"))
    shown = cli("verify", str(copy), "--no-score", "--json")
    assert shown.code == 0
    assert states(shown)["versions"] == "differs"
    assert "torch was 1.0" in shown.out


def test_metrics_are_reproduced(cli, tongues, tmp_path):
    shown = cli("rerun", str(tongues), "--out", "again")
    assert shown.code == 0, shown
    assert "the same bytes" in shown.out
    assert "to the last digit" in shown.out
    record = json.loads((tmp_path / "again" / "results.json").read_text("utf-8"))
    assert record["command"] == f"seqlab rerun {tongues}"
    shown = cli("rerun", str(tongues), "--out", "again")
    assert shown.code == 1
    assert "is there already" in shown.err


def test_metrics_are_not_reproduced(cli, tongues, tmp_path):
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


@pytest.fixture(params=["names", "lm"])
def broken(request, names_folder, tmp_path):
    """A run whose weights grow too large."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"line {n} of a text\n" for n in range(300)), "utf-8")
    data = {"names": [f"task.data_dir={names_folder}"], "lm": [f"task.data={text}", "task.sequence_length=20"]}
    options = [f"task={request.param}", "cell=rnn", "cell.nonlinearity=relu", "optimizer=sgd", "optimizer.lr=1e18"]
    options += ["trainer.max_epochs=3", "cell.hidden_size=8", "data.batch_size=16", "logger=none"]
    options += ["optimizer.warmup=0", "trainer.progress=false", "trainer.gradient_clip_val=null"]
    with pytest.raises(UserError, match="seqlab replay"):
        seqlab.run(seqlab.compose([*options, *data[request.param]]), tmp_path / "run")
    return tmp_path / "run"


def test_it_names_the_first_part_that_is_not_finite(cli, broken):
    shown = cli("replay", str(broken / "nonfinite"), "--json")
    assert shown.code == 0, shown
    found = json.loads(shown.out)
    assert found["loss"] == found["value"]
    first = found["first"]
    assert first is None or found["outputs"][first]["not_finite"] > 0
    assert max(found["largest_weights"].values()) > 1e10
    shown = cli("replay", str(broken))
    assert shown.code == 0
    assert "largest output" in shown.out
