"""What each step takes out, and what it leaves."""

import pytest

from seqlab import UserError
from seqlab_preprocessing import optional
from seqlab_preprocessing.chain import Chain
from seqlab_preprocessing.steps.language import Language


def clean(name, text):
    """Blanks are made one, so that they need not be counted."""
    return Chain([name, "whitespace"], nfc=False).clean([text])[0]


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


def test_a_language_that_is_none():
    with pytest.raises(ValueError, match=r"language:vn is no language; there are .*en, .*vi"):
        Chain(["language:vn"])


@pytest.mark.parametrize(
    ("name", "package"), [("html", "selectolax"), ("mojibake", "ftfy"), ("language:vi", "py3langid")]
)
def test_a_missing_package_is_named_before_any_text_is_read(monkeypatch, name, package):
    def missing(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(optional, "import_module", missing)
    optional.needed.cache_clear()
    monkeypatch.setattr("seqlab_preprocessing.steps.language._identifier", _fresh_identifier)
    with pytest.raises(UserError, match=rf"^preprocessing\.steps: \w+ needs {package}, .* pip install seqlab\[text\]$"):
        Chain([name])
    optional.needed.cache_clear()


def _fresh_identifier():
    return optional.needed("py3langid.langid", "preprocessing.steps: language")
