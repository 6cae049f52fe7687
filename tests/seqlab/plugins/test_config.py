"""Config nodes from constructor signatures."""

import copy
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from seqlab import UserError
from seqlab.errors import check_range
from seqlab.plugins import config
from seqlab.plugins.config import build
from seqlab.plugins.signature import argument_docs, options, summary


class Colour(Enum):
    red = 1
    blue = 2


@dataclass
class Inner:
    rate: float = 0.5


class Base:
    """The base.

    Args:
        width: how wide,
            in steps.
        kind: which.
    """

    def __init__(self, width: int = 3, kind: Literal["a", "b"] = "a"):
        check_range("width", width, 1)
        self.width, self.kind = width, kind


class Derived(Base):
    """One that inherits options.

    Args:
        supplied: from the framework.
        names: any.
    """

    def __init__(
        self,
        supplied: str,
        names: list[str] | None = None,
        colour: Colour = Colour.red,
        inner: Inner = Inner(),  # noqa: B008  # a default that is a dataclass is what is tested
        limit: int | None = None,
        both: int | str = 2,
        **rest: object,
    ):
        super().__init__(**rest)
        self.supplied, self.names, self.colour, self.inner, self.limit = supplied, names, colour, inner, limit


@pytest.fixture(autouse=True)
def derived(monkeypatch):
    monkeypatch.setattr(config, "plugin_classes", lambda kind, name: [Derived])
    config.node_type.cache_clear()
    yield
    config.node_type.cache_clear()


def test_options_include_those_of_the_base():
    assert [option.name for option in options(Derived)] == [
        "supplied", "names", "colour", "inner", "limit", "both", "width", "kind",
    ]  # fmt: skip
    assert [option.name for option in options(Derived) if option.supplied] == ["supplied"]


def test_docs_come_from_the_class_that_has_the_argument():
    docs = {option.name: option.doc for option in options(Derived)}
    assert docs["width"] == "how wide, in steps."
    assert docs["names"] == "any."
    assert argument_docs(Base)["kind"] == "which."
    assert summary(Derived) == "One that inherits options"


def test_node_has_the_defaults_and_the_types():
    node = config.node("cell", "derived")
    assert OmegaConf.to_container(node, enum_to_str=True) == {
        "name": "derived", "names": None, "colour": "red", "inner": {"rate": 0.5}, "limit": None, "both": 2,
        "width": 3, "kind": "a",
    }  # fmt: skip
    for key, value in (("width", "wide"), ("colour", "green"), ("limit", "x"), ("inner", 3)):
        with pytest.raises(ValidationError):
            node[key] = value
    with pytest.raises(OmegaConfBaseException, match="widht"):
        OmegaConf.update(node, "widht", 3)
    node.limit, node.names, node.inner.rate = 4, ["x"], 1.0


class Switched:
    def __init__(self, on: bool = False):
        self.on = on


@pytest.mark.filterwarnings("ignore:Implicit conversion:FutureWarning")  # of OmegaConf 2.4, for numbers that it takes
def test_a_bool_is_no_number(monkeypatch):
    """0, 1 and words are converted; 3 is refused instead of being true, also in a copy."""
    monkeypatch.setattr(config, "plugin_classes", lambda kind, name: [Switched])
    made = config.node("task", "switched")
    for node in (made, copy.deepcopy(made)):
        for value, kept in ((True, True), (0, False), (1, True), ("yes", True), ("false", False)):
            node.on = value
            assert node.on is kept
        for wrong in (3, -1, 0.5, "maybe", None):
            with pytest.raises(ValidationError):
                node.on = wrong


def test_build_makes_the_object():
    made = build("cell", {"name": "derived", "width": 5, "colour": "blue", "inner": {"rate": 2}}, supplied="s", other=1)
    assert (made.width, made.colour, made.inner, made.supplied) == (5, Colour.blue, Inner(2.0), "s")


@pytest.mark.parametrize(
    ("chosen", "line"),
    [
        ({"width": -4}, "cell.width must be >= 1, got -4"),
        ({"kind": "c"}, "cell.kind must be a or b, got c"),
        ({"width": "x"}, "cell.width must be an integer, got x"),
        (
            {"depth": 1},
            "cell.depth: there is no such key; cell has name, names, colour, inner, limit, both, width, kind",
        ),
    ],
)
def test_build_names_the_key_of_a_mistake(chosen, line):
    with pytest.raises(UserError) as caught:
        build("cell", {"name": "derived", **chosen}, supplied="s")
    assert str(caught.value) == line


def test_build_says_what_nothing_supplies():
    with pytest.raises(UserError, match="its constructor needs supplied, which nothing supplies"):
        build("cell", {"name": "derived"})
