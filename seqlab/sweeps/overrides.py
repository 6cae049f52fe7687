"""Overrides of a sweep: checks of those read from files, and expansion by Hydra's own parser."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException

from seqlab.config.compose import configs
from seqlab.errors import UserError
from seqlab.io.safe_io import escape_control
from seqlab.plugins.hydra_internals import expand_sweep
from seqlab.sweeps.ledger import MOST_RUNS

LAUNCHER = (
    "n_jobs", "parallel", "timeout_min", "cpus_per_task", "gpus_per_node", "gpus_per_task", "tasks_per_node",
    "mem_gb", "mem_per_cpu", "mem_per_gpu", "mem", "nodes", "name", "partition", "qos", "account", "constraint",
    "gres", "exclude", "array_size", "array_parallelism", "max_num_timeout", "signal_delay_s", "prefer", "batch_size",
    "verbose",
)  # fmt: skip
"""What of a launcher says how much, and not what is run: ``setup`` is a shell's, ``env_set`` an environment's."""
_SWEEPER = r"hydra\.sweeper(\.(?!(hydra|custom_search_space|storage)\b)[a-z]\w*)+"
"""Of a sweeper, what is neither imported nor written somewhere: Optuna imports the one and opens the other."""
_OF_HYDRA = re.compile(rf"hydra/(launcher|sweeper(/[a-z]\w*)*)|hydra\.launcher\.({'|'.join(LAUNCHER)})|{_SWEEPER}")
_PROCESSES = ("n_jobs", "parallel")
_MOST_PROCESSES = 1024
_HIDDEN = re.compile(r"hydra|_target_|\$\{", re.IGNORECASE)


def check_file_overrides(words: Sequence[str], where: str, way_out: str) -> None:
    """Refuse words of a file that are no settings of a run: flags, and keys by which Hydra imports or runs something.

    Args:
        words: overrides.
        where: the file, for the message.
        way_out: what the user can do about a word of their own.

    Raises:
        UserError: there is one.
    """
    for word in words:
        if fault := _fault(word):
            raise UserError(f"{where} has the word {escape_control(word)[:120]!r}, {fault}; {way_out}")


def _fault(word: str) -> str | None:
    if escape_control(word) != word or "\n" in word or "\r" in word:
        return "which has control characters"
    if word.startswith("-") or not word:
        return "which is no setting"
    try:
        (parsed,) = OverridesParser.create().parse_overrides([word])
    except (HydraException, ValueError, RecursionError):
        return "which is not understood"
    key = parsed.key_or_group + (f"@{parsed.package}" if parsed.package else "")
    if "hydra" not in key.lower() and not any(part.startswith("_") for part in re.split(r"[./@:]", key)):
        return None
    if _OF_HYDRA.fullmatch(key) is None:
        return "by which Hydra could run code"
    if _HIDDEN.search(word.partition("=")[2]):
        return "whose value could make Hydra run code"
    return launcher_fault(key.rpartition(".")[2], parsed.value()) if key.startswith("hydra.launcher.") else None


def split_overrides(text: str) -> list[str]:
    """Split overrides that stand in one text, at blanks outside quotes and brackets.

    Args:
        text: such as ``cell=rnn task.name='a b'``.
    """
    return re.findall(r"""(?:\\.|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\[[^\]]*\]|\([^)]*\)|\{[^}]*\}|\S)+""", text)


def launcher_fault(key: str, value: object) -> str | None:
    """Say what is wrong with a value that a file sets for a launcher; ``None`` where it says how much, and not what.

    Args:
        key: of the launcher's node.
        value: of it.
    """
    if key not in LAUNCHER:
        return "by which a launcher could run code"
    if isinstance(value, str) and (escape_control(value) != value or "\n" in value or "\r" in value):
        return "in which a line of a batch script could end"
    if key in _PROCESSES and isinstance(value, int | float) and value > _MOST_PROCESSES:
        return f"which is more than {_MOST_PROCESSES:,} processes at a time"
    return None


def key_of(word: str) -> str:
    """Return the key of an override, without the signs by which it is added or removed."""
    return word.partition("=")[0].lstrip("+~")


def expand(words: Sequence[str], params: Mapping[str, Any] | None = None) -> list[list[str]]:
    """Return the overrides of each run of a sweep, in the order of Hydra's basic sweeper.

    Args:
        words: the sweep's overrides; ``choice()``, ``range()``, ``glob()``, ``sort()``, ``shuffle()``, commas and
            quotes mean what Hydra's documentation says.
        params: ``hydra.sweeper.params`` of the config, behind which the overrides win.

    Raises:
        hydra.errors.HydraException: an override is not understood.
        UserError: one has no values, or there are more runs than anyone could do.
    """
    with configs():
        parsed = parse([*(f"{key}={value}" for key, value in (params or {}).items()), *words])
        _check_count(parsed)
        runs = expand_sweep(parsed)
        if not runs:
            empty = [each for each in parsed if each.is_sweep_override() and not any(each.sweep_string_iterator())]
            raise UserError(f"{', '.join(str(each.input_line) for each in empty)}: there is no value, so no run")
    return runs


def choices(words: Sequence[str]) -> list[list[str]]:
    """Return what each override becomes: itself, or one for each value of a sweep; of equal keys the last one counts.

    Args:
        words: overrides.

    Raises:
        hydra.errors.HydraException, UserError: as :func:`expand`.
    """
    with configs():
        last = {override.get_key_element(): override for override in parse(words)}
        _check_count(list(last.values()))
        return [[word for (word,) in expand_sweep([each])] for each in last.values()]


def alternatives(words: Sequence[str], groups: Sequence[str]) -> list[list[str]]:
    """Return the overrides for each choice of some groups; sweeps of other keys are left out.

    Args:
        words: a sweep's overrides.
        groups: names of config groups.

    Raises:
        hydra.errors.HydraException: an override is not understood.
    """
    with configs():
        last = {override.get_key_element(): override for override in _parser().parse_overrides(list(words))}
        kept = [each for each in last.values() if not each.is_sweep_override() or str(each.key_or_group) in groups]
        found = [[word for (word,) in expand_sweep([each])] for each in kept]
    return [list(each) for each in product(*found)]


def parse(words: Sequence[str]) -> list[Override]:
    """Parse overrides whose sweeps can be listed; call it where Hydra is ready (:func:`configs`), for ``glob()``.

    Raises:
        hydra.errors.HydraException: an override is not understood.
        UserError: an ``interval()`` has no list of values.
    """
    found = _parser().parse_overrides(list(words))
    for override in found:
        if override.is_interval_sweep():
            key = override.get_key_element()
            raise UserError(
                f"{override.input_line}: an interval has no list of values; write {key}=choice(...) or"
                f" {key}=range(...), or choose a sweeper that samples, such as hydra/sweeper=optuna"
            )
    return found


def _parser() -> OverridesParser:
    return OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())


def _check_count(words: Sequence[Override]) -> None:
    """Count the runs of a sweep before they are multiplied out: a range is as long as a few digits say."""
    count = 1.0
    for word in words:
        value = word.value()
        if isinstance(value, RangeSweep):
            assert value.start is not None
            assert value.stop is not None
            steps = (value.stop - value.start) / value.step if value.step else math.inf
            count *= max(steps, 1)
        elif word.is_discrete_sweep():
            count *= sum(1 for _ in word.sweep_string_iterator())
        if count > MOST_RUNS:
            raise UserError(f"{str(word.input_line)[:80]}: this sweep asks for more than {MOST_RUNS:,} runs")
