"""Chains: in their order, filters only where training asks, line ends kept."""

import importlib
from importlib.metadata import EntryPoint

import pytest

from seqlab import UserError
from seqlab.plugins import registry
from seqlab_preprocessing.chain import Chain

ENGLISH = "The room is cheap and the staff is very nice"


def test_steps_run_in_their_order():
    assert Chain(["ascii", "lower"]).clean(["ÉA"]) == ["ea"]
    assert Chain(["punctuation", "emoji"]).clean([":D"]) == [" D"]
    assert Chain(["emoji", "punctuation"]).clean([":D"]) == [" "]


def test_a_filter_changes_no_text():
    chain = Chain(["language:vi", "lower"])
    assert chain.clean([ENGLISH]) == [ENGLISH.lower()]
    assert chain.reasons([ENGLISH, "Quán này ngon lắm , mình rất thích"]) == ["language: en, not vi", None]


def test_the_step_that_leaves_nothing_is_named():
    chain = Chain(["urls", "html", "digits"])
    texts = ["", " \n\u2028", "http://a.vn", "<br>", " 12 ", "a"]
    empty = "empty"
    assert chain.reasons(texts) == [empty, empty, "empty after urls", "empty after html", "empty after digits", None]


def test_a_filter_judges_what_the_steps_before_have_left():
    dirt = "<div><span>Quán này ngon lắm</span></div> <!-- the best place in the town that there is for food -->"
    assert Chain(["html", "language:vi"]).reasons([dirt]) == [None]
    assert Chain(["language:vi", "html"]).reasons([dirt]) != [None]


def test_by_line_no_step_takes_the_line_ends():
    chain = Chain(["whitespace", "html"], by_line=True)
    assert chain.clean([" a  b \n\n<b>c</b>\u2028d\n"]) == ["a b\n\nc d\n"]


def test_nfc_comes_first_unless_it_is_not_wanted():
    assert Chain().clean(["e\u0301"]) == ["\u00e9"]
    assert Chain(nfc=False).clean(["e\u0301"]) == ["e\u0301"]
    assert (bool(Chain()), bool(Chain(["lower"]))) == (False, True)


def test_a_step_that_is_none():
    with pytest.raises(UserError, match=r"step=lowr: there is no such step; there are .*lower"):
        Chain(["lowr"])
    with pytest.raises(ValueError, match="steps is 'lower'; it must be a list of names"):
        Chain("lower")
    with pytest.raises(ValueError, match="steps: language needs an argument, as in language:vi"):
        Chain(["language"])
    with pytest.raises(ValueError, match="steps: lower takes no argument, but is given 'vi'"):
        Chain(["lower:vi"])


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("step = 3", "is no function from text to text"),
        ("def step(text): return 3", "makes a int of a text"),
        ("def step(text): return text[0]", "fails on an empty text: IndexError"),
    ],
)
def test_a_step_of_others_that_is_broken(tmp_path, monkeypatch, code, wrong):
    (tmp_path / "broken_step_of_others.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.delitem(__import__("sys").modules, "broken_step_of_others", raising=False)
    entry = EntryPoint("odd", "broken_step_of_others:step", "seqlab.steps")
    monkeypatch.setattr(registry, "plugins", lambda kind: {"odd": registry._plugin(kind, "odd", [entry])})
    with pytest.raises(ValueError, match=f"steps: odd {wrong}"):
        Chain(["odd"])
