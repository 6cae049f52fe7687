"""A run from end to end: its folder, repeating, resuming and using it."""

import json

import pytest
import torch

import seqlab
from seqlab import UserError
from seqlab.training.run import train

from ..resumable import interrupted, last, record_of, same, weights_of

FAST = [
    "trainer.max_epochs=4",
    "trainer.early_stopping=null",
    "cell.hidden_size=8",
    "logger=none",
    "data.batch_size=16",
]


def configured(names_folder, *overrides):
    return seqlab.compose([*FAST, f"task.data_dir={names_folder}", "trainer.progress=false", *overrides])


@pytest.mark.parametrize(
    ("cell", "shape"),
    [("rnn", []), ("lstm", []), ("gru", ["model.bidirectional=true", "model.depth=2", "model.dropout=0.2"])],
)
def test_every_cell_learns_to_classify(names_folder, tmp_path, cell, shape):
    overrides = [f"cell={cell}", "trainer.max_epochs=12", "optimizer.lr=0.02", *shape]
    result = seqlab.run(configured(names_folder, *overrides), tmp_path / "run")
    assert result.metrics["accuracy"] > 0.9 > 0.5 > result.chance["accuracy"]
    assert result.verdict == "learning"
    answers = seqlab.load(tmp_path / "run").predict(["Banana", "Bonobo", "Nebele"])
    assert [answer[0]["label"] for answer in answers] == ["Aaish", "Ooish", "Eeish"]


def test_contents_of_the_results(names_folder, tmp_path):
    result = seqlab.run(configured(names_folder), tmp_path / "run")
    record = record_of(tmp_path / "run")
    assert record["schema"] == 1
    assert record["metrics"]["test"] == pytest.approx(dict(result.metrics))
    assert record["chance"]["test"].keys() == record["metrics"]["test"].keys()
    assert record["kernel"]["kernel"] == "vendor"
    cell = record["config"]["cell"]
    assert (cell["name"], cell["hidden_size"]) == ("lstm", 8)
    assert "_target_" not in json.dumps(record["config"])
    assert record["data"]["train"]["length"]["longest"] == 6
    assert record["data"]["test"]["share_unknown"] == 0
    for key in ("wall_seconds", "training_seconds", "examples_per_second", "tokens_per_second", "peak_memory_bytes"):
        assert record["cost"][key] > 0
    assert record["cost"]["state_size"] == 16
    model = seqlab.load(tmp_path / "run").model
    assert record["cost"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert record["versions"]["torch"] == torch.__version__


def test_the_loaded_model_scores_what_the_run_recorded(names_folder, tmp_path):
    """The run folder reproduces the recorded accuracy on the same test split."""
    config = configured(names_folder)
    result = seqlab.run(config, tmp_path / "run")
    trained = seqlab.load(tmp_path / "run")
    from seqlab.config.build import build_task

    task = build_task(config.task)
    test = task.splits()["test"]
    labels = task.state_dict()["labels"]
    hits = [
        answer[0]["label"] == labels[target]
        for answer, target in zip(trained.predict(list(test.inputs)), test.targets.tolist(), strict=True)
    ]
    assert sum(hits) / len(hits) == pytest.approx(result.metrics["accuracy"])


@pytest.mark.parametrize("seed", [0, 5])
def test_the_same_seed_gives_the_same_run(names_folder, tmp_path, seed):
    config = configured(names_folder, f"seed={seed}", "model.dropout=0.3", "model.depth=2")
    runs = [seqlab.run(config, tmp_path / name) for name in ("one", "two")]
    assert same(last(tmp_path / "one"), last(tmp_path / "two"))
    assert same(weights_of(tmp_path / "one"), weights_of(tmp_path / "two"))
    assert runs[0].metrics == runs[1].metrics


def test_another_seed_gives_another_run_on_the_same_split(names_folder, tmp_path):
    for seed in (0, 1):
        seqlab.run(configured(names_folder, f"seed={seed}"), tmp_path / str(seed))
    assert not same(weights_of(tmp_path / "0"), weights_of(tmp_path / "1"))
    cards = [json.loads((tmp_path / str(seed) / "preprocessor.json").read_text("utf-8")) for seed in (0, 1)]
    assert cards[0] == cards[1]


@pytest.mark.parametrize("at", [(1, 0), (2, 3)])
def test_a_resumed_run_equals_the_uninterrupted_one(names_folder, tmp_path, at):
    overrides = ["model.dropout=0.3", "model.depth=2", "trainer.early_stopping=3"]
    whole = seqlab.run(configured(names_folder, *overrides), tmp_path / "whole")
    with interrupted(*at):
        seqlab.run(configured(names_folder, *overrides), tmp_path / "cut")
    torch.manual_seed(99)  # the state of the process does not matter
    torch.rand(7)
    cut = seqlab.run(configured(names_folder, *overrides, "ckpt_path=last"), tmp_path / "cut")
    assert same(last(tmp_path / "whole"), last(tmp_path / "cut"))
    assert same(weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut"))
    assert cut.metrics == whole.metrics
    assert cut.record["best"] == whole.record["best"]


def test_every_epoch_trains_every_batch(names_folder, tmp_path):
    """A loader that is exhausted after its first epoch would train nothing from the second on."""
    result = seqlab.run(configured(names_folder), tmp_path / "run")
    train = result.record["data"]["train"]["examples"]
    assert result.cost["batches"] == 4 * -(-train // 16)
    assert result.cost["examples"] == 4 * train


def test_a_finished_run_is_not_overwritten(names_folder, tmp_path):
    seqlab.run(configured(names_folder), tmp_path / "run")
    with pytest.raises(UserError, match="holds a finished run"):
        seqlab.run(configured(names_folder), tmp_path / "run")


def test_overfit_memorises_its_batches(names_folder, tmp_path):
    config = configured(names_folder, "debug=overfit", "optimizer.lr=0.02")
    result = seqlab.run(config, tmp_path / "run")
    assert result.record["metrics"]["valid"]["accuracy"] > 0.9


@pytest.mark.parametrize("debug", ["limit", "fdr", "profiler"])
def test_debug_configs_run(names_folder, tmp_path, debug):
    assert seqlab.run(configured(names_folder, f"debug={debug}"), tmp_path / "run").metrics


@pytest.mark.parametrize("logger", ["csv", "tensorboard"])
def test_loggers_write_curves(names_folder, tmp_path, logger):
    seqlab.run(configured(names_folder, f"logger={logger}"), tmp_path / "run")
    pattern = {"csv": "curves/metrics.csv", "tensorboard": "tensorboard/version_0/events.*"}[logger]
    files = list((tmp_path / "run").glob(pattern))
    assert files
    if logger == "csv":
        rows = files[0].read_text("utf-8").splitlines()
        assert "train/loss" in rows[0]
        assert "valid/accuracy" in rows[0]
        assert len(rows) >= 5


def test_wandb_runs_offline_without_an_account_and_starts_a_new_run_each_time(names_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("one", "two"):
        seqlab.run(configured(names_folder, "logger=wandb"), tmp_path / name)
        assert len(list((tmp_path / name).glob("wandb/offline-run-*"))) == 1


def test_a_named_kernel_is_used_and_loop_gives_the_same_model(names_folder, tmp_path):
    results = {
        kernel: seqlab.run(configured(names_folder, f"kernel={kernel}"), tmp_path / kernel)
        for kernel in ("loop", "vendor")
    }
    assert {name: result.record["kernel"]["kernel"] for name, result in results.items()} == {
        "loop": "loop", "vendor": "vendor",
    }  # fmt: skip
    loop, vendor = weights_of(tmp_path / "loop"), weights_of(tmp_path / "vendor")
    for name in loop:
        torch.testing.assert_close(loop[name], vendor[name], atol=2e-3, rtol=0)


def test_truncation_is_counted(names_folder, tmp_path):
    result = seqlab.run(configured(names_folder, "task.sequence_length=4"), tmp_path / "run")
    assert result.record["data"]["train"]["share_truncated"] == 1.0
    assert seqlab.load(tmp_path / "run").predict(["Bonobo"]) == seqlab.load(tmp_path / "run").predict(["Bono"])


def test_bow_notes_that_the_cell_is_ignored(names_folder, tmp_path):
    result = seqlab.run(configured(names_folder, "model=bow"), tmp_path / "run")
    assert "`cell` and `kernel` are ignored with model=bow" in result.record["notes"]
    assert result.record["kernel"] == {}
    assert seqlab.load(tmp_path / "run").predict(["Banana"])[0][0]["label"] == "Aaish"


def test_a_run_trained_without_a_test_is_finished_as_if_it_had_one(names_folder, tmp_path):
    """Nothing scores the test split before; early stopping does not begin anew."""
    overrides = ["trainer.early_stopping=1", "trainer.max_epochs=8", "optimizer.lr=0.05"]
    config = configured(names_folder, *overrides)
    metrics = train(config, tmp_path / "run")
    assert not {"results.json", "predictions.safetensors"} & {path.name for path in (tmp_path / "run").iterdir()}
    config.ckpt_path = "last"
    finished = seqlab.run(config, tmp_path / "run")
    whole = seqlab.run(configured(names_folder, *overrides), tmp_path / "whole")
    assert finished.metrics == whole.metrics
    assert finished.record["metrics"]["valid"] == metrics == whole.record["metrics"]["valid"]
    assert finished.cost["steps"] == whole.cost["steps"]
    assert finished.cost["epochs"] < 8, "it stops early"
    assert same(weights_of(tmp_path / "run"), weights_of(tmp_path / "whole"))


def test_a_run_that_stopped_as_the_task_is_solved_does_not_begin_anew(names_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("seqlab.training.callbacks.is_solved", lambda *_: True)
    config = configured(names_folder, "trainer.stop_when_solved=2")
    train(config, tmp_path / "run")
    config.ckpt_path = "last"
    assert seqlab.run(config, tmp_path / "run").cost["epochs"] == 2
