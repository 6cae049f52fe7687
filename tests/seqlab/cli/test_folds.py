"""Cross-validation by one command: mean and interval over folds, and a model of all rows."""

import csv
import json
import math
import statistics
from pathlib import Path

import pytest

from seqlab.cli.folds import requested_folds
from seqlab.plugins.hydra_source import Sources, using_sources

QUICK = ["trainer.max_epochs=2", "cell.hidden_size=4", "data.batch_size=16", "logger=none", "trainer.progress=false"]


def test_one_command_runs_the_folds_and_a_model_of_all_rows(cli):
    words = ["good", "nice", "poor", "bad", "film", "plot"]
    with Path("table.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(f"{words[row % 4]} {words[row % 6]} {row}", "ab"[row % 4 // 2]) for row in range(48)]
        csv.writer(file).writerows([("text", "label"), *rows])
    command = ["task=textclf", "task.data=table.csv", "task.folds=3", "task.refit=true", *QUICK]
    done = cli(*command, "hydra.run.dir=final")
    assert done.code == 0, done.err
    (sweep,) = Path("runs/sweeps").iterdir()
    folds = [json.loads(path.read_text("utf-8")) for path in sorted(sweep.glob("*/results.json"))]
    assert sorted(record["config"]["task"]["fold"] for record in folds) == [0, 1, 2]
    values = [record["metrics"]["test"]["accuracy"] for record in folds]
    written = json.loads((sweep / "folds.json").read_text("utf-8"))
    found = written["metrics"]["accuracy"]
    ratio = statistics.fmean(each["data"]["test"]["examples"] / each["data"]["train"]["examples"] for each in folds)
    half = 4.302653 * statistics.stdev(values) * math.sqrt(1 / 3 + ratio)  # Student's quantile of two degrees
    assert found["mean"] == statistics.fmean(values)
    assert found["low"] == max(0, found["mean"] - half) or math.isclose(
        found["low"], found["mean"] - half, rel_tol=1e-5
    )
    final = json.loads(Path("final/results.json").read_text("utf-8"))
    assert final["data"]["train"]["examples"] == 48
    epochs = [record["best"]["epoch"] for record in folds]
    assert final["config"]["trainer"]["max_epochs"] == 1 + round(statistics.fmean(epochs))  # counted from 0
    card = json.loads(Path("final/model.json").read_text("utf-8"))
    assert card["estimate"] == final["estimate"] == written
    assert "estimate for this model, by 3 folds" in done.out
    assert all("estimate" not in record for record in folds)
    assert cli("predict", "final", "good film").code == 0
    before = {path: path.stat().st_mtime_ns for path in sweep.glob("*/results.json")}
    again = cli(*command, "hydra.run.dir=other")
    assert again.code == 0, again.err
    assert {path: path.stat().st_mtime_ns for path in sweep.glob("*/results.json")} == before


@pytest.fixture
def own_configs(tmp_path):
    """A primary config and a config of the group task that set folds."""
    folder = tmp_path / "conf"
    (folder / "task").mkdir(parents=True)
    (folder / "mine.yaml").write_text("defaults: [config, _self_]\ntask: {folds: 2}\n", "utf-8")
    (folder / "task" / "mine.yaml").write_text("defaults: [names, _self_]\nfolds: 3\n", "utf-8")
    return (folder.as_uri(),)


def test_folds_of_config_files_are_requested(own_configs):
    assert requested_folds(["task=names"]) is None
    with using_sources(Sources("mine", own_configs)):
        assert requested_folds([]) == 2
        assert requested_folds(["task.fold=1"]) is None
        assert requested_folds(["task.folds=null"]) is None
    with using_sources(Sources(folders=own_configs)):
        assert requested_folds(["task=mine"]) == 3
        assert requested_folds(["task=names"]) is None


@pytest.mark.slow
def test_folds_of_a_config_file_run(cli, own_configs):
    quick = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "logger=none", "trainer.progress=false"]
    done = cli("--config-dir", "conf", "--config-name", "mine", *quick)
    assert done.code == 0, done.err
    assert "test scores over 2 folds" in done.out
    assert len(list(Path("runs/sweeps").glob("*/*/results.json"))) == 2


def test_a_fold_alone_is_a_run(cli):
    done = cli(
        "task=names", "task.folds=5", "task.fold=2", *QUICK, "hydra.run.dir=one", "trainer.limit_train_batches=2"
    )
    assert done.code == 0, done.err
    assert "test is fold 2 of 5" in done.out
    wrong = cli("task=names", "task.folds=1", *QUICK)
    assert wrong.code == 1
    assert "task.folds must be >= 2, got 1" in wrong.err
    assert not Path("runs").exists()
