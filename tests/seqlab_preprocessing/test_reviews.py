"""Reviews: a lecture's chain, on its own examples."""

import pytest

from seqlab_preprocessing.reviews import CHAIN, Reviews

VIETNAMESE = [
    "Quán này thấy khá nhiều người bảo mình nên mình đã đi ăn thử , nhưng thực_sự ăn xong thấy không được ngon. 🍑🍑"
    " </p>",
    "Mình được 1 cô bạn giới_thiệu đến đây , tìm địa_chỉ khá dễ . Menu nước uống chất khỏi nói . <https://foody.com>",
]
OTHER = [
    "Visiting_Da_Nang frequently but this is the first time I have found a coffee shop which has a creative design",
    "The room is cheap ! ! ! ! It ' s near the city center . The staff is so nice : - D 🍑🍑🍑🍑🍑🍑\n",
]


def fitted(*texts, **options):
    reviews = Reviews(**options)
    reviews.fit(texts)
    return reviews


def test_the_lecture_s_examples():
    reviews = fitted(*VIETNAMESE)
    first, second = (reviews.decode(reviews.encode([text]).values.tolist()) for text in VIETNAMESE)
    assert first == (
        "quán này thấy khá nhiều người bảo mình nên mình đã đi ăn thử nhưng thực_sự ăn xong thấy không được ngon"
    )
    assert second == "mình được cô bạn giới_thiệu đến đây tìm địa_chỉ khá dễ menu nước uống chất khỏi nói"


def test_other_languages_are_left_out_of_training_only():
    reviews = fitted(*VIETNAMESE)
    assert reviews.dropped([*VIETNAMESE, *OTHER]) == {2: "language: en, not vi", 3: "language: en, not vi"}
    assert reviews.encode(OTHER).lengths.tolist() == [19, 16]


def test_the_order_is_the_lecture_s():
    """Punctuation goes before emoticons, so that their letters stay; the other order is one key away."""
    assert CHAIN.index("punctuation") < CHAIN.index("emoji")
    text = "ngon :D"
    assert fitted(text).symbols[2:] == ("d", "ngon")
    steps = ["urls", "html", "emoji", "punctuation", "digits", "whitespace", "lower"]
    assert fitted(text, steps=steps).symbols[2:] == ("ngon",)


@pytest.mark.parametrize("dirt", ["\x85", "\u2028", "\xa0", "\n", "\r\n", "\ufeff "])
def test_any_blank_parts_words(dirt):
    reviews = fitted("ngon lắm")
    assert reviews.encode([f"ngon{dirt}lắm"]).values.tolist()[0] == reviews.encode(["ngon"]).values.tolist()[0]
