"""Text classification from end to end: a run on the bundled reviews, long texts, word vectors, the experiments."""

import logging

import pytest
import torch

import seqlab

from .own_texts import json_lines

SMALL = ["trainer.progress=false", "logger=none", "cell=gru", "cell.hidden_size=8", "model.embedding_size=8"]


@pytest.fixture
def long_reviews(tmp_path):
    """Texts of 31 to 61 words, of which the last one alone tells the class."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for number in range(120):
        length = int(torch.randint(30, 61, (), generator=generator))
        words = [f"w{word}" for word in torch.randint(20, (length,), generator=generator).tolist()]
        label = "ab"[number % 2]
        rows.append({"text": " ".join([*words, label]), "label": label})
    return json_lines(tmp_path / "long.jsonl", rows)


def run(folder, *overrides):
    return seqlab.run(seqlab.compose([*SMALL, "task=textclf", *overrides]), folder)


@pytest.mark.slow
def test_the_bundled_reviews_are_learned_and_not_given_away(tmp_path):
    """Counting words gets most of them, and not all: some weigh one side against another."""
    options = ["task=textclf", "model=bow", "preprocessing.steps=[lower]", "trainer.max_epochs=15", "logger=none"]
    result = seqlab.run(seqlab.compose([*options, "trainer.progress=false"]), tmp_path / "run")
    assert 0.75 < result.metrics["accuracy"] < 0.97
    assert result.record["figures"] == ["confusion.png", "reliability.png"]
    assert result.chance["accuracy"] == result.chance["roc_auc"] == 0.5


@pytest.mark.slow
def test_chunks_are_carried_to_the_end_of_a_text(long_reviews, tmp_path):
    """Of texts whose last word decides, 10 words tell nothing; read to the end in chunks of 10, they tell all."""
    options = [f"task.data={long_reviews}", "task.sequence_length=10", "data.batch_size=16", "optimizer.lr=0.02"]
    cut = run(tmp_path / "cut", *options, "trainer.max_epochs=2")
    assert cut.record["data"]["test"]["share_truncated"] == 1
    carried = run(tmp_path / "carried", *options, "task.chunks=carry", "model.truncate=10", "trainer.max_epochs=12")
    assert carried.record["data"]["test"]["share_truncated"] == 0
    assert carried.metrics["accuracy"] > 0.9 > cut.metrics["accuracy"]
    assert "texts are read to their end, in chunks of 10 with carried state" in carried.record["notes"]


def test_what_predict_says_of_a_long_text_is_said_of_the_whole(long_reviews, tmp_path):
    """The same weights without chunks, on the whole text at once."""
    options = [f"task.data={long_reviews}", "task.sequence_length=10", "trainer.max_epochs=1", "task.chunks=carry"]
    run(tmp_path / "run", *options, "model.truncate=10")
    text = " ".join(f"w{number % 20}" for number in range(137))
    trained = seqlab.load(tmp_path / "run")
    (chunked,) = trained.predict([text])
    trained.model.recurrent.truncate = 0
    (whole,) = trained.predict([text])
    assert [answer["label"] for answer in chunked] == [answer["label"] for answer in whole]
    for mine, theirs in zip(chunked, whole, strict=True):
        assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-6)


def test_word_vectors_are_counted_and_the_run_predicts_without_their_file(long_reviews, tmp_path, caplog):
    path = tmp_path / "vectors.txt"
    path.write_text(
        "".join(f"w{word} " + " ".join(["0.5"] * 8) + "\n" for word in range(15)) + "zzz " + "1 " * 8 + "\n"
    )
    with caplog.at_level(logging.INFO, "seqlab"):
        run(tmp_path / "run", f"task.data={long_reviews}", f"model.vectors={path}", "trainer.max_epochs=1")
    assert f"vectors: 15 of 23 symbols found in {path}" in caplog.messages  # w0 to w19, a, b and the unknown one
    path.unlink()
    assert len(seqlab.load(tmp_path / "run").predict(["w1 w2 a"])) == 1


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["ntc_scv", "ntc_scv_bow", "ntc_scv_deck"])
def test_the_experiments_start(tmp_path, experiment):
    """On the bundled reviews instead of theirs, two steps of two epochs."""
    limits = [f"trainer.limit_{split}_batches=2" for split in ("train", "val", "test")]
    options = [f"experiment={experiment}", "task.source=bundled", "trainer.max_epochs=2", "logger=none", *limits]
    result = seqlab.run(seqlab.compose([*options, "trainer.progress=false"]), tmp_path / "run")
    assert result.record["cost"]["epochs"] == 2
