"""Symbols of token ids are formatted and parsed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab import InputSpec, UserError
from seqlab.data.encoding import format_symbols, parse_symbols, symbols_of

SYMBOLS = ("", "a", "B", "k1", "(", ")", ".", "spain", "«")


@given(st.lists(st.integers(1, len(SYMBOLS) - 1), min_size=1, max_size=20))
def test_parsing_inverts_formatting(ids):
    found = parse_symbols([format_symbols(ids, SYMBOLS), format_symbols([0, *ids, 0], SYMBOLS)], SYMBOLS)
    assert found.values.tolist() == ids * 2
    assert found.lengths.tolist() == [len(ids)] * 2


@pytest.mark.parametrize(
    ("text", "ids"),
    [("Spain.", [7, 6]), ("(a)", [4, 1, 5]), ("A B", [1, 2]), ("K1 «(", [3, 8, 4]), (" ", []), ("", [])],
)
def test_punctuation_separates_symbols_and_capitals_match_lower_case(text, ids):
    assert parse_symbols([text], SYMBOLS).values.tolist() == ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a spian", r"'spian' in 'a spian' is none of the 8 symbols of this task; did you mean spain"),
        ("a b", r"'b' in 'a b' is none of the 8 symbols of this task, such as a, B"),
        ("x" * 99, r"is none of the 8 symbols"),
    ],
)
def test_an_unknown_symbol_is_reported_in_one_line(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_symbols([text], SYMBOLS)
    assert len(str(caught.value)) < 260


def test_numbers_have_no_symbols():
    assert symbols_of(None) is None
    assert symbols_of(InputSpec("features", 2)) is None
    assert symbols_of(InputSpec("tokens", 3)) is None
    assert symbols_of(InputSpec("tokens", 2, ("", "a"))) == ("", "a")
