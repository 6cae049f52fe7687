"""Registry of the planted faults."""

from typing import Any

FAULTS: list[tuple[type[Any], str]] = []
"""Each faulty plugin, and the check that must find it."""


class Fault:
    """Base class of plugins; ``class Wrong(Right, caught_by="name")`` plants a fault that this check must find."""

    def __init_subclass__(cls, caught_by: str | tuple[str, ...] = (), **more: Any) -> None:
        super().__init_subclass__(**more)
        FAULTS.extend((cls, check) for check in ((caught_by,) if isinstance(caught_by, str) else caught_by))
