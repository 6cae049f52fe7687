"""Dropped texts, and cached encodings."""

import logging

import pytest
import torch

from seqlab import Examples, Preprocessor, Ragged
from seqlab.data import encoding
from seqlab.data.datamodule import SequenceData
from seqlab.data.statistics import format_statistics
from seqlab_preprocessing.characters import Characters
from seqlab_preprocessing.words import Words
from seqlab_tasks.classification import Classification


class Letters(Classification, preprocessing="characters"):
    """As many texts as asked for, of two classes."""

    def __init__(self, sequence_length=None, balance="none", balance_power=1.0, label_smoothing=0.0):
        super().__init__(sequence_length, balance, balance_power, label_smoothing)

    def splits(self):
        texts = ["ab", "-", "ba", "--", "bbb", "a"]
        made = {name: Examples(texts, torch.tensor([0, 1, 0, 1, 1, 0])) for name in ("train", "valid", "test")}
        self.set_classes(["x", "y"], made["train"].targets)
        return made


class NoDashes(Characters):
    def dropped(self, texts):
        return {index: "dashes" for index, text in enumerate(texts) if not text.strip("-")}


class Nothing(Characters):
    def dropped(self, texts):
        return dict.fromkeys(range(len(texts)), "all of them")


def test_texts_are_dropped_from_training_only_and_counted():
    data = SequenceData(Letters(balance="sampling"), NoDashes(), batch_size=2)
    data.prepare()
    inputs, targets = data.encoded["train"]
    assert targets.tolist() == [0, 0, 1, 0]
    assert len(inputs) == 4
    assert data.statistics["train"]["dropped"] == {"dashes": 2}
    assert len(data.encoded["test"][1]) == 6
    assert "-" not in data.preprocessor.state_dict()["symbols"]
    assert len(data.train_dataloader().weights) == 4
    assert "dropped 2 (dashes)" in format_statistics(data.statistics)[0]
    assert sum(len(batch.targets) for batch in data.train_dataloader()) == 4


def test_dropping_everything_is_an_error():
    with pytest.raises(ValueError, match="drops every training text, the first one for 'all of them'"):
        SequenceData(Letters(), Nothing()).prepare()


class Counting(Characters):
    calls = 0

    def encode(self, texts):
        type(self).calls += 1
        return super().encode(texts)


def test_large_text_is_encoded_once_and_a_damaged_cache_rebuilt(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(encoding, "_CACHED_FROM", 1)
    found = []
    for calls in (1, 0):  # the three splits hold the same texts
        Counting.calls = 0
        data = SequenceData(Letters(), Counting(), pipeline={"name": "characters"})
        data.prepare()
        assert Counting.calls == calls
        found.append(data.encoded["train"][0].values.tolist())
    assert found[0] == found[1]
    for path in (tmp_path / "encoded").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:50])
    with caplog.at_level(logging.WARNING):
        data = SequenceData(Letters(), Counting(), pipeline={"name": "characters"})
        data.prepare()
    assert "is damaged" in caplog.text
    assert data.encoded["train"][0].values.tolist() == found[0]


def test_the_cache_depends_on_the_pipeline(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(encoding, "_CACHED_FROM", 1)
    for name in ("one", "two"):
        preprocessor: Preprocessor = Counting()
        data = SequenceData(Letters(), preprocessor, pipeline={"name": name})
        data.prepare()
    assert len(list((tmp_path / "dropped").glob("*.json"))) == 2
    assert isinstance(data.encoded["train"][0], Ragged)


class Spaceless(Letters):
    """Texts without spaces: nearly every word of the test split is new."""

    def splits(self):
        found = super().splits()
        texts = ["我喜欢这本书", "ab ab ab", "这部电影很好看", "b", "天气不错", "a"]
        return {**found, "test": Examples(texts, found["test"].targets)}


def test_a_script_without_spaces_is_named():
    for preprocessor, expected in ((Words(), True), (Characters(), True)):
        data = SequenceData(Spaceless(), preprocessor, batch_size=2)
        data.prepare()
        assert any("preprocessing=characters or preprocessing=bpe" in note for note in data.notes) == expected
    data = SequenceData(Letters(), Words(), batch_size=2)
    data.prepare()
    assert not any("preprocessing=bpe" in note for note in data.notes)
