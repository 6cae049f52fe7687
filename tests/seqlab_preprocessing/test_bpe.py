"""Byte-pair tokens: exact decoding, and the same ids for whole texts and single words."""

import os
import subprocess
import sys

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from seqlab import UserError
from seqlab_preprocessing import package_steps
from seqlab_preprocessing.bpe import ALPHABET, BPE, _cut, pieces_of

WELL_FORMED = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
PARTS = [
    " ", "  ", "\n", "\r\n", "\x1c", "\x00", "\x7f", "\x85", "\u2028", "\u3000", "a", "B", "'s", "'ve", "'", "'S",
    "_", "1", "23", "!", "(", "<", "ế", "\u0301", "٣", "½", "…", "’s", "中", "😀", "-",
]  # fmt: skip

TRAINING = ["the cat sat on the mat", "the mat sat on the cat\n\n  the end", "quán này ngon , ngon lắm"] * 3


def fitted(*texts, **options):
    bpe = BPE(**options)
    bpe.fit(iter(texts or TRAINING))
    return bpe


def ids(bpe, text):
    return bpe.encode([text]).values.tolist()


@given(text=WELL_FORMED)
def test_any_text_decodes_exactly(text):
    bpe = fitted(vocabulary_size=300)
    assert bpe.decode(ids(bpe, text)) == text
    assert bpe.unknown_id not in ids(bpe, text)


@given(text=st.lists(st.sampled_from(PARTS), max_size=20).map("".join) | WELL_FORMED)
def test_encoding_words_separately_equals_encoding_the_text(text):
    """The oracle is the library's own encoding of the whole text."""
    bpe = fitted(vocabulary_size=300)
    vocabulary = {piece: index for index, piece in enumerate(pieces_of(bpe._encoder.merges))}
    whole = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, bpe._encoder.merges))
    whole.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert ids(bpe, text) == [2 + index for index in whole.encode(text).ids]


def test_a_worked_example():
    bpe = fitted("aab aab aab", vocabulary_size=260)
    assert bpe.state_dict() == {"merges": [["a", "a"], ["aa", "b"]]}
    assert (bpe.size, bpe.symbols[2 + ord("a")], bpe.symbols[258:]) == (260, "a", ("aa", "aab"))
    encoded = bpe.encode(["aab", "", "aac\xe9"])
    assert encoded.values.tolist() == [259, 258, 2 + ord("c"), 2 + 0xC3, 2 + 0xA9]
    assert encoded.lengths.tolist() == [1, 0, 4]
    assert bpe.decode([259, 0, 1, 258]) == "aab\ufffdaa"
    assert bpe.decode([2 + 0xC3]) == "\ufffd"
    assert bpe.symbols[2 + 0xC3] == "\\xc3"


def test_the_alphabet_is_the_library_s():
    assert sorted(ALPHABET) == sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    for sign, byte in ALPHABET.items():
        assert byte < 128 or len(sign) == 1
        if 0x21 <= byte < 0x7F:
            assert sign == chr(byte)


def test_the_vocabulary_is_no_larger_than_asked_for():
    assert fitted(vocabulary_size=258).size == 258
    assert fitted(vocabulary_size=270).size == 270
    assert fitted("ab", vocabulary_size=8_000).size < 270


def test_a_lone_surrogate_is_shown_as_unknown():
    bpe = fitted("a\ud800", vocabulary_size=260)
    assert bpe.decode(ids(bpe, "x\udc80y\ud83d\ude00")) == "x\ufffdy\U0001f600"


def test_the_memory_of_words_is_bounded(monkeypatch):
    monkeypatch.setattr("seqlab_preprocessing.bpe._REMEMBERED", 1_000)
    bpe = fitted(vocabulary_size=300)
    text = " ".join(map(str, range(100)))
    once = ids(bpe, text)
    assert not bpe._encoder._known
    assert ids(bpe, text) == once


def test_a_long_text_is_cut_between_words():
    text = "ab  cd\n ef " * 20_000
    parts = list(_cut(text))
    assert len(parts) > 2
    assert "".join(parts) == text
    assert all(part.startswith(" ") and not part[1:2].isspace() for part in parts[1:])


@pytest.mark.parametrize("sign", ["a", "é", " ", "\n", "-", "a-"])
def test_a_very_long_word_takes_linear_time(sign):
    """Checked by the timeout: in training the library needs hours for it."""
    text = sign * 400_000
    bpe = fitted(text, vocabulary_size=280)
    assert bpe.decode(ids(bpe, text)) == text
    assert "".join(_cut(text)) == text


def test_a_long_text_has_the_merges_of_its_words():
    words = [f"{a}{b}" for a in "abc" for b in "xyz"] * 4_000
    assert (
        fitted(" ".join(["", *words]), vocabulary_size=270).state_dict()
        == fitted(
            *(" ".join(["", *words[start : start + 100]]) for start in range(0, len(words), 100)), vocabulary_size=270
        ).state_dict()
    )


def test_no_training_text():
    for texts in ([], ["", ""]):
        with pytest.raises(ValueError, match="no character in the training split"):
            BPE().fit(texts)


def test_a_vocabulary_that_is_too_small():
    with pytest.raises(ValueError, match="vocabulary_size must be >= 258, got 257"):
        BPE(vocabulary_size=257)


@pytest.mark.parametrize(
    "wrong",
    [
        None, {}, {"merges": {}}, {"merges": ["ab"]}, {"merges": [["a"]]}, {"merges": [["a", "b", "c"]]},
        {"merges": [["a", "bc"]]}, {"merges": [["a", " "]]}, {"merges": [["a", 1]]}, {"merges": [["a", ""]]},
        {"merges": [["a", "b"], ["a", "b"]]}, {"merges": [], "more": 1},
    ],
)  # fmt: skip
def test_an_invalid_state(wrong):
    with pytest.raises(ValueError, match="merges"):
        BPE().load_state_dict(wrong)


def test_a_missing_package_is_named(monkeypatch):
    def missing(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(package_steps, "import_module", missing)
    package_steps.optional_package.cache_clear()
    with pytest.raises(UserError, match=r"preprocessing=bpe needs tokenizers, .* pip install seqlab\[text\]"):
        BPE()
    package_steps.optional_package.cache_clear()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_encodes_without_a_warning():
    code = """if True:
        import os
        from seqlab_preprocessing.bpe import BPE
        bpe = BPE(vocabulary_size=300)
        bpe.fit(["the cat sat on the mat"] * 9)
        before = bpe.encode(["a new word", "another"]).values.tolist()
        if os.fork() == 0:
            os._exit(bpe.encode(["a new word", "another"]).values.tolist() != before or
                     len(bpe.encode(["some more", "of them"]).lengths) != 2)
        assert os.wait()[1] == 0
    """
    environment = {key: value for key, value in os.environ.items() if key != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
