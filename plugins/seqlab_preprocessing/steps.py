"""Text-cleaning steps: normal forms, letters, white space, punctuation, emoji and web addresses.

A step maps text to text; it takes any Unicode, lone surrogates included, and raises nothing. A class is a step that
takes an argument, as in ``language:vi``; one with a method ``reason(text) -> str | None`` is a filter: it removes texts
from training and changes none. This module needs the standard library only, because it is copied into exported models.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Literal, NamedTuple, final

# Normal forms, white space and case

_MOST_MARKS = 1_000
_MANY_MARKS = re.compile(rf"[^\w\s\x00-\x7f]{{{_MOST_MARKS + 1},}}")
_JOINER = "\u034f"


def normalised(form: Literal["NFC", "NFKC"], text: str) -> str:
    """Normalise a text in linear time; in a run of more than 1,000 combining marks, insert U+034F after each 1,000.

    Sorting the marks of a letter takes quadratic time. The Stream-Safe Text Format (UAX #15, section 13) therefore
    separates them too, after 30.
    """
    return unicodedata.normalize(form, text if text.isascii() else _MANY_MARKS.sub(_separate_marks, text))


def _separate_marks(found: re.Match[str]) -> str:
    separated, marks = [], 0
    for character in found[0]:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > _MOST_MARKS:
            separated.append(_JOINER)
            marks = 1
        separated.append(character)
    return "".join(separated)


def nfc(text: str) -> str:
    """Compose letters and their marks (Unicode NFC).

    ``characters`` and ``words`` do so in any case.
    """
    return normalised("NFC", text)


def nfkc(text: str) -> str:
    """Compose and fold compatibility forms (Unicode NFKC): ``ﬁ`` to ``fi``.

    ``Ａ`` becomes ``A``, and ``²`` becomes ``2``.
    """
    return normalised("NFKC", text)


def lower(text: str) -> str:
    """Lower-case text."""
    return text.lower()


def whitespace(text: str) -> str:
    """Collapse white space, line ends included; strip both ends."""
    return " ".join(text.split())


# Folding to ASCII

_LETTERS = {
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D",
    "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ł": "l", "Ł": "L", "ı": "i", "ħ": "h", "Ħ": "H", "ŧ": "t", "Ŧ": "T",
    "ŋ": "ng", "Ŋ": "Ng", "ĸ": "k", "ƀ": "b", "Ƀ": "B", "ɓ": "b", "Ɓ": "B", "ɗ": "d", "Ɗ": "D", "ƙ": "k", "Ƙ": "K",
    "ƒ": "f", "Ƒ": "F", "ŀ": "l", "Ŀ": "L",
    "‘": "'", "’": "'", "ʻ": "'", "ʼ": "'", "ʹ": "'", "´": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
    "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "ŉ": "'n",
}  # fmt: skip
"""Characters without a decomposition: special letters, and punctuation that ASCII has in another shape."""

_MARKS_ON_ASCII = re.compile("(?<=[\x00-\x7f])[\u0300-\u036f]+")


def ascii_fold(text: str) -> str:
    """Remove marks from Latin letters: ``é`` to ``e``, ``ß`` to ``ss``.

    Each character becomes its compatibility decomposition (NFKD) without combining marks if that is ASCII, or what a
    list of special letters and typographic punctuation says. Other scripts stay as they are, marks included: Cyrillic
    ``й`` does not become ``и``.
    """
    if text.isascii():
        return text
    return _MARKS_ON_ASCII.sub("", normalised("NFC", text).translate(_FOLDED))


class _FoldingTable(dict[int, str]):
    """Translation table that folds a character the first time it occurs."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = folded = _LETTERS.get(character) or _without_marks(character)
        return folded


def _without_marks(character: str) -> str:
    if unicodedata.combining(character):
        return character
    parts = unicodedata.normalize("NFKD", character)
    letters = "".join(part for part in parts if not unicodedata.combining(part))
    return letters if letters.isascii() else character


_FOLDED = _FoldingTable()

# Character classes from Unicode's categories

_ASSIGNED = (range(0x34000), range(0xE0000, 0xE0200))
"""Code points of characters that are not private; the planes between are empty."""


@final
class CharacterClass(NamedTuple):
    """Character class in two parts, because ``re`` has a table for 16 bits and searches a list for more.

    Attributes:
        low: ranges below U+10000, to stand between ``[`` and ``]``.
        high: ranges from there on.
    """

    low: str
    high: str

    @property
    def one(self) -> str:
        """Pattern for one character of the class."""
        return f"(?:[{self.low}]|(?=[\U00010000-\U0010ffff])[{self.high}])"


@cache
def character_class(*categories: str, below: int = 0x110000, exclude: str = "", include: str = "") -> CharacterClass:
    """Return the class of the characters in some categories.

    Args:
        categories: such as ``Nd``, or the first letter of several, such as ``P``.
        below: leave out this code point and all above.
        exclude: characters to leave out.
        include: characters to add.
    """
    wanted = {code for plane in _ASSIGNED for code in plane if unicodedata.category(chr(code)).startswith(categories)}
    wanted = {code for code in wanted if code < below and chr(code) not in exclude} | {*map(ord, include)}
    return CharacterClass(
        _ranges(code for code in wanted if code < 0x10000), _ranges(code for code in wanted if code > 0xFFFF)
    )


def _ranges(codes: Iterable[int]) -> str:
    found: list[list[int]] = []
    for code in sorted(codes):
        if found and found[-1][-1] == code - 1:
            found[-1][1:] = [code]
        else:
            found.append([code])
    return "".join("-".join(re.escape(chr(code)) for code in ends) for ends in found)


def replace_runs(characters: CharacterClass, text: str) -> str:
    """Replace each run of some characters with a space; the class has some below U+10000."""
    low, high = _runs(characters)
    text = low.sub(" ", text)
    return high.sub(" ", text) if high and _HIGH.search(text) else text


@cache
def _runs(characters: CharacterClass) -> tuple[re.Pattern[str], re.Pattern[str] | None]:
    return re.compile(f"[{characters.low}]+"), re.compile(f"[{characters.high}]+") if characters.high else None


_HIGH = re.compile("[\U00010000-\U0010ffff]")
JOINING = character_class("M", include="\u200c\u200d")
"""Characters that belong to the one before: marks, as in Vietnamese in NFD and in Hindi, and joiners."""

# Punctuation and digits

_INNER = "_'’"
"""Characters that may occur inside a word."""

# A run of inner marks is replaced unless it is underscores, or one apostrophe, between two letters.
_LETTER = rf"(?:[^\W_]|{JOINING.one})"
_ALONE = re.compile(rf"(?<![{_INNER}])(?=[{_INNER}])(?:(?<!{_LETTER})|(?!(?:_++|['’]){_LETTER}))[{_INNER}]++")


def punctuation(text: str) -> str:
    """Replace punctuation outside words, and signs, with a space.

    Signs are those such as ``$``, ``+`` and ``<``. ``_`` between letters stays, as it joins the syllables of Vietnamese
    words (``giới_thiệu``), and so does one apostrophe (``don't``).
    """
    # Category So, which has most emoji, is left to the step emoji, and so are the skin tones beyond U+1F000.
    return _ALONE.sub(" ", replace_runs(character_class("P", "Sm", "Sc", "Sk", below=0x1F000, exclude=_INNER), text))


def digits(text: str) -> str:
    """Replace digits of any script with a space.

    Superscripts and fractions are digits too.
    """
    return replace_runs(character_class("Nd", "No"), text)


# Emoji and web addresses

_PASSES = 16
"""How often a text is searched; what is nested deeper was written to take time."""

_PICTURE = (
    "\u231a\u231b\u2328\u23cf\u23e9-\u23fa\u24c2\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u27bf"
    "\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\U0001f000-\U0001faff"
)
"""Emoji, dingbats, playing cards, regional indicators (flags) and skin tones."""
_MODIFIER = "\u200d\u20e3\ufe0e\ufe0f\U000e0020-\U000e007f"
"""Joiners and modifiers; U+FE0F turns other signs into emoji."""

_EMOTICON = r"""
    [:;=]['’]?[-^o*]?(?:\)++|\(++|\]++|\[++)(?!\w)                   # :) ;-( ='( :))))
    | (?<!\w)[:;=]['’]?-?[DPpOo3vVsS]+(?!\w) | (?<!\w)[xX]D+(?!\w)  # :D :v =P xD
    | (?<!\w):-?[/\\|](?![/\w])                                    # :/ but not http://
    | [:;=](?:[ ]?[-'])?[ ]?\)(?:[ ]?\))*+(?!\w)                   # : ) ) as word segmenters write it
    | [:;=](?:[ ]?[-'])?[ ]?\((?:[ ]?\()*+(?!\w|[^()\n]*\))        # : ( unless the bracket is closed
    | (?<!\w)[:;=][ ]?-[ ]?[DPp]+(?!\w)                            # : - D
    | </?3+(?!\w) | \^[_.-]?\^ | -_+- | >[_.]<
    | (?<!\w)(?:T[_.]T|[oO]_[oO])(?!\w)
"""
_EMOJI = re.compile(
    rf"""
    (?=[^\w\s]|[0-9xXToO])                                          # no emoji begins with anything else
    (?: (?:[0-9#*]\ufe0f?\u20e3 | [{_PICTURE}] | [^\w\s]?\ufe0f | [\ufe0e\u20e3]) [{_MODIFIER}]* | {_EMOTICON} )+
    """,
    re.VERBOSE,
)


def emoji(text: str) -> str:
    """Replace emoji with a space.

    Flags, keycaps and emoticons such as ``:-)``, ``:v``, ``<3`` and ``T_T`` count, and so do those that word segmenters
    write with spaces, ``: )`` and ``: - D``.
    """
    return _replace_all(_EMOJI, text)  # removing one may leave another: a heart within ":♥)"


_REST = r"""[^\s<>"]"""
_END = r"""[^\s<>".,;:!?'”’)\]}…]"""  # a full stop behind an address belongs to the sentence
_URL = re.compile(
    rf"""
    <(?:(?:https?|ftp)://|www\.)[^\s<>]*>
    | (?:https?|ftp)://{_REST}*{_END}
    | (?<![\w.@-])www\.{_REST}*{_END}
    | (?<![\w.@-])(?:[a-z0-9-]+\.)+(?:com|net|org|edu|gov|vn)(?![\w@-])(?:/(?:{_REST}*{_END})?)?
    """,
    re.IGNORECASE | re.VERBOSE,
)
_LIKELY_URL = re.compile(r"://|[a-z0-9-]\.[a-z0-9]", re.IGNORECASE)
"""What every address has and few other texts have; faster to search."""


def urls(text: str) -> str:
    """Replace web addresses with a space.

    An address has a scheme, begins with ``www.``, or is a bare domain that ends in com, net, org, edu, gov or vn, such
    as ``foody.vn/ha-noi``. E-mail addresses stay.
    """
    return _replace_all(_URL, text) if _LIKELY_URL.search(text) else text  # "a.vnhttp://b" holds two


def _replace_all(pattern: re.Pattern[str], text: str) -> str:
    for _ in range(_PASSES):
        if (replaced := pattern.sub(" ", text)) == text:
            break
        text = replaced
    return text
