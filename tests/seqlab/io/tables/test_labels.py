"""Labels of values, and labels that are easily confused."""

import pytest

from seqlab.io.tables import label_notes, label_of, similar_to


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("good", "good"), (" good\xa0\n", "good"), ("e\u0301", "é"), ("1", "1"), (1, "1"), (1.0, "1.0"), ("1.0", "1.0"),
        (True, "true"), (False, "false"), ("NaN", "NaN"), (-2.5, "-2.5"), (0, "0"),
    ],
)  # fmt: skip
def test_label_of_a_value(value, label):
    assert label_of(value) == label


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "is empty"), (" \u2003", "is empty"), (None, "a string, got null"), (float("nan"), "a string, got NaN"),
        (float("inf"), "a string, got Infinity"), ([1], r"a string, got \[1\]"), ({"a": 1}, "must be a string, got {"),
    ],
)  # fmt: skip
def test_values_without_a_label(value, message):
    with pytest.raises(ValueError, match=message):
        label_of(value)


@pytest.mark.parametrize(
    "pair",
    [
        ("Good", "good"), ("a b", "a\xa0b"), ("a b", "a  b"), ("good", "go\u200bod"), ("1", "1.0"), ("1", "01"),
        ("good", '"good"'), ("ﬁne", "fine"), ("True", "true"), ("1e2", "100"), ("good\u00ad", "good"),
    ],
)  # fmt: skip
def test_similar_labels_are_noted(pair):
    (note,) = label_notes(["other", *pair])
    assert f"{pair[0]!r} and {pair[1]!r}" in note
    assert similar_to(pair[0], ["other", pair[1]]) == pair[1]


def test_distinct_labels_are_not_noted():
    assert label_notes(["good", "bad", "goods", "1", "2", "10", "a-b", "a_b", "é", "e", "1a", "1.0a", "", "+"]) == []
    assert similar_to("good", ["bad", "good"]) is None


@pytest.mark.parametrize("label", ["NaN", "nan", "null", "None", "N/A"])
def test_possible_missing_value_is_noted(label):
    (note,) = label_notes(["good", label])
    assert note.startswith("labels that may stand for a missing value: ")
    assert repr(label) in note


def test_labels_joined_of_others_are_noted():
    (note,) = label_notes(["sport", "news", "sport|news", "news; sport", "sport and news", "a, b"])
    assert "labels that seem to be several (2): 'sport|news', 'news; sport'" in note
