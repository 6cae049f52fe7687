"""Text-cleaning steps: examples, and properties that hold on any Unicode."""

import re
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seqlab import UserError
from seqlab.plugins import plugins
from seqlab_preprocessing import package_steps
from seqlab_preprocessing.package_steps import Language, optional_package
from seqlab_preprocessing.pipeline import Chain
from seqlab_preprocessing.steps import JOINING, ascii_fold, character_class, replace_runs


def clean(name, text):
    """Apply a step, and collapse white space so that it need not be counted."""
    return Chain([name, "whitespace"], normalise=False).clean([text])[0]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Menu khỏi nói . <https://foody.com>", "Menu khỏi nói ."),
        ("xem http://a.vn/c_d?e=f&g=h#i.", "xem ."),
        ("(www.foody.vn/ha-noi), FTP://X.Y", "( ),"),
        ("foody.vn/ha-noi, a-b.c.com", ","),
        ("me@foody.vn e.g. 3.5 ngon.Vừa x.commas", "me@foody.vn e.g. 3.5 ngon.Vừa x.commas"),
        ("ngonhttps://a.b", "ngon"),
        ("http:// www. ://", "http:// www. ://"),
    ],
)
def test_urls(text, left):
    assert clean("urls", text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("không được ngon. 🍑 </p>", "không được ngon. 🍑"),
        ("<p>một</p>hai<br/>ba<BR>bốn", "một hai ba bốn"),
        ("<b>gi</b>ới <a href=\"x>y\" class='z'>thiệu</a>", "giới thiệu"),
        ("a < b, c <d e> f > g", "a < b, c <d e> f > g"),
        ("giá <100k hay >50k, <3 <unk> <https://foody.com>", "giá <100k hay >50k, <3 <unk> <https://foody.com>"),
        ("a <b and so on", "a <b and so on"),
        ("AT&T &copy &c; Q&A; &amp;lt; &eacute;&#233;&#xe9;", "AT&T &copy &c; Q&A; &lt; ééé"),
        ("a<script>if (x < y) {}</script>b<!-- <p> -->c<style>", "abc<style>"),
        ("<!DOCTYPE html><html><head><title>x</title></head><body>y</body></html>", "<title>x</title> y"),
        ("<table>a<tr><td>b<td>c</table>d<select><option>e</select>", "a b c d e"),
        ("<textarea>a<b>c</b>", "<textarea>ac"),
    ],
)
def test_html(text, left):
    assert clean("html", text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Mình được 1 cô bạn giới_thiệu , dễ ! ! !", "Mình được 1 cô bạn giới_thiệu dễ"),
        ("Visiting_Da_Nang a__b e\u0301_e\u0301", "Visiting_Da_Nang a__b e\u0301_e\u0301"),
        ("_a a_ _ ___ a_-_b a_'b", "a a a b a b"),
        ("don't rock'n'roll l’eau", "don't rock'n'roll l’eau"),
        ("'tis dogs' a''b", "tis dogs a b"),
        ("50% $5 a+b=c x<y “q” – … ¿ ، 。", "50 5 a b c x y q"),
        ("♥ 🍑 👍🏽 ©", "♥ 🍑 👍🏽 ©"),
    ],
)
def test_punctuation(text, left):
    assert clean("punctuation", text) == left


def test_digits():
    assert clean("digits", "8 loại covid19 m² ½ ٣ १२ 𝟗 一 Ⅳ ba") == "loại covid m 一 Ⅳ ba"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("👨\u200d👩\u200d👧\u200d👦 👍🏽 🏳️\u200d🌈 🇻🇳 🏴\U000e0067\U000e0062\U000e007f a", "a"),
        ("#️⃣ 1️⃣ 2 ☎️ ☎ ↔️ ↔ 🀄 b", "2 ↔ b"),
        ("ngon :) ;-( =)) :'( :D :v :3 xD XDD =P :/ c", "ngon c"),
        ("ngon:))) . nice : - D , buồn : ( và : ) )", "ngon . nice , buồn và"),
        ("<3 ^^ ^_^ T_T -_- >_< o_O d", "d"),
        ("gồm : ( 1 ) 10:30 a=(b+c) http://a.vn c:/d (x) a<3b", "gồm : ( 1 ) 10:30 a=(b+c) http://a.vn c:/d (x) a<3b"),
        ("giới_thiệu To_Tt xDa :Da đến", "giới_thiệu To_Tt xDa :Da đến"),
        ("क्\u200dष می\u200cخواهم", "क्\u200dष می\u200cخواهم"),
    ],
)
def test_emoji(text, left):
    assert clean("emoji", text) == left


def test_whitespace_is_any_that_unicode_knows():
    text = "\ta\n\nb\r\nc\x85d\u2028e\u2029f\xa0g\u3000h\u200bi "
    assert Chain(["whitespace"]).clean([text]) == ["a b c d e f g h\u200bi"]


def test_case_and_unicode_forms():
    assert clean("lower", "ĐẶNG Straße ΟΔΟΣ") == "đặng straße οδος"
    assert clean("nfc", "e\u0323\u0302 ﬁ") == "ệ ﬁ"
    assert clean("nfkc", "e\u0323\u0302 ﬁ Ａ ² ①") == "ệ fi A 2 1"


def test_mojibake():
    fine = 'Đặng café “q” &amp; "x" ﬁ'
    assert Chain(["mojibake"]).clean([f"sÃ³ vÃ´\n{fine}"]) == [f"só vô\n{fine}"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Quán này thấy khá nhiều người bảo mình nên mình đã đi ăn thử , nhưng thực_sự không ngon", None),
        ("The room is cheap ! ! ! It ' s near the city center . The staff is so nice", "language: en, not vi"),
        ("Le camembert et le pain sont sublimes , les croissants aussi", "language: fr, not vi"),
        ("1 2 3 ! 🍑", None),
        ("", None),
    ],
)
def test_language(text, reason):
    vietnamese = Language("vi")
    assert (vietnamese.reason(text), vietnamese(text)) == (reason, text)


def test_an_unknown_language():
    with pytest.raises(ValueError, match=r"language:vn.*en, .*vi"):
        Chain(["language:vn"])


@pytest.mark.parametrize(
    ("name", "package"), [("html", "selectolax"), ("mojibake", "ftfy"), ("language:vi", "py3langid")]
)
def test_a_missing_package_is_named_before_any_text_is_read(monkeypatch, name, package):
    def missing(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(package_steps, "import_module", missing)
    for cached in (optional_package, package_steps._identifier):
        cached.cache_clear()
    with pytest.raises(UserError, match=rf"^preprocessing\.steps: \w+ needs {package}, .* pip install seqlab\[text\]$"):
        Chain([name])
    for cached in (optional_package, package_steps._identifier):
        cached.cache_clear()


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


def test_every_letter_of_latin_1_and_latin_extended_a_is_folded():
    """All but the micro sign, which is Greek."""
    letters = [chr(code) for code in range(0x180) if chr(code).isalpha() and chr(code) != "µ"]
    assert [letter for letter in letters if not ascii_fold(letter).isascii() or not ascii_fold(letter)] == []


def test_a_class_has_the_characters_of_its_categories():
    found = character_class("Nd", "P", below=0x1F000, exclude="_", include="a")
    pattern = re.compile(found.one)
    for character in map(chr, range(sys.maxunicode + 1)):
        category = unicodedata.category(character)
        wanted = (category == "Nd" or category[0] == "P") and character < "\U0001f000" and character != "_"
        assert bool(pattern.fullmatch(character)) == (wanted or character == "a"), ascii(character)


def test_marks_join():
    for character in ("\u0301", "\u0e49", "\u093e", "\ufe0f", "\u200d", "\U000e0100"):
        assert re.fullmatch(JOINING.one, character)


def test_runs_become_one_space():
    assert replace_runs(character_class("Nd"), "a12b३४c\U0001d7d8\U0001d7d9d") == "a b c d"
    assert replace_runs(character_class("Zs"), "a \xa0b\U0001d7d8") == "a b\U0001d7d8"


STEPS = ["language:vi" if name == "language" else name for name in plugins("step")]

# Any code point, and what steps look for, in any combination.
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
    assert isinstance(Chain([name], normalise=False).clean([text])[0], str)
    Chain([name]).reasons([text])


# HTML decodes one layer of entities at a time, so that `&amp;lt;` is `<` after the second.
@pytest.mark.parametrize("name", [name for name in STEPS if name != "html"])
@given(text=ANY)
@example("http://a<www.b.com")
@example(":😀)")
@example("foody.vnhttp://http://")
@example("x_\u0301_a__b'c''d")
@example("a.com-b.com @http://c")
def test_a_step_is_idempotent(name, text):
    chain = Chain([name], normalise=False)
    once = chain.clean([text])
    assert chain.clean(once) == once


@pytest.mark.parametrize("name", ["urls", "html", "punctuation", "digits", "emoji", "whitespace"])
@given(words=st.lists(st.text("abcăđếệộưк中", min_size=1, max_size=8), min_size=1, max_size=6))
def test_words_stay(name, words):
    text = " ".join(words)
    assert Chain([name]).clean([text]) == [unicodedata.normalize("NFC", text)]


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("part", REPEATED)
def test_a_long_line_of_one_kind_takes_linear_time(name, part):
    """Checked by the timeout: quadratic time is minutes."""
    long = part * (200_000 // len(part))
    Chain([name], normalise=False).clean([long])


def test_every_character_by_itself_is_taken():
    chain = Chain([name for name in STEPS if name not in ("mojibake", "html")])
    chain.clean([chr(code) for code in range(0, sys.maxunicode, 7)])
