"""Decoding: incremental as at once, located errors, hints at another encoding."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab.io.tables import Decoder, Layout, check_encoding, decode

ENCODINGS = ["utf-8", "utf-16", "utf-16-le", "cp1252", "gbk", "utf-8-sig"]
TEXT = st.text(st.sampled_from("abé€\u4e2d\n\r\ufeff\ufffd"), max_size=20)


@given(TEXT, st.sampled_from(ENCODINGS), st.integers(1, 5))
def test_incremental_decoding_equals_decoding_at_once(text, encoding, size):
    data = text.encode(encoding, "replace")
    layout = Layout(encoding=encoding)
    whole, facts = decode(data, "file", layout)
    expected = data.decode(encoding)
    assert whole == expected.lstrip("\ufeff")
    decoder = Decoder("file", layout)
    parts = [decoder.feed(data[at : at + size], final=False) for at in range(0, len(data), size)]
    assert "".join([*parts, decoder.feed(b"", final=True)]) == expected
    assert decoder.facts() == facts
    first = re.search(r"\n|\r+\n?", expected)
    alone = first is not None and "\n" not in first[0] and expected.count("\r") > expected.count("\n")
    assert facts.newline == ("\r" if alone else "\n")


@given(st.lists(st.sampled_from([b"a", b"\xff", "\ufffd".encode(), "é".encode()]), max_size=12), st.integers(1, 4))
def test_replaced_characters_are_counted(parts, size):
    """Each undecodable byte counts once; a replacement character of the file does not."""
    data = b"".join(parts)
    decoder = Decoder("file", Layout(errors="replace"))
    for at in range(0, len(data), size):
        decoder.feed(data[at : at + size], final=False)
    decoder.feed(b"", final=True)
    wrong = parts.count(b"\xff")
    expected = [f"characters that are not UTF-8, shown as \ufffd: {wrong}"] if wrong else []
    assert decoder.facts().notes == expected


@pytest.mark.parametrize(
    ("data", "encoding", "message"),
    [
        (
            "café".encode("latin-1"),
            "utf-8",
            r"file, line 1: byte 3 .* set task.encoding=cp1252 .*'café'",
        ),
        (b"caf\x81", "utf-8", r"byte 3 is not UTF-8 \(0x81\); .*set task.encoding=latin-1"),
        ("ab".encode("utf-16"), "utf-8", r"byte 3 is zero, as in UTF-16, .* set task.encoding=utf-16"),
        ("\u4e2d".encode("utf-16"), "utf-8", r"byte 0 is not UTF-8 \(0xff\), but marks UTF-16; .*encoding=utf-16"),
        (b"a\0b", "utf-8", r"byte 1 is zero"),
        (b"a\0b", "cp1252", r"byte 1 is zero"),
        ("a\0b".encode("utf-16"), "utf-16", r"a character is zero as utf-16"),
        (b"a", "utf-16", r"byte 0 is not utf-16|cannot be read as utf-16"),
        (b"a\x81", "cp1252", r"byte 1 is not cp1252 \(0x81\)"),
        ("café".encode("utf-8-sig"), "cp1252", r"byte-order mark of UTF-8, .*set task.encoding=utf-8"),
    ],
)
def test_undecodable_bytes_are_located(data, encoding, message):
    with pytest.raises(ValueError, match=message):
        decode(data, "file", Layout(encoding=encoding))


@pytest.mark.parametrize("name", ["klingon", "rot13", "base64", "", "a\0b"])
def test_unknown_encoding_is_refused(name):
    with pytest.raises(ValueError, match="encoding must be a text encoding such as utf-8"):
        check_encoding(name)


def test_several_byte_order_marks_are_noted():
    text, facts = decode("\ufeff\ufeffa\ufeff".encode(), "file", Layout())
    assert text == "a\ufeff"
    assert facts.notes == ["2 byte-order marks at the beginning, left out"]
