"""What holds for every step, on any Unicode."""

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seqlab.plugins import plugins
from seqlab_preprocessing.chain import Chain

STEPS = ["language:vi" if name == "language" else name for name in plugins("step")]

# Any code point, and what steps look for, so that it meets itself and everything else.
PARTS = st.sampled_from([
    "http://", "https://a.b/", "www.", "foody.vn", ".com", "@", "<", ">", "<b>", "</b>", "<br/>", "<p class='a'>",
    "<a ", "<!--", "-->", "<script>", "</script>", "&amp;", "&lt;", "&#", ";", "&", '"', "'", "’", "_", "-", ".",
    "(", ")", ":", "=", ":)", ": )", ":D", "xD", "T_T", "<3", "^_^", "1", "½", "😀", "❤\ufe0f", "🇻🇳", "👍🏽",
    "1\ufe0f\u20e3", " ", "\n", "\r\n", "\x85", "\u2028", "\t", "a", "B", "ế", "e\u0301", "ß", "İ", "Σ", "ﬁ", "ｱ",
    "Ã©", "â€™", "क्", "\u200d", "\ufe0f", "\u0301", "\u20e3", "\ud800", "\udc80", "\x00", "\ufffd", "\U0010ffff",
    "\U0001f3fb", "\U000e0067",
])  # fmt: skip
REPEATED = [
    "<", "<a ", "<a '", '<a "', "<script>", "<!--", "&#", "www.", "http://", "a.", "a-", ": (", ":((x", ":", "_'",
    "'", "\ufe0f", "😀\u200d", "é", "Ã©", "-_", "<b", "\n",
]  # fmt: skip
ANY = st.text(st.characters(), max_size=20) | st.lists(PARTS | st.characters(), max_size=12).map("".join)


@pytest.mark.parametrize("name", STEPS)
@given(text=ANY)
@example("\ud800")
@example("")
def test_a_step_takes_any_text(name, text):
    assert isinstance(Chain([name], nfc=False).clean([text])[0], str)
    Chain([name]).reasons([text])


# HTML undoes one layer of entities at a time, so that `&amp;lt;` is `<` after the second.
@pytest.mark.parametrize("name", [name for name in STEPS if name != "html"])
@given(text=ANY)
@example("http://a<www.b.com")
@example(":😀)")
@example("foody.vnhttp://http://")
@example("x_\u0301_a__b'c''d")
@example("a.com-b.com @http://c")
def test_a_second_time_changes_nothing_more(name, text):
    chain = Chain([name], nfc=False)
    once = chain.clean([text])
    assert chain.clean(once) == once


@pytest.mark.parametrize("name", ["urls", "html", "punctuation", "digits", "emoji", "whitespace"])
@given(words=st.lists(st.text("abcăđếệộưк中", min_size=1, max_size=8), min_size=1, max_size=6))
def test_words_alone_stay(name, words):
    text = " ".join(words)
    assert Chain([name]).clean([text]) == [unicodedata.normalize("NFC", text)]


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("part", REPEATED)
def test_a_long_line_of_one_kind_takes_no_square_time(name, part):
    """The timeout is the test: a square of this length is minutes."""
    long = part * (200_000 // len(part))
    Chain([name], nfc=False).clean([long])


def test_every_character_by_itself_is_taken():
    chain = Chain([name for name in STEPS if name not in ("mojibake", "html")])
    chain.clean([chr(code) for code in range(0, sys.maxunicode, 7)])
