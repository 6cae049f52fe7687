"""Folding to ASCII: Latin letters lose their marks, all else stays."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab_preprocessing.steps.ascii import ascii_fold


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("O'Neill-Smith 2", "O'Neill-Smith 2"),
        ("Béringer", "Beringer"),
        ("Weiß", "Weiss"),
        ("Żądło Łódź", "Zadlo Lodz"),
        ("Đặng Thị Nguyễn", "Dang Thi Nguyen"),
        ("Sørensen Æbelø Œuvre", "Sorensen AEbelo OEuvre"),
        ("Yıldız İnönü", "Yildiz Inonu"),
        ("Þórður", "Thordur"),
        ("O’Brien–Ó Sé", "O'Brien-O Se"),
        ("e\u0301 q\u0303 q\u0303\u0301", "e q q"),
        ("ﬁn Ａ", "fin A"),
    ],
)
def test_latin_becomes_ascii(text, folded):
    assert ascii_fold(text) == folded


@pytest.mark.parametrize(
    "text", ["Чайковский Ёлкин", "สมศักดิ์ น้ำ", "김민수", "山田", "Παπαδόπουλος", "محمّد", "יוֹסֵף", "राष्ट्र"]
)
def test_other_scripts_stay_as_they_are(text):
    assert ascii_fold(text) == unicodedata.normalize("NFC", text)


@given(text=st.text(st.characters(), max_size=20))
def test_folding_twice_changes_nothing_more(text):
    folded = ascii_fold(text)
    assert ascii_fold(folded) == folded


def test_every_letter_of_latin_1_and_latin_extended_a_is_folded():
    """All but the micro sign, which is Greek."""
    letters = [chr(code) for code in range(0x180) if chr(code).isalpha() and chr(code) != "µ"]
    assert [letter for letter in letters if not ascii_fold(letter).isascii() or not ascii_fold(letter)] == []
