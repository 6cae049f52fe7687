"""Text classification: the bundled reviews, NTC-SCV, long texts, report, and runs."""

import hashlib
import logging
import os
import zipfile
from collections import Counter
from typing import ClassVar

import pytest
import torch

import seqlab
from seqlab.contracts.task import max_length
from seqlab.testing import TaskSuite
from seqlab_tasks.splitting import key
from seqlab_tasks.textclf import TextClassification, ntc_scv

from .own_texts import json_lines, rows_of, texts_of


class TestTextClassification(TaskSuite):
    task = TextClassification


class TestWithBalancedClasses(TaskSuite):
    task = TextClassification
    options: ClassVar = {"balance": "sampling", "label_smoothing": 0.1}
    skips: ClassVar = dict.fromkeys(("every_option", "same_in_another_process"), "TestTextClassification runs it")


def test_the_bundled_reviews_are_many_balanced_and_unlike():
    task = TextClassification()
    rows = rows_of(task)
    assert len(rows) == 1600
    assert Counter(label for _, label, _ in rows) == {"neg": 800, "pos": 800}
    assert Counter(split for split, _, _ in rows) == {"train": 1280, "valid": 160, "test": 160}
    assert len({key(text) for _, _, text in rows}) == 1600
    assert task.notes == []


def test_the_bundled_reviews_need_cleaning():
    text = "".join(texts_of(TextClassification()))
    marks = ("https://", "<br", "</p>", "&nbsp;", "😍", "🇻🇳", ":((")
    assert all(part in text for part in (*marks, "\u0085", "\u2028", "\u200b", "\u00a0", "e\u0302"))
    assert "nhân_viên" in text


def archives(folder, texts):
    """Two archives of the corpus's layout; gives their sha256."""
    folder.mkdir(exist_ok=True)
    for name, parts in (
        ("data_train.zip", ("data_train/train", "data_train/test")),
        ("data_test.zip", ("data_test/test",)),
    ):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("__MACOSX/._1.txt", b"\xff")
            for part in parts:
                for label in ("neg", "pos"):
                    archive.writestr(f"{part}/{label}/", b"")
                    for number, text in enumerate(texts):
                        archive.writestr(f"{part}/{label}/{number}.txt", f"{text} {label} {part}".encode("utf-8-sig"))
    names = ("data_train.zip", "data_test.zip")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def test_the_archives_of_ntc_scv(tmp_path):
    hashes = archives(tmp_path, ["ngon\nlắm", "a\u2028b"])
    found = ntc_scv(str(tmp_path), "strict", archives=hashes)
    assert Counter(zip(found.splits, found.labels, strict=True)) == {
        (split, label): 2 for split in ("train", "valid", "test") for label in ("neg", "pos")
    }
    assert found.texts[0] == "ngon\nlắm neg data_train/test"
    assert found.splits[0] == "valid"


def test_a_filled_cache_needs_no_network(tmp_path, monkeypatch):
    hashes = archives(tmp_path / "ntc-scv", ["x"])
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    assert len(ntc_scv(None, "strict", "http://localhost:9/", hashes).texts) == 6


def test_archives_that_cannot_be_had(tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match=r"task.data_dir=.* has no data_train.zip; .* data_train.zip and data_test.zip"
    ):
        TextClassification(source="ntc_scv", data_dir=str(tmp_path)).splits()
    archives(tmp_path, ["x"])
    with pytest.raises(ValueError, match=r"data_train.zip is not the file of https://github.com/.*SHA-256 differs"):
        TextClassification(source="ntc_scv", data_dir=str(tmp_path)).splits()
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(OSError, match=r"task.source=ntc_scv: .*cannot be downloaded.* or use task.source=bundled"):
        ntc_scv(None, "strict", "http://localhost:9/")


@pytest.mark.data
@pytest.mark.skipif("SEQLAB_DATA" not in os.environ, reason="SEQLAB_DATA does not name the folder of the data sets")
def test_the_real_reviews():
    """50,000 in 30 : 10 : 10, halves of each class; 22 copies across the splits are taken out of the earlier one."""
    task = TextClassification(source="ntc_scv", data_dir=f"{os.environ['SEQLAB_DATA']}/ntc_scv")
    splits = task.splits()
    assert {name: examples.targets.bincount().tolist() for name, examples in splits.items()} == {
        "train": [14_991, 14_988], "valid": [5000, 4999], "test": [5000, 5000]
    }  # fmt: skip
    assert not any(text.startswith("\ufeff") for text in splits["train"].inputs)
    assert any("\n" in text for text in splits["train"].inputs)
    assert task.labels == ("neg", "pos")


def test_carrying_chunks_cuts_nothing():
    """A maximum length is cut; with ``carry`` the length is that of a chunk, as the notes say."""
    cut, carried = TextClassification(sequence_length=5), TextClassification(sequence_length=5, chunks="carry")
    assert (max_length(cut), max_length(carried)) == (5, None)
    assert texts_of(carried) == texts_of(cut)
    assert carried.notes == ["texts are read in chunks of 5 tokens with carried state"]


def test_the_report_has_two_figures_and_two_tables(tmp_path):
    task = TextClassification()
    targets = task.splits()["test"].targets
    torch.manual_seed(0)
    outputs = torch.randn(len(targets), 2)
    details = task.details()
    for part, truth in zip(outputs.split(50), targets.split(50), strict=True):
        details.update(part, truth)
    report = task.report(details.compute(), tmp_path)
    assert report.figures == ["confusion.png", "reliability.png"]
    rows = report.tables["reliability"]
    assert sum(row["examples"] for row in rows) == len(targets)
    metrics = task.metrics()
    metrics.update(outputs, targets)
    scores = metrics.compute()
    gaps = sum(row["examples"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / len(targets)
    assert scores["calibration_error"].item() == pytest.approx(gaps)
    assert {"accuracy", "macro_f1", "roc_auc", "calibration_error"} <= set(scores)


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
def test_the_bundled_reviews_are_neither_trivial_nor_hopeless(tmp_path):
    """Counting words classifies most of them, but not all."""
    options = ["task=textclf", "model=bow", "preprocessing.steps=[lower]", "trainer.max_epochs=15", "logger=none"]
    result = seqlab.run(seqlab.compose([*options, "trainer.progress=false"]), tmp_path / "run")
    assert 0.75 < result.metrics["accuracy"] < 0.97
    assert result.record["figures"] == ["confusion.png", "reliability.png"]
    assert result.chance["accuracy"] == result.chance["roc_auc"] == 0.5


@pytest.mark.slow
def test_chunks_are_carried_to_the_end_of_a_text(long_reviews, tmp_path):
    """Texts whose last word decides: their first 10 words are not informative, all of them in chunks of 10 are."""
    options = [f"task.data={long_reviews}", "task.sequence_length=10", "data.batch_size=16", "optimizer.lr=0.02"]
    cut = run(tmp_path / "cut", *options, "trainer.max_epochs=2")
    assert cut.record["data"]["test"]["share_truncated"] == 1
    carried = run(tmp_path / "carried", *options, "task.chunks=carry", "model.truncate=10", "trainer.max_epochs=12")
    assert carried.record["data"]["test"]["share_truncated"] == 0
    assert carried.metrics["accuracy"] > 0.9 > cut.metrics["accuracy"]
    assert "texts are read in chunks of 10 tokens with carried state" in carried.record["notes"]


def test_predictions_of_a_long_text_use_all_of_it(long_reviews, tmp_path):
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
