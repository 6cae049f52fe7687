"""Identity of a sweep: a key of what it computes, and how the command that resumes it differs from the original."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any


def override_key(override: str) -> str:
    """Return the key of an override, without the signs that add or delete it."""
    return override.partition("=")[0].lstrip("+~")


def digest(value: Any) -> str:
    """Return twelve hexadecimal digits of the SHA-256 of a JSON value, whose keys may be in any order."""
    plain = json.loads(json.dumps(value, default=str))  # whose keys are texts, so that they can be sorted
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def sweep_key(overrides: Iterable[str], matters: Callable[[str], bool] = lambda _: True) -> str:
    """Return the key of a sweep: a hash of its overrides in any order.

    Args:
        overrides: of the sweep.
        matters: whether an override says what is computed, and not where or how it runs.
    """
    return digest(sorted(filter(matters, overrides)))


def override_difference(
    original: Sequence[str], resumed: Sequence[str], matters: Callable[[str], bool] = lambda _: True
) -> str | None:
    """Return the first override in which a resumed sweep differs from the original; ``None`` if they are compatible."""
    if sweep_key(original, matters) == sweep_key(resumed, matters):
        return None
    there, here = ({override_key(each): each for each in words if matters(each)} for words in (original, resumed))
    for key in [*there, *here]:
        if there.get(key) != here.get(key):
            return f"{there.get(key, f'no {key}')} there, {here.get(key, f'no {key}')} here"
    return "an override is there twice"


def config_difference(original: Mapping[str, Any], resumed: Mapping[str, Any], ignored: Sequence[str]) -> str | None:
    """Return the first value in which two configs differ; ``None`` if they are compatible.

    Args:
        original: as it was stored, nested.
        resumed: of the command that resumes it.
        ignored: keys, and prefixes of keys up to a dot, whose values do not matter.
    """
    there, here = dict(_flat(original)), dict(_flat(resumed))
    for key in [*there, *here]:
        is_ignored = any(f"{key}.".startswith(f"{each}.") for each in ignored)
        if not is_ignored and there.get(key, "nothing") != here.get(key, "nothing"):
            return f"{key}={there.get(key, 'nothing')} there, {here.get(key, 'nothing')} here"
    return None


def _flat(node: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value
