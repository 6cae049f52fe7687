"""The architecture diagram equals the imports."""

import re

import diagram


def test_the_diagram_is_drawn_from_the_imports():
    shown = diagram.PICTURE.read_text("utf-8")
    assert shown == diagram.draw(diagram.imports()), "imports changed: run python docs/_ext/diagram.py"


def test_transitive_arrows_are_left_out():
    edges = {"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert diagram.reduced(edges) == {"a": {"b", "d"}, "b": {"c"}, "c": set(), "d": set()}


def test_a_further_import_changes_the_diagram():
    edges = diagram.imports()
    further = {**edges, "seqlab.export": {*edges["seqlab.export"], "seqlab.testing"}}
    assert diagram.draw(edges) != diagram.draw(further)


def test_every_package_is_drawn_inside_the_frame():
    edges = diagram.imports()
    shown = diagram.draw(edges)
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', shown).groups())
    assert {diagram.short(name) for name in edges} <= set(map(diagram.short, re.findall(r"<text[^>]*>(\w+)", shown)))
    boxes = re.findall(r'<rect x="(.*?)" y="(.*?)" width="(.*?)" height="(.*?)"', shown)
    assert len(boxes) == len(edges)
    for x, y, across, down in (map(float, box) for box in boxes):
        assert min(x, y) >= 0
        assert x + across <= width
        assert y + down <= height
