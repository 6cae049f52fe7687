"""Classes of characters, against Unicode's own table."""

import re
import sys
import unicodedata

from seqlab_preprocessing.steps.classes import JOINING, Spaced, characters


def test_a_class_has_the_characters_of_its_categories():
    found = characters("Nd", "P", below=0x1F000, but="_", more="a")
    pattern = re.compile(found.one)
    for character in map(chr, range(sys.maxunicode + 1)):
        category = unicodedata.category(character)
        wanted = (category == "Nd" or category[0] == "P") and character < "\U0001f000" and character != "_"
        assert bool(pattern.fullmatch(character)) == (wanted or character == "a"), ascii(character)


def test_marks_join():
    for character in ("\u0301", "\u0e49", "\u093e", "\ufe0f", "\u200d", "\U000e0100"):
        assert re.fullmatch(JOINING.one, character)


def test_runs_become_one_space():
    spaced = Spaced(characters("Nd"))
    assert spaced("a12b३४c\U0001d7d8\U0001d7d9d") == "a b c d"
    assert Spaced(characters("Zs"))("a \xa0b\U0001d7d8") == "a b\U0001d7d8"
