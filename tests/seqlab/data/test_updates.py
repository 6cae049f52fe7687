"""Batch size and epochs of small data, by a least number of updates."""

import csv
import math

import pytest

import seqlab
from seqlab.config.schema import plain_config
from seqlab.data.updates import FEW, choose_updates, few_updates
from seqlab.training.session import prepare_data

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def table(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"{WORDS[row % 10]} {row}", "ab"[row % 2]] for row in range(rows))
    return path


def chosen(*overrides):
    config = plain_config(seqlab.compose([*overrides, "logger=none", "trainer.progress=false"]))
    task, data = prepare_data(config)
    found = choose_updates(config, task, data)
    batches = len(data.train_dataloader())
    assert found["data"]["batch_size"] == data.batch_size
    note = few_updates(found, task, data)
    assert (note is not None) == (batches * found["trainer"]["max_epochs"] < FEW)
    return found["data"]["batch_size"], found["trainer"]["max_epochs"], batches, note


@pytest.mark.parametrize("rows", [20, 300, 1_600, 10_000])
def test_small_data_have_small_batches_then_more_epochs(rows, tmp_path):
    """The first halving that reaches 1,000 updates; or batches of 32 and as many epochs as reach them, up to 100."""
    batch, epochs, batches, _ = chosen("task=textclf", f"task.data={table(tmp_path / 'table.csv', rows)}")
    train = rows * 8 // 10
    sizes = [size for size in (256, 128, 64, 32) if 10 * math.ceil(train / size) >= 1_000]
    assert batch == (sizes[0] if sizes else 32)
    assert epochs == (10 if sizes else min(100, math.ceil(1_000 / batches)))


def test_values_that_are_set_stay(tmp_path):
    data = f"task.data={table(tmp_path / 'table.csv', 300)}"
    assert chosen("task=textclf", data, "data.batch_size=100")[:2] == (100, 100)
    assert chosen("task=textclf", data, "trainer.max_epochs=3")[:2] == (32, 3)
    batch, epochs, _, note = chosen("task=textclf", data, "trainer.max_epochs=3", "data.batch_size=256")
    assert (batch, epochs) == (256, 3)
    assert "few updates: 3 (3 epochs of 1)" in note
    assert "data.batch_size=256" in note
    assert "trainer.max_epochs" in note
    config = plain_config(seqlab.compose(["task=textclf", data, "trainer.max_steps=7"]))
    found = choose_updates(config, *prepare_data(config))
    assert (found["data"]["batch_size"], found["trainer"]["max_epochs"]) == (256, 10)
    assert "trainer.max_steps" in few_updates(found, *prepare_data(config))


def test_running_text_has_fewer_streams_then_more_epochs(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    path = tmp_path / "text.txt"
    path.write_text("some text in lines\n" * 20_000)
    options = ["task=lm", f"task.data={path}", "task.held_out=0.1"]
    assert chosen(*options, "task.sequence_length=25")[:2] == (16, 2)  # 304,000 characters, 760 windows of 16 streams
    assert chosen(*options, "task.sequence_length=5")[:2] == (64, 2)
    batch, epochs, batches, _ = chosen(*options)
    assert (batch, epochs, batches) == (16, 6, 191)


def test_a_resumed_run_keeps_its_numbers(tmp_path):
    path = table(tmp_path / "table.csv", 40)
    words = ["task=textclf", f"task.data={path}", "cell.hidden_size=4", "logger=none", "trainer.progress=false"]
    words += ["trainer.early_stopping=5"]
    with pytest.raises(seqlab.training.checkpoint.StepReachedError):
        seqlab.run(seqlab.compose(words), tmp_path / "run", until=2)
    result = seqlab.run(seqlab.compose([*words, "ckpt_path=last"]), tmp_path / "run")
    config = result.record["config"]
    assert (config["data"]["batch_size"], config["trainer"]["max_epochs"]) == (32, 100)
    assert len(result.record["history"]) == 1
    other = [*words, "ckpt_path=last", "data.batch_size=16"]
    (tmp_path / "run" / "results.json").unlink()
    with pytest.raises(seqlab.UserError, match=r"data\.batch_size was 32, is 16"):
        seqlab.run(seqlab.compose(other), tmp_path / "run")
