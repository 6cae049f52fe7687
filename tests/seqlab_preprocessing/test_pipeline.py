"""Chains of steps: order, filters, line ends, and plugins that are not steps."""

import importlib
from importlib.metadata import EntryPoint

import pytest

from seqlab import UserError
from seqlab.plugins import registry
from seqlab_preprocessing.pipeline import Chain

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


def test_nfc_comes_first_by_default():
    assert Chain().clean(["e\u0301"]) == ["\u00e9"]
    assert Chain(normalise=False).clean(["e\u0301"]) == ["e\u0301"]


def test_invalid_names():
    with pytest.raises(UserError, match=r"step=lowr: there is no such step; there are .*lower"):
        Chain(["lowr"])
    with pytest.raises(ValueError, match=r"steps must be a list of names.* got 'lower'"):
        Chain("lower")
    with pytest.raises(ValueError, match="steps: language needs an argument, as in language:vi"):
        Chain(["language"])
    with pytest.raises(ValueError, match="steps: lower takes no argument, got 'vi'"):
        Chain(["lower:vi"])


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("step = 3", "must be a function"),
        ("def step(text): return 3", "must return text, got int"),
        ("def step(text): return text[0]", "fails on an empty text: IndexError"),
    ],
)
def test_a_broken_step_of_a_third_party(tmp_path, monkeypatch, code, wrong):
    (tmp_path / "broken_third_party_step.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.delitem(__import__("sys").modules, "broken_third_party_step", raising=False)
    entry = EntryPoint("odd", "broken_third_party_step:step", "seqlab.steps")
    monkeypatch.setattr(registry, "plugins", lambda kind: {"odd": registry._plugin(kind, "odd", [entry])})
    with pytest.raises(ValueError, match=f"steps: odd {wrong}"):
        Chain(["odd"])
