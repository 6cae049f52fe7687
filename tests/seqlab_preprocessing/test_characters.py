"""Characters: any text is encoded, what was seen comes back, what was not is unknown."""

import json
import time
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
def test_what_was_seen_comes_back(text):
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


def test_both_ways_to_write_an_accent_are_one_character():
    assert fitted("é").encode(["e\u0301"]).values.tolist() == [2]


def test_rare_characters_are_unknown():
    characters = fitted("aab", "ac", min_count=2)
    assert characters.state_dict() == {"symbols": ["a"]}
    assert characters.encode(["abc"]).values.tolist() == [2, 1, 1]


def test_a_step_runs_before_the_vocabulary_is_learned_and_before_a_text_is_encoded():
    characters = fitted("éñ", steps=["ascii"])
    assert characters.state_dict() == {"symbols": ["e", "n"]}
    assert characters.encode(["ëßn"]).values.tolist() == [2, 1, 1, 3]


def test_an_unknown_step_lists_those_there_are():
    with pytest.raises(UserError, match=r"asci: there is no such step; there are .*ascii"):
        Characters(steps=["asci"])


def test_options_out_of_range():
    with pytest.raises(ValueError, match="min_count must be >= 1, got 0"):
        Characters(min_count=0)
    with pytest.raises(ValueError, match="steps is 'ascii'"):
        Characters(steps="ascii")


def test_nothing_to_learn_from():
    for texts in ([], [""], ["\ud800"]):
        with pytest.raises(ValueError, match="no character occurs at least 1 times"):
            Characters().fit(texts)


def test_before_fitting_nothing_is_known():
    for use in (lambda c: c.size, lambda c: c.encode(["a"]), lambda c: c.decode([2]), lambda c: c.state_dict()):
        with pytest.raises(ValueError, match="vocabulary is not known yet"):
            use(Characters())


@pytest.mark.parametrize("wrong", [-1, 4, 2**40, -(2**40)])
def test_an_id_that_is_none(wrong):
    with pytest.raises(ValueError, match=f"{wrong} is no token id; there are 0 to 3"):
        fitted("ab").decode([2, wrong, 3, 0])


def test_the_state_survives_json():
    characters = fitted("Žluťoučký kůň", "สมชาย", "\x00\n\U0001f600")
    again = Characters()
    again.load_state_dict(json.loads(json.dumps(characters.state_dict())))
    text = ["kůň \U0001f600?", "สมศักดิ์"]
    assert torch.equal(again.encode(text).values, characters.encode(text).values)
    assert again.size == characters.size


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
def test_a_state_that_is_none(state):
    with pytest.raises(ValueError, match="symbols"):
        Characters().load_state_dict(state)


def test_twenty_thousand_names_are_encoded_in_a_moment():
    """About 6 ms on a quiet machine."""
    characters = fitted("Abcdefghij klmnopqrstuvwxyz")
    texts = ["Abcdefgh"] * 20_000
    spent = []
    for _ in range(3):
        since = time.perf_counter()
        characters.encode(texts)
        spent.append(time.perf_counter() - since)
    assert min(spent) < 0.2
