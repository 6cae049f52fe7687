"""What the checks of a preprocessor are made of."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch

from seqlab.contracts import Preprocessor, Ragged
from seqlab.testing.suite import Suite, agree, demand

TEXTS = (
    "the cat sat on the mat", "a", "O'Neill-Smith 2", "naïve café", "Żółć gęślą jaźń", "Straße",
    "Αθήνα και Σπάρτη", "Привет, мир", "Nguyễn Đặng", "你好 世界", "こんにちは", "안녕하세요", "नमस्ते दुनिया",
    "مرحبا بالعالم", "שלום עולם", "สวัสดี", "👩\u200d👩\u200d👧 🇻🇳", "the mat sat on the cat",
)  # fmt: skip
"""What a preprocessor is fitted on unless its suite says otherwise: many scripts, in NFC."""
OFTEN = 3
"""How often each text is shown in fitting, for those that leave out what is rare."""

ANY = {
    "emoji joined by U+200D": "👨\u200d👩\u200d👧\u200d👦👍🏽🏳️\u200d🌈",
    "flags": "🇵🇱🇻🇳🇮🇪",
    "right to left, with marks of direction": "\u202bשלום abc\u202c \u200fمرحبا\u200e",
    "a pile of combining marks": "a" + "\u0301\u0323\u0308" * 20,
    "a combining mark alone": "\u0301",
    "NUL": "a\x00b",
    "U+2028 and U+0085": "a\u2028b\u2029c\x85d",
    "CRLF": "a\r\nb\rc\n",
    "a byte-order mark": "\ufeffabc",
    "an accent in NFC": "\u00e9\u1ec7",
    "an accent in NFD": "e\u0301e\u0323\u0302",
    "Hangul in parts": "\u1112\u1161\u11ab",
    "no character at all": "\uffff\ufdd0",
    "the last code point": "\U0010ffff",
    "U+FFFD itself": "a\ufffdb",
    "blanks alone": " \t\u00a0\u3000",
    "nothing to be seen": "\u200b\u2060\u00ad",
}
SURROGATES = {"a lone surrogate": "a\ud800b", "surrogates in the wrong order": "\udfff\ud800", "a byte": "\udc80"}
UNSEEN = "☃Ѫ鬱ꙮ𓀀ǂ"
RESERVED = (
    "<pad>", "[PAD]", "<unk>", "[UNK]", "<s> a </s>", "<bos>", "<eos>", "<|endoftext|>", "[CLS] [SEP] [MASK]",
    "PAD", "pad", "_", "▁", "##s", "\x00", "0", "1 0", "\ufffd",
)  # fmt: skip
"""What vocabularies call their special tokens, or write where there is none: texts like any other."""


class PreprocessorMaking(Suite):
    """Names a preprocessor and makes it ready for its checks; what is set is in :class:`.suite.PreprocessorSuite`."""

    preprocessor: ClassVar[Callable[..., Preprocessor]]
    options: ClassVar[Mapping[str, Any]] = {}
    texts: ClassVar[Sequence[str]] = TEXTS
    lossy: ClassVar[str] = ""
    patience: ClassVar[float] = 30.0

    def normalised(self, text: str) -> str:
        """Say what is to come back of a text whose symbols are all known, to have folding and cleaning checked.

        As long as a subclass does not, another text that has the same ids may come back.
        """
        return text

    def loses(self) -> str:
        """Say why texts do not come back, by the suite or by the preprocessor itself; empty if they do."""
        return type(self).lossy or self.make().lossy

    def make(self) -> Preprocessor:
        """Make the preprocessor, not fitted yet."""
        made = type(self).preprocessor(**self.options)
        demand(isinstance(made, Preprocessor), f"it is a {type(made).__name__}, and no seqlab.Preprocessor")
        return made

    def fitted(self, *more: str) -> Preprocessor:
        """Make the preprocessor and fit it on the suite's texts, and on more."""
        made = self.make()
        made.fit([*self.texts, *more] * OFTEN)
        return made

    def comes_back(self, preprocessor: Preprocessor, text: str) -> str:
        """Demand that a text comes back; say what comes instead where nobody said what is to come."""
        ids = ids_of(preprocessor, text)
        got, expected = preprocessor.decode(ids), self.normalised(text)
        if unicodedata.normalize("NFC", got) == unicodedata.normalize("NFC", expected):
            return ""
        fault = f"{short(text)} comes back as {short(got)}"
        declared = type(self).normalised is not PreprocessorMaking.normalised
        demand(not declared, f"{fault}, not as {short(expected)}, which normalised() says")
        shown = "\ufffd" in got and "\ufffd" not in text
        demand(not shown, f"{fault}, although training showed it; if it is meant, say why in the property `lossy`")
        demand(ids_of(preprocessor, got) == ids, f"{fault}, which has other ids")
        return fault


def ids_of(preprocessor: Preprocessor, text: str) -> list[int]:
    """Encode one text."""
    encoded = preprocessor.encode([text])
    check_form(encoded, 1)
    ids: list[int] = encoded.values.tolist()
    return ids


def check_form(encoded: Ragged, count: int) -> None:
    """Demand one sequence of int64 ids for each text."""
    demand(isinstance(encoded, Ragged), f"encode gives a {type(encoded).__name__}, and no Ragged")
    demand(len(encoded) == count, f"encode gives {len(encoded)} sequences for {count} texts")
    demand(encoded.values.dim() == 1, f"the ids have the shape {tuple(encoded.values.shape)}; one axis is right")
    for name, tensor in (("ids", encoded.values), ("lengths", encoded.lengths)):
        demand(tensor.dtype == torch.int64, f"the {name} of {count} texts are {tensor.dtype}, not torch.int64")


def same(what: str, actual: Ragged, expected: Ragged) -> None:
    """Demand that two encodings agree."""
    agree(f"{what}: the lengths", actual.lengths, expected.lengths)
    agree(f"{what}: the ids", actual.values, expected.values)


def short(text: str) -> str:
    """Show the beginning of a text."""
    shown = ascii(text) if any(0xD800 <= ord(c) <= 0xDFFF for c in text[:40]) else repr(text[:40])
    return f"{shown}..." if len(text) > 40 else shown


_SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]


def spelled(number: int) -> str:
    """Write a number as a word of small letters, three syllables or more."""
    found = ""
    for _ in range(3):
        number, rest = divmod(number, len(_SYLLABLES))
        found += _SYLLABLES[rest]
    return found if not number else found + spelled(number)
