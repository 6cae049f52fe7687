"""Version of the plugin API, and the adapter for plugins written for an older one."""

import warnings
from collections.abc import Mapping
from typing import Any

PLUGIN_API = 2
"""Rises when older plugins must be changed; a class may name the one that it is written for: ``plugin_api = 2``."""
OLDEST_PLUGIN_API = 1
"""The oldest version that is adapted, with a DeprecationWarning."""

_RENAMED = {"blind_outputs": "baseline_outputs", "observe": "set_vocabulary", "postpones": "defer_reason"}
_KEYWORDS = ("preprocessing", "presets", "max_epochs", "sequence_length_means")


def adapt_task(cls: type, extensions: Mapping[str, type]) -> dict[str, Any]:
    """Give a task class the names and base classes of this API; return the class keywords that it has as attributes.

    Args:
        cls: a subclass of :class:`.Task` that is being made.
        extensions: the class to derive from for each member that is no longer one of :class:`.Task`.
    """
    changes = _rename_members(cls)
    keywords = {name: vars(cls)[name] for name in _KEYWORDS if name in vars(cls)}
    if keywords:
        written = ", ".join(f"{name}={value!r}" for name, value in keywords.items())
        changes.append(f"replace class attributes by keywords: class {cls.__name__}(..., {written})")
    wanted = {extension for member, extension in extensions.items() if vars(cls).get(member) not in (None, False)}
    if vars(cls).get("carries_state") and getattr(cls, "per_step", False):
        wanted.add(extensions["set_vocabulary"])
    # Not by issubclass, whose answer for the class being made would be cached.
    missing = [one for one in wanted if not any(one in other.__mro__ for other in (wanted | {cls}) - {one})]
    if missing:
        missing.sort(key=lambda extension: extension.__name__)
        cls.__bases__ = (*(base for base in cls.__bases__ if base not in missing[0].__mro__), *missing)
        changes.append(f"derive from {', '.join(f'seqlab.{extension.__name__}' for extension in missing)}")
    _warn(cls, changes)
    return keywords


def adapt_kernel(cls: type) -> None:
    """Give a subclass of :class:`.Kernel` that is being made the names of this API."""
    _warn(cls, _rename_members(cls))


def _rename_members(cls: type) -> list[str]:
    """Add each renamed member under its new name; return the changes."""
    changes: list[str] = []
    for old, new in _RENAMED.items():
        if old in vars(cls) and new not in vars(cls):
            setattr(cls, new, vars(cls)[old])
            changes.append(f"rename {old} to {new}")
    return changes


def _warn(cls: type, changes: list[str]) -> None:
    if changes:
        where = f"{cls.__module__}.{cls.__qualname__}"
        text = f"{where} is written for plugin API 1, which is deprecated: {'; '.join(changes)}"
        warnings.warn(text, DeprecationWarning, stacklevel=5)  # above abc and __init_subclass__
