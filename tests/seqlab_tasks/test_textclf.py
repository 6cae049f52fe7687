"""Text classification: the bundled reviews, NTC-SCV, splits, long texts, metrics and report."""

import hashlib
import os
import zipfile
from collections import Counter
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab.contracts.task import max_length
from seqlab.testing import TaskSuite
from seqlab_tasks.textclf import TextClassification
from seqlab_tasks.textclf.documents import Documents, arrange, key
from seqlab_tasks.textclf.sources import ntc_scv

from .own_texts import rows_of, texts_of


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


def test_the_bundled_reviews_have_the_dirt_that_cleaning_is_there_for():
    text = "".join(texts_of(TextClassification()))
    for dirt in (
        "https://",
        "<br",
        "</p>",
        "&nbsp;",
        "😍",
        "🇻🇳",
        ":((",
        "\u0085",
        "\u2028",
        "\u200b",
        "\u00a0",
        "e\u0302",
    ):
        assert dirt in text
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
        ValueError, match=r"task.data_dir=.* holds no data_train.zip; .* data_train.zip and data_test.zip"
    ):
        TextClassification(source="ntc_scv", data_dir=str(tmp_path)).splits()
    archives(tmp_path, ["x"])
    with pytest.raises(ValueError, match=r"data_train.zip is not the file of https://github.com/.*sha256 differs"):
        TextClassification(source="ntc_scv", data_dir=str(tmp_path)).splits()
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(OSError, match=r"task.source=ntc_scv: .*cannot be fetched.* or use task.source=bundled"):
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
    """The framework cuts where the length is a maximum; with ``carry`` it is that of a chunk, and the notes say so."""
    cut, carried = TextClassification(sequence_length=5), TextClassification(sequence_length=5, chunks="carry")
    assert (max_length(cut), max_length(carried)) == (5, None)
    assert texts_of(carried) == texts_of(cut)
    assert carried.notes == ["texts are read to their end, in chunks of 5 with carried state"]


def test_the_report_has_two_pictures_and_two_tables(tmp_path):
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


@given(
    rows=st.lists(st.tuples(st.sampled_from("abcdefghij"), st.sampled_from(["x", "y"])), min_size=20, max_size=60),
    seed=st.integers(0, 5),
)
def test_dealing_out_any_texts(rows, seed):
    """Whatever the texts, copies included: either each label is in each split and no text in two, or one clear line."""
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    try:
        found = arrange(Documents(texts, labels), "here", seed)
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert message.startswith("here")
        return
    assert sum(map(len, found.texts.values())) == len(rows)
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not set(found.texts[one]) & set(found.texts[other])
    assert all(set(targets) == {0, 1} for targets in found.targets.values())
