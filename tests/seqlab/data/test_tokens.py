"""Encoded text in the cache: the same as encoding it directly, rebuilt when damaged, safe for several processes."""

import logging
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import seqlab
from seqlab import Corpus
from seqlab.data import tokens
from seqlab_preprocessing.characters import Characters
from seqlab_preprocessing.words import Words

PIECES = ["ab\n", "cab ä\n", "\n", "no line end"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))


def make(pieces=tuple(PIECES), fingerprint="a text"):
    text = "".join(pieces)
    return Corpus(lambda: iter(pieces), len(text.encode()), fingerprint)


@pytest.mark.parametrize("make_preprocessor", [Characters, lambda: Words(end_of_line=True)])
def test_the_file_holds_what_encoding_gives(make_preprocessor):
    preprocessor = make_preprocessor()
    tokens.fit_corpus(make(), preprocessor, {"name": "p"})
    stored = tokens.encode_corpus(make(), preprocessor, {"name": "p"}, "train")
    expected = preprocessor.encode(PIECES).values
    assert torch.equal(stored.read_all().long(), expected)
    assert stored.read(2, 5).tolist() == expected[2:7].tolist()
    assert stored.facts["counts"] == torch.bincount(expected, minlength=preprocessor.size).tolist()
    assert stored.facts["bytes"] == len("".join(PIECES).encode())


def test_a_copy_for_another_process_opens_the_file_itself():
    """A data worker that is spawned does not have the open files of the process that sends it."""
    preprocessor = Characters()
    tokens.fit_corpus(make(), preprocessor, None)
    stored = tokens.encode_corpus(make(), preprocessor, None, "train")
    sent, expected = pickle.dumps(stored), stored.read_all().tolist()
    del stored
    assert pickle.loads(sent).read(0, len(expected)).tolist() == expected


def test_a_vocabulary_is_cached_by_text():
    first, again, other = Characters(), Characters(), Characters()
    tokens.fit_corpus(make(), first, {"name": "p"})
    tokens.fit_corpus(Corpus(lambda: iter(()), 1, "a text"), again, {"name": "p"})  # is not read
    assert again.state_dict() == first.state_dict()
    tokens.fit_corpus(make(("xyz",), "another"), other, {"name": "p"})
    assert other.state_dict() != first.state_dict()


def test_a_damaged_file_is_rebuilt_with_a_warning(tmp_path, caplog):
    preprocessor = Characters()
    tokens.fit_corpus(make(), preprocessor, None)
    stored = tokens.encode_corpus(make(), preprocessor, None, "train")
    whole = stored.path.read_bytes()
    for broken in (whole[:-1], bytes([whole[0] ^ 1]) + whole[1:], b""):
        stored.path.write_bytes(broken)
        with caplog.at_level(logging.WARNING):
            assert (
                tokens.encode_corpus(make(), preprocessor, None, "train").read_all().tolist()
                == stored.read_all().tolist()
            )
        assert "is damaged" in caplog.text
        assert stored.path.read_bytes() == whole
        caplog.clear()


def test_concurrent_encoding_agrees():
    preprocessor = Characters()
    tokens.fit_corpus(make(), preprocessor, None)
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda _: tokens.encode_corpus(make(), preprocessor, None, "train").read_all().tolist(), range(8))
        )
    assert all(each == found[0] for each in found)


def test_an_unreadable_text_leaves_no_half_file(tmp_path):
    def pieces():
        yield "abc"
        raise ValueError("task.data=x: byte 3 is not UTF-8")

    preprocessor = Characters()
    preprocessor.fit(["abc"])
    with pytest.raises(ValueError, match="byte 3"):
        tokens.encode_corpus(Corpus(pieces, 4, "broken"), preprocessor, None, "train")
    assert not [path for path in (tmp_path / "corpora").iterdir() if path.suffix != ".lock"]


def test_the_first_input_is_a_line_end_where_it_has_a_token():
    characters, words = Characters(), Words()
    for preprocessor in (characters, words):
        preprocessor.fit(PIECES)
    assert characters.decode([tokens.begin_id(characters)]) == "\n"
    assert tokens.begin_id(words) == words.unknown_id


def test_progress_of_a_large_text_is_logged(caplog, monkeypatch):
    """Without a terminal: at most one line every few seconds."""
    monkeypatch.setattr(tokens, "_PROGRESS_FROM", 1)
    monkeypatch.setattr(tokens, "_LOG_SECONDS", 0.0)
    preprocessor = Characters()
    with caplog.at_level(logging.INFO, "seqlab"):
        tokens.fit_corpus(make(), preprocessor, {"name": "p"})
        tokens.encode_corpus(make(), preprocessor, {"name": "p"}, "train")
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in lines] == ["vocabulary"] * len(PIECES) + ["train"] * len(PIECES)
    assert all(line.split(" of ")[1].startswith("0 MB read") for line in lines)


def test_a_recurrent_model_reads_no_more_than_its_windows(tmp_path, monkeypatch):
    """All ids at once are for models that count; a text may be larger than the memory."""
    text = tmp_path / "text.txt"
    text.write_text("one two three four five six seven\n" * 300, "utf-8")
    monkeypatch.setattr(tokens.TokenFile, "read_all", lambda self: pytest.fail("all ids are read"))
    fast = ["logger=none", "trainer.progress=false", "trainer.max_epochs=1", "cell.hidden_size=4"]
    seqlab.run(seqlab.compose(["task=lm", f"task.data={text}", *fast]), tmp_path / "run")
