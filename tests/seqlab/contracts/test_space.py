"""Search spaces: what a constructor tells, and what is refused."""

from typing import Literal

import pytest

from seqlab.contracts import Choice, Interval
from seqlab.contracts.space import derived_space


class Plugin:
    def __init__(
        self,
        input_size: int,
        hidden_size: int = 64,
        kind: Literal["b", "a", "c"] = "a",
        flag: bool = True,
        rate: float = 0.1,
        steps: int = 3,
        only: Literal["x"] = "x",
        maybe: bool | None = None,
    ) -> None:
        pass


def test_flags_choices_and_the_size_are_derived_with_the_default_first():
    assert derived_space(Plugin) == {
        "hidden_size": Choice((64, 32, 128)),
        "kind": Choice(("a", "b", "c")),
        "flag": Choice((True, False)),
    }


def test_a_plugin_without_a_constructor_has_no_space():
    assert derived_space(type("Heir", (Plugin,), {})) == {}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Choice(()),
        lambda: Interval(1, 1),
        lambda: Interval(2, 1),
        lambda: Interval(0, 1, log=True),
        lambda: Interval(float("nan"), 1),
    ],
)
def test_an_empty_dimension_is_refused(make):
    with pytest.raises(ValueError, match="must"):
        make()
