"""The picture of the architecture is that of the imports."""

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
