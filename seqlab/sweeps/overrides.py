"""Overrides of a sweep: checks of those read from files, and expansion by Hydra's own parser."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException

from hydra_ledger.identity import override_key
from seqlab.config.compose import configs
from seqlab.errors import UserError
from seqlab.io.safe_io import escape_control
from seqlab.plugins.hydra_internals import expand_sweep
from seqlab.sweeps.ledger import MOST_RUNS

__all__ = [
    "check_file_overrides", "expand", "expand_each", "expand_groups", "launcher_fault", "override_key",
    "split_overrides",
]  # fmt: skip

_LAUNCHER_KEYS = (
    "n_jobs", "parallel", "timeout_min", "cpus_per_task", "gpus_per_node", "gpus_per_task", "tasks_per_node",
    "mem_gb", "mem_per_cpu", "mem_per_gpu", "mem", "nodes", "name", "partition", "qos", "account", "constraint",
    "gres", "exclude", "array_size", "array_parallelism", "max_num_timeout", "signal_delay_s", "prefer", "batch_size",
    "verbose",
)  # fmt: skip
"""Launcher keys that files may set: resources, but no commands (``setup``) and no environment (``env_set``)."""
_RAY_KEYS = ("num_cpus", "num_gpus", "memory", "object_store_memory", "max_retries", "include_dashboard")
"""The same below ``ray.init`` and ``ray.remote``: no ``address`` and no ``runtime_env``."""
_SWEEPER_KEYS = r"hydra\.sweeper(\.(?!(hydra|custom_search_space|storage)\b)[a-z]\w*)+"
"""Sweeper keys that files may set: Optuna imports ``custom_search_space`` and opens ``storage``."""
_HYDRA_KEYS = re.compile(
    rf"hydra/(launcher|sweeper(/[a-z]\w*)*)|hydra\.launcher\.({'|'.join(_LAUNCHER_KEYS)})|{_SWEEPER_KEYS}"
    rf"|hydra\.launcher\.ray\.(init|remote)\.({'|'.join(_RAY_KEYS)})"
)
_PROCESS_KEYS, _MOST_PROCESSES = ("n_jobs", "parallel", "num_cpus"), 1024
_UNSAFE_VALUE = re.compile(r"hydra|_target_|\$\{", re.IGNORECASE)


def check_file_overrides(overrides: Sequence[str], source: str, hint: str) -> None:
    """Refuse overrides of a file that are flags, or keys by which Hydra imports or runs something."""
    for override in overrides:
        if fault := _fault(override):
            raise UserError(f"{source} has the override {escape_control(override)[:120]!r}, {fault}; {hint}")


def _fault(override: str) -> str | None:
    if _has_control(override):
        return "which has control characters"
    if override.startswith("-") or not override:
        return "which is no setting"
    try:
        (parsed,) = OverridesParser.create().parse_overrides([override])
    except (HydraException, ValueError, RecursionError):
        return "which is not understood"
    key = parsed.key_or_group + (f"@{parsed.package}" if parsed.package else "")
    if "hydra" not in key.lower() and not any(part.startswith("_") for part in re.split(r"[./@:]", key)):
        return None
    if _HYDRA_KEYS.fullmatch(key) is None:
        return "by which Hydra could run code"
    if _UNSAFE_VALUE.search(override.partition("=")[2]):
        return "whose value could make Hydra run code"
    launcher = key.removeprefix("hydra.launcher.")
    return launcher_fault(launcher, parsed.value()) if launcher != key else None


def _has_control(text: str) -> bool:
    return escape_control(text) != text or "\n" in text or "\r" in text


def launcher_fault(key: str, value: object) -> str | None:
    """Return why a file may not set a key of a launcher, such as ``ray.init.num_cpus``; ``None`` if it may."""
    group, _, key = key.rpartition(".")
    if key not in {"": _LAUNCHER_KEYS, "ray.init": _RAY_KEYS, "ray.remote": _RAY_KEYS}.get(group, ()):
        return "by which a launcher could run code"
    if isinstance(value, str) and _has_control(value):
        return "in which a line of a batch script could end"
    if key in _PROCESS_KEYS and isinstance(value, int | float) and value > _MOST_PROCESSES:
        return f"which is more than {_MOST_PROCESSES:,} processes at a time"
    return None


def split_overrides(text: str) -> list[str]:
    """Split overrides such as ``cell=rnn task.name='a b'`` at blanks outside quotes and brackets."""
    return re.findall(r"""(?:\\.|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\[[^\]]*\]|\([^)]*\)|\{[^}]*\}|\S)+""", text)


def expand(overrides: Sequence[str], params: Mapping[str, Any] | None = None) -> list[list[str]]:
    """Return the overrides of each run of a sweep, in the order of Hydra's basic sweeper.

    Args:
        overrides: of the sweep, in Hydra's syntax: ``choice()``, ``range()``, ``glob()``, ``sort()``, ``shuffle()``,
            commas and quotes.
        params: ``hydra.sweeper.params`` of the config; overrides take precedence.
    """
    with configs():
        parsed = _parse([*(f"{key}={value}" for key, value in (params or {}).items()), *overrides])
        _check_count(parsed)
        return expand_sweep(parsed)


def expand_each(overrides: Sequence[str]) -> list[list[str]]:
    """Return the list of values of each override, as overrides; of equal keys the last counts."""
    with configs():
        last = _last(_parse(overrides))
        _check_count(last)
        return [[override for (override,) in expand_sweep([each])] for each in last]


def expand_groups(overrides: Sequence[str], groups: Sequence[str]) -> list[list[str]]:
    """Return the overrides for each choice of some config groups, without the sweeps of other keys."""
    with configs():
        last = _last(_parser().parse_overrides(list(overrides)))
        kept = [each for each in last if not each.is_sweep_override() or str(each.key_or_group) in groups]
        values = [[override for (override,) in expand_sweep([each])] for each in kept]
    return [list(each) for each in product(*values)]


def _parser() -> OverridesParser:
    return OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())


def _last(parsed: Iterable[Override]) -> list[Override]:
    return list({override.get_key_element(): override for override in parsed}.values())


def _parse(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides whose values can be listed; Hydra must be ready (:func:`configs`) for ``glob()``."""
    found = _parser().parse_overrides(list(overrides))
    for override in found:
        if override.is_interval_sweep():
            key = override.get_key_element()
            raise UserError(
                f"{override.input_line}: an interval has no list of values; write {key}=choice(...) or"
                f" {key}=range(...), or choose a sweeper that samples, such as hydra/sweeper=optuna"
            )
    return found


def _check_count(overrides: Sequence[Override]) -> None:
    """Count the runs before the expansion, as a range of a few digits may be too large for memory."""
    count = 1.0
    for override in overrides:
        value, line = override.value(), str(override.input_line)
        if isinstance(value, RangeSweep):
            assert value.start is not None
            assert value.stop is not None
            count *= max((value.stop - value.start) / value.step if value.step else math.inf, 1)
        elif override.is_discrete_sweep():
            count *= sum(1 for _ in override.sweep_string_iterator())
        if count > MOST_RUNS:
            raise UserError(f"{line[:80]}: this sweep asks for more than {MOST_RUNS:,} runs")
        if override.is_sweep_override() and not any(True for _ in override.sweep_string_iterator()):
            raise UserError(f"{line}: there is no value, so no run")
