"""Character tokens: vocabulary, encoding and decoding."""

import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab import UserError
from seqlab_preprocessing.characters import Characters

ANY = st.text(st.characters(), max_size=20)  # every code point, lone surrogates included


def fitted(*texts, **options):
    characters = Characters(**options)
    characters.fit(texts)
    return characters


@given(seen=st.lists(ANY, max_size=5), texts=st.lists(ANY, max_size=6))
def test_any_text_is_encoded_and_only_what_was_not_seen_is_unknown(seen, texts):
    characters = fitted("a", *seen)
    known = {c for text in ["a", *seen] for c in unicodedata.normalize("NFC", text) if not "\ud800" <= c <= "\udfff"}
    encoded = characters.encode(texts)
    normal = [unicodedata.normalize("NFC", text) for text in texts]
    assert encoded.lengths.tolist() == [len(text) for text in normal]
    assert encoded.values.dtype == torch.int64
    for character, token in zip("".join(normal), encoded.values.tolist(), strict=True):
        assert (token == characters.unknown_id) == (character not in known)
        assert 0 < token < characters.size


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_what_was_seen_is_decoded(text):
    characters = fitted(text)
    assert characters.decode(characters.encode([text]).values.tolist()) == unicodedata.normalize("NFC", text)


@given(texts=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6), shuffle=st.randoms())
def test_the_vocabulary_depends_on_the_characters_alone(texts, shuffle):
    shuffled = list(texts)
    shuffle.shuffle(shuffled)
    assert fitted(*texts).state_dict() == fitted(*shuffled, *texts).state_dict()


def test_a_worked_example():
    characters = fitted("ba", "cab", "жa")
    assert characters.state_dict() == {"symbols": ["a", "b", "c", "ж"]}
    assert (characters.size, characters.unknown_id) == (6, 1)
    encoded = characters.encode(["ab", "", "zжa"])
    assert (encoded.values.tolist(), encoded.lengths.tolist()) == ([2, 3, 1, 5, 2], [2, 0, 3])
    assert characters.decode([2, 3, 0, 1, 5, 0]) == "ab\ufffdж"
    assert characters.decode([]) == ""


def test_composed_and_decomposed_accents_are_one_character():
    assert fitted("é").encode(["e\u0301"]).values.tolist() == [2]


def test_rare_characters_are_unknown():
    characters = fitted("aab", "ac", min_count=2)
    assert characters.state_dict() == {"symbols": ["a"]}
    assert characters.encode(["abc"]).values.tolist() == [2, 1, 1]


def test_a_step_runs_before_the_vocabulary_is_learned_and_before_a_text_is_encoded():
    characters = fitted("éñ", steps=["ascii"])
    assert characters.state_dict() == {"symbols": ["e", "n"]}
    assert characters.encode(["ëßn"]).values.tolist() == [2, 1, 1, 3]


def test_an_unknown_step_lists_the_known_ones():
    with pytest.raises(UserError, match=r"asci: there is no such step; there are .*ascii"):
        Characters(steps=["asci"])


def test_options_out_of_range():
    with pytest.raises(ValueError, match="min_count must be >= 1, got 0"):
        Characters(min_count=0)
    with pytest.raises(ValueError, match="got 'ascii'"):
        Characters(steps="ascii")


def test_no_training_text():
    for texts in ([], [""], ["\ud800"]):
        with pytest.raises(ValueError, match="no character occurs at least 1 times"):
            Characters().fit(texts)


@pytest.mark.parametrize("wrong", [-1, 4, 2**40, -(2**40)])
def test_an_invalid_id(wrong):
    with pytest.raises(ValueError, match=f"from 0 to 3, got {wrong}$"):
        fitted("ab").decode([2, wrong, 3, 0])


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        [],
        {"symbols": []},
        {"symbols": "ab"},
        {"symbols": ["ab"]},
        {"symbols": [""]},
        {"symbols": [1]},
        {"symbols": ["b", "a"]},
        {"symbols": ["a", "a"]},
        {"symbols": ["\ud800"]},
        {"symbols": ["a"], "more": 1},
    ],
)
def test_an_invalid_state(state):
    with pytest.raises(ValueError, match="symbols"):
        Characters().load_state_dict(state)
