"""The picture of the architecture is that of the imports."""

import re

import diagram


def test_the_picture_is_drawn_from_the_imports():
    shown = diagram.PICTURE.read_text("utf-8")
    assert shown == diagram.draw(diagram.imports()), "imports changed: python docs/_ext/diagram.py draws them anew"


def test_arrows_that_follow_from_others_are_left_out():
    edges = {"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert diagram.reduced(edges) == {"a": {"b", "d"}, "b": {"c"}, "c": set(), "d": set()}


def test_an_import_that_is_not_there_changes_the_picture():
    edges = diagram.imports()
    further = {**edges, "seqlab.export": {*edges["seqlab.export"], "seqlab.testing"}}
    assert diagram.draw(edges) != diagram.draw(further)


def test_every_package_of_the_core_is_in_the_picture():
    """Inside its frame: what is drawn beyond it nobody sees."""
    edges = diagram.imports()
    shown = diagram.draw(edges)
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', shown).groups())
    words = " ".join(re.findall(r"<text[^>]*>([^<]*)", shown))
    for name in {*diagram.core(edges), *diagram.FAMILIES}:
        assert diagram.short(name) in words
    boxes = [
        tuple(map(float, box)) for box in re.findall(r'<rect x="(.*?)" y="(.*?)" width="(.*?)" height="(.*?)"', shown)
    ]
    assert len(boxes) == len({*diagram.core(edges), *diagram.FAMILIES})
    for x, y, across, down in boxes:
        assert min(x, y) >= 0
        assert x + across <= width
        assert y + down <= height
