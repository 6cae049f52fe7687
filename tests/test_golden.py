"""Golden fixtures of an earlier release: its configs, keys, runs and sweeps are today's, too.

``python -m tests.golden.write`` wrote them at that release: ``configs.json`` (the default config, and what differs from
it with each set of overrides), ``keys.json`` (of runs and sweeps), the folders ``data``, ``runs`` and ``sweeps`` (what
commands read and left) and ``answers.json`` (predictions and scores of the runs, commands to go on).
``renamed.json`` maps keys to their present names; ``reproduce.words`` stands for ``words`` in a recipe's file.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

import seqlab
from seqlab.plugins.config import added_options
from seqlab.sweeps.plan import ADDED_KEYS, run_key, sweep_key

from .golden.command import HERE, composed, done, parsed, recipes, run, same

if not (HERE / "configs.json").is_file():
    pytest.skip("an sdist has no golden fixtures", allow_module_level=True)


def read(name):
    return json.loads((HERE / name).read_text("utf-8"))


CONFIGS, KEYS, ANSWERS, RENAMED = map(read, ("configs.json", "keys.json", "answers.json", "renamed.json"))
RUNS = sorted(path.name for path in (HERE / "runs").iterdir() if (path / "results.json").is_file())


@pytest.fixture
def golden(tmp_path, monkeypatch):
    """Go to a folder that has copies of the data, runs and sweeps."""
    for name in ("data", "runs", "sweeps"):
        shutil.copytree(HERE / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path


def expected(difference):
    """Return the recorded config under its keys' present names."""
    kept = {key: value for key, value in CONFIGS["default"].items() if key not in difference["gone"]}
    return {RENAMED.get(key, key): value for key, value in (kept | difference["changed"]).items()}


def check_config(overrides, difference):
    found, before = composed(overrides), expected(difference)
    added = {f"{group}.{key}": value for group, keys in ADDED_KEYS.items() for key, value in keys.items()}
    added |= {"hydra.sweeper.protocols": ["fixed"], "hydra.sweeper.group_replicas": False}
    for kind in ("cell", "model", "task"):
        added |= {f"{kind}.{key}": value for key, value in added_options(kind, found[f"{kind}.name"]).items()}
    found = {
        key: value for key, value in found.items() if key in before or key not in added or not same(value, added[key])
    }
    assert found.keys() == before.keys()
    assert {key: value for key, value in found.items() if not same(value, before[key])} == {}


@pytest.mark.parametrize("overrides", CONFIGS["overrides"])
def test_configs_are_composed_as_before(overrides):
    check_config(overrides.split(), CONFIGS["overrides"][overrides])


def test_recipes_compose_the_configs_that_they_did():
    found = dict(recipes(RENAMED))
    assert CONFIGS["recipes"].keys() <= found.keys()
    for name, difference in CONFIGS["recipes"].items():
        check_config(found[name], difference)


@pytest.mark.skipif(seqlab.__version__ != KEYS["seqlab"], reason="a run's key has the version of its plugins in it")
def test_runs_keep_their_keys():
    found = {text: run_key(seqlab.compose(text.split())) for text in KEYS["runs"]}
    assert found == KEYS["runs"]


def test_sweeps_keep_their_keys():
    assert {text: sweep_key(text.split()) for text in KEYS["sweeps"]} == KEYS["sweeps"]


def test_runs_predict_and_score_as_before(golden):
    for record in ANSWERS["questions"]:
        answers = parsed(done(*record["arguments"]))
        for answer, before in zip(answers, record["answers"], strict=True):
            key = "metrics" if "metrics" in before else "predictions"
            assert_close(answer[key], before[key])


def assert_close(found, before):
    """Compare plain values, numbers up to what versions of torch and machines change."""
    if isinstance(before, dict):
        assert found.keys() == before.keys()
        found, before = list(found.values()), [before[key] for key in found]
    if isinstance(before, list):
        for one, other in zip(found, before, strict=True):
            assert_close(one, other)
    else:
        assert found == (pytest.approx(before, abs=1e-4) if isinstance(before, float) else before)


def test_a_language_model_generates(golden):
    for name in ("lm", "ngram"):
        out = done("generate", f"runs/{name}", "--prompt", "the cat", "--length", "5", "--seed", "0")
        assert "the cat" in out


@pytest.mark.parametrize("sweep", ["sweeps/names", "sweeps/horizon"])
def test_status_tells_what_was_done_and_what_was_stopped(golden, sweep):
    assert sorted(states_of(sweep)) == ["done"] * 3 + ["stopped"]


def states_of(sweep):
    (entries,) = parsed(done("status", sweep, "--json"))
    return [entry["state"] for entry in entries]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_verified(golden, name):
    """Versions may differ; hashes, data and metrics may not."""
    code, out, err = run("verify", f"runs/{name}", "--json")
    assert code == 0, f"{out}\n{err}"
    found = {finding["what"]: finding["state"] for finding in json.loads(out)["findings"]}
    assert {what for what, state in found.items() if state != "ok"} <= {"versions"}, out


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_exported(golden, name, no_shape_checks):
    done("export", f"runs/{name}", "--format", "safetensors", "--out", "weights")
    assert Path("weights/model.safetensors").stat().st_size > 0
    if name in ("names", "textclf"):
        done("export", f"runs/{name}", "--format", "onnx", "--out", "onnx")
        assert {"model.onnx", "labels.json", "encode.py"} <= {path.name for path in Path("onnx").iterdir()}


def last_step(folder):
    return torch.load(Path(folder) / "resume.ckpt", weights_only=True)["global_step"]


def command_of(folder):
    """Return the overrides that trained a run, as its results record them."""
    words = json.loads((Path(folder) / "results.json").read_text("utf-8"))["command"].split()[3:]
    return [word for word in words if not word.startswith(("hydra.run.dir=", "trainer.max_steps="))]


@pytest.mark.slow
def test_a_finished_run_goes_on_for_more_steps(golden):
    assert last_step("runs/names") == 15
    done(*command_of("runs/names"), "trainer.max_steps=25", "hydra.run.dir=runs/names", "ckpt_path=last")
    assert last_step("runs/names") == 25
    assert run("verify", "runs/names")[0] == 0


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_its_end(golden):
    """By the line that it printed when it was stopped."""
    before = last_step("runs/stopped")
    done(*ANSWERS["to_go_on"]["runs/stopped"])
    assert last_step("runs/stopped") > before
    assert run("verify", "runs/stopped")[0] == 0


def contents(sweep):
    """Return the files of each run of a sweep that is done."""
    return {
        path: path.read_bytes()
        for folder in Path(sweep).iterdir()
        if (folder / "results.json").is_file()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.slow
def test_a_sweep_does_what_is_not_done(golden):
    """Then the same arguments are the same sweep, of which nothing is left to do."""
    before = contents("sweeps/names")
    done(*ANSWERS["to_go_on"]["sweeps/names"])
    assert states_of("sweeps/names") == ["done"] * 4
    after = contents("sweeps/names")
    assert before.items() <= after.items()
    arguments = json.loads(Path("sweeps/names/sweep.json").read_text("utf-8"))["words"]
    done("-m", *arguments, "hydra.sweep.dir=sweeps/names")
    assert contents("sweeps/names") == after


@pytest.mark.slow
def test_a_horizon_search_goes_on(golden):
    """Its window of three steps ends at 3, and no run that was done is trained anew."""
    before = contents("sweeps/horizon")
    done(*ANSWERS["to_go_on"]["sweeps/horizon"])
    after = contents("sweeps/horizon")
    assert before.items() <= after.items()
    record = json.loads(Path("sweeps/horizon/horizon.json").read_text("utf-8"))
    assert record["finished"]
    assert {row["label"]: row["horizon"] for row in record["rows"]} == {"window": 3, "gru": 4}
    assert states_of("sweeps/horizon") == ["done"] * 5
    done("resume", "sweeps/horizon")
    assert contents("sweeps/horizon") == after


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["sweeps/names", "sweeps/horizon", "runs/gradient_flow"])
def test_a_report_is_written(golden, folder):
    done("report", folder, "--out", "report")
    assert {"report.html", "report.md", "results.csv"} <= {path.name for path in Path("report").iterdir()}
