"""Search space of a plugin: the options of its constructor that ``tune`` varies, and their values."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final, get_args, get_origin, get_type_hints

from seqlab.errors import check_range

_SIZE = "hidden_size"


@final
@dataclass(frozen=True)
class Choice:
    """Values to choose from.

    Attributes:
        values: as in a config, at least one; the first one is tried first, and the default of the config is added.

    Raises:
        ValueError: there is no value.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a choice must have at least one value")


@final
@dataclass(frozen=True)
class Interval:
    """Numbers from ``low`` to ``high``, both included; integers if both are.

    Attributes:
        low, high: the ends; ``low`` < ``high``.
        log: whether to sample the logarithm, which needs ``low`` > 0.

    Raises:
        ValueError: the ends are not in order, or ``low`` is not positive with ``log``.
    """

    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        check_range("high", self.high, above=self.low)
        if self.log:
            check_range("low", self.low, above=0)


Dimension: TypeAlias = Choice | Interval
SearchSpace: TypeAlias = Mapping[str, Dimension]
"""By option of a constructor, its values."""


def derived_space(plugin: type) -> dict[str, Dimension]:
    """Derive the search space of a plugin from its constructor.

    Flags have both values, options of type ``Literal`` all of theirs, ``hidden_size`` its default and half and twice
    of it. Other options are not searched: their types do not tell a range.
    """
    constructor = vars(plugin).get("__init__")
    if constructor is None:
        return {}
    try:
        hints = get_type_hints(constructor)
    except NameError:  # an annotation that exists for type checkers only
        return {}
    found: dict[str, Dimension] = {}
    for name, parameter in inspect.signature(constructor).parameters.items():
        default, kind = parameter.default, hints.get(name)
        if default is inspect.Parameter.empty:
            continue
        if kind is bool:
            found[name] = Choice((default, not default))
        elif get_origin(kind) is Literal and len(get_args(kind)) > 1:
            found[name] = Choice((default, *(value for value in get_args(kind) if value != default)))
        elif name == _SIZE and type(default) is int and default > 1:
            found[name] = Choice((default, default // 2, 2 * default))
    return found
