"""Word tokens: split, vocabulary, decoding, and cleaned reviews."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab_preprocessing.words import REVIEW_STEPS, Reviews, Words

ANY = st.text(st.characters(), max_size=20)


def fitted(*texts, kind=Words, **options):
    words = kind(**options)
    words.fit(iter(texts))
    return words


def split(text, **options):
    return Words(**options)._split(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Quán chế_biến đồ_ăn lâu , ko ngon !", ["Quán", "chế_biến", "đồ_ăn", "lâu", ",", "ko", "ngon", "!"]),
        ("don't O’Neill-Smith 'tis", ["don't", "O’Neill", "-", "Smith", "'", "tis"]),
        ("3.5 a@b (c)...", ["3", ".", "5", "a", "@", "b", "(", "c", ")", ".", ".", "."]),
        ("e\u0301q\u0323\u0301a नमस्ते น้ำ", ["e\u0301q\u0323\u0301a", "नमस्ते", "น้ำ"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("a\u2028b\x85c\xa0d\r\ne", ["a", "b", "c", "d", "e"]),
        ("the <unk> <eos>", ["the", "<unk>", "<", "eos", ">"]),
        ("❤️x", ["❤️", "x"]),
    ],
)
def test_what_a_word_is(text, words):
    assert split(text) == words


def test_split_at_white_space():
    assert split("don't (a_b) N.Y. <unk>\n$", pattern="whitespace") == ["don't", "(a_b)", "N.Y.", "<unk>", "$"]


def test_a_newline_may_be_a_token():
    for pattern in ("words", "whitespace"):
        assert split("a\n\n b c\n", end_of_line=True, pattern=pattern) == ["a", "<eos>", "<eos>", "b", "c", "<eos>"]
    assert split("a\x85b\u2028c", end_of_line=True) == ["a", "b", "c"]


@given(text=ANY)
def test_no_character_but_white_space_is_lost(text):
    for pattern in ("words", "whitespace"):
        assert "".join(split(text, pattern=pattern)) == "".join(text.split())


def test_a_worked_example():
    words = fitted("b a b", "c <unk> b a\n")
    assert words.symbols == ("", "<unk>", "b", "a", "c")
    encoded = words.encode(["a b", "", "d b <unk> c"])
    assert (encoded.values.tolist(), encoded.lengths.tolist()) == ([3, 2, 1, 2, 1, 4], [2, 0, 4])
    assert words.decode([3, 0, 2, 1, 4]) == "a b \ufffd c"
    assert (words.size, words.unknown_id, words.state_dict()) == (5, 1, {"words": ["b", "a", "c"]})


def test_lines_come_back():
    words = fitted("a b\nc", end_of_line=True)
    assert words.symbols == ("", "<unk>", "<eos>", "a", "b", "c")
    for text in ("a b\n\nc a\n", "\n", "a", "", "\n\na\n"):
        assert words.decode(words.encode([text]).values.tolist()) == text
    assert words.decode([2, 1, 0, 2]) == "\n\ufffd\n"


def test_the_end_of_line_always_has_an_id():
    words = fitted("a a b b", end_of_line=True, min_count=2, max_size=1)
    assert words.symbols == ("", "<unk>", "<eos>", "a")
    assert words.encode(["a\nb"]).values.tolist() == [3, 2, 1]


@given(texts=st.lists(st.text("abc _'\n", max_size=12), min_size=1, max_size=6), shuffle=st.randoms())
def test_the_vocabulary_depends_on_the_counts_alone(texts, shuffle):
    shuffled = list(texts)
    shuffle.shuffle(shuffled)
    assert fitted("x", *texts).state_dict() == fitted(*shuffled, "x").state_dict()


@given(seen=st.lists(ANY, max_size=5), texts=st.lists(ANY, max_size=5))
def test_any_text_is_encoded_and_only_what_was_not_seen_is_unknown(seen, texts):
    words = fitted("a", *seen)
    known = set(words.symbols[2:])
    encoded = words.encode(texts)
    found = [words._split(unicodedata.normalize("NFC", text)) for text in texts]
    assert encoded.lengths.tolist() == [len(one) for one in found]
    for word, token in zip([word for one in found for word in one], encoded.values.tolist(), strict=True):
        assert words.symbols[token] == (word if word in known else "<unk>")


def test_limits_of_the_vocabulary():
    assert fitted("a a a b b c", min_count=2).state_dict() == {"words": ["a", "b"]}
    assert fitted("a a a b b c", max_size=1).state_dict() == {"words": ["a"]}
    assert fitted("c b a", max_size=2).state_dict() == {"words": ["a", "b"]}


def test_steps_come_first_and_line_by_line():
    words = fitted("A  <b>B</b>\nA\n", steps=["html", "lower", "whitespace"], end_of_line=True)
    assert words.symbols[2:] == ("<eos>", "a", "b")
    assert words.encode(["b\na"]).values.tolist() == [4, 2, 3]


def test_texts_left_out_of_training():
    words = fitted("a", steps=["language:en", "digits"])
    texts = ["This is the best restaurant in the city", "Quán này ngon lắm , mình rất thích", "1 2", "", "\n"]
    assert words.dropped(texts) == {1: "language: vi, not en", 2: "empty after digits", 3: "empty", 4: "empty"}
    assert words.encode(texts).lengths.tolist() == [8, 8, 0, 0, 0]


def test_no_training_text():
    for texts in ([], [""], ["<unk> \ud800"], [" \n"]):
        with pytest.raises(ValueError, match="no word occurs at least 1 times"):
            fitted(*texts)


def test_options_out_of_range():
    with pytest.raises(ValueError, match="min_count must be >= 1, got 0"):
        Words(min_count=0)
    with pytest.raises(ValueError, match="max_size must be >= 1, got 0"):
        Words(max_size=0)
    with pytest.raises(ValueError, match="pattern must be words or whitespace, got 'x'"):
        Words(pattern="x")


@pytest.mark.parametrize(
    "wrong",
    [
        None, {}, {"words": []}, {"words": "a"}, {"words": [1]}, {"words": ["a", "a"]}, {"words": ["<unk>"]},
        {"words": ["a b"]}, {"words": [""]}, {"words": ["a-b"]}, {"words": ["\ud800"]}, {"words": ["a"], "more": 1},
    ],
)  # fmt: skip
def test_an_invalid_state(wrong):
    with pytest.raises(ValueError, match="words"):
        Words().load_state_dict(wrong)


VIETNAMESE = [
    "Quán này thấy khá nhiều người bảo mình nên mình đã đi ăn thử , nhưng thực_sự ăn xong thấy không được ngon. 🍑🍑"
    " </p>",
    "Mình được 1 cô bạn giới_thiệu đến đây , tìm địa_chỉ khá dễ . Menu nước uống chất khỏi nói . <https://foody.com>",
]
OTHER = [
    "Visiting_Da_Nang frequently but this is the first time I have found a coffee shop which has a creative design",
    "The room is cheap ! ! ! ! It ' s near the city center . The staff is so nice : - D 🍑🍑🍑🍑🍑🍑\n",
]


def test_reviews_are_cleaned():
    reviews = fitted(*VIETNAMESE, kind=Reviews)
    first, second = (reviews.decode(reviews.encode([text]).values.tolist()) for text in VIETNAMESE)
    assert first == (
        "quán này thấy khá nhiều người bảo mình nên mình đã đi ăn thử nhưng thực_sự ăn xong thấy không được ngon"
    )
    assert second == "mình được cô bạn giới_thiệu đến đây tìm địa_chỉ khá dễ menu nước uống chất khỏi nói"


def test_other_languages_are_left_out_of_training_only():
    reviews = fitted(*VIETNAMESE, kind=Reviews)
    assert reviews.dropped([*VIETNAMESE, *OTHER]) == {2: "language: en, not vi", 3: "language: en, not vi"}
    assert reviews.encode(OTHER).lengths.tolist() == [19, 16]


def test_punctuation_goes_before_emoji():
    """The letters of emoticons stay, unless the steps are given in another order."""
    assert REVIEW_STEPS.index("punctuation") < REVIEW_STEPS.index("emoji")
    text = "ngon :D"
    assert fitted(text, kind=Reviews).symbols[2:] == ("d", "ngon")
    steps = ["urls", "html", "emoji", "punctuation", "digits", "whitespace", "lower"]
    assert fitted(text, kind=Reviews, steps=steps).symbols[2:] == ("ngon",)


@pytest.mark.parametrize("dirt", ["\x85", "\u2028", "\xa0", "\n", "\r\n", "\ufeff "])
def test_any_white_space_separates_words(dirt):
    reviews = fitted("ngon lắm", kind=Reviews)
    assert reviews.encode([f"ngon{dirt}lắm"]).values.tolist()[0] == reviews.encode(["ngon"]).values.tolist()[0]


@pytest.mark.data
@pytest.mark.skipif("SEQLAB_DATA" not in os.environ, reason="SEQLAB_DATA does not name the folder of the data sets")
def test_token_counts_of_the_penn_treebank():
    """929,589 / 73,760 / 82,430 tokens, 10,000 types with the end of the line and the unknown word."""
    folder = Path(os.environ["SEQLAB_DATA"]) / "ptb"
    texts = [(folder / f"ptb.{split}.txt").read_text("utf-8") for split in ("train", "valid", "test")]
    words = fitted(texts[0], pattern="whitespace", end_of_line=True)
    assert words.encode(texts).lengths.tolist() == [929_589, 73_760, 82_430]
    assert words.size == 10_001  # and padding
    assert words.symbols[:5] == ("", "<unk>", "<eos>", "the", "N")
    lines = [" ".join(line.split()) for line in texts[2].split("\n")]
    assert words.decode(words.encode([texts[2]]).values.tolist()).replace("\ufffd", "<unk>").split("\n") == lines
