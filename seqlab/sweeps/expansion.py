"""Hydra's sweep syntax: the overrides of each run, by Hydra's own parser."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep

from seqlab.discovery.hydra_internals import expand_sweep
from seqlab.errors import UserError
from seqlab.sweeps.ledger import MOST_RUNS
from seqlab.training.compose import configs


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
