"""Composition of configs by Hydra, as on the command line."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any, final

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig

from seqlab.config.schema import plain_config
from seqlab.errors import UserError
from seqlab.plugins.hydra_internals import VERSION_BASE, apply_overrides, check_single_run
from seqlab.plugins.hydra_source import Sources, register, sources
from seqlab.plugins.registry import KINDS, plugins
from seqlab.plugins.signature import format_value

_OPTIONAL = ("callbacks", "debug", "experiment", "hydra", "preprocessing")
"""Groups that ``~`` may remove."""


@contextmanager
def configs() -> Iterator[None]:
    """Initialise Hydra for composing, and restore its state of before, as within a sweep."""
    register()
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("seqlab_conf", **VERSION_BASE):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def compose(overrides: Iterable[str] = ()) -> DictConfig:
    """Compose the config as ``python -m seqlab <overrides>`` would.

    Args:
        overrides: such as ``["cell=gru", "task=names", "model.depth=2"]``.

    Raises:
        hydra.errors.HydraException: an override names nothing that exists.
        UserError: a key does not exist, or a value is of the wrong type or out of its range.
    """
    overrides, composer = list(overrides), _SHARED.composer()
    check_deleted(map(composer.parse, overrides))
    config = _compose_again(composer, overrides)
    plain_config(config)
    return config


def _compose_again(composer: "Composer", overrides: Sequence[str]) -> DictConfig:
    """Compose from what this process composed before, where only seqlab's own files and plugins can be involved."""
    has_own_folders = any(each.lstrip("+").startswith("hydra.searchpath=") for each in overrides)
    if sources() == Sources() and not has_own_folders:
        with suppress(Exception):  # Hydra's own composition reports it
            return next(composer.all([overrides]))
    return _compose(overrides)


def _compose(overrides: Sequence[str]) -> DictConfig:
    with configs(), _explained_errors(overrides):
        return hydra_compose(sources().name, overrides=list(overrides))


@contextmanager
def _explained_errors(overrides: Sequence[str]) -> Iterator[None]:
    """Explain errors of Python that Hydra lets through: a group without a name, or files in a cycle."""
    try:
        yield
    except RecursionError as error:
        raise UserError("config files include one another in a cycle; look at their defaults lists") from error
    except ValueError as error:
        groups = GlobalHydra.instance().config_loader().list_groups("")
        for each in OverridesParser.create().parse_overrides(list(overrides)):
            key = each.key_or_group
            if each.is_delete() or isinstance(each.value(), str | list) or not (key in groups or "/" in key):
                continue
            hint = f"; ~{key} removes it" if key in _OPTIONAL else ""
            raise UserError(f"{key} must be chosen by name, got {format_value(each.value())}{hint}") from error
        raise


def compose_full(overrides: Iterable[str], mode: RunMode = RunMode.RUN) -> DictConfig:
    """Compose a config with Hydra's own node, without a check."""
    overrides = list(overrides)
    with configs(), _explained_errors(overrides):
        return GlobalHydra.instance().config_loader().load_configuration(sources().name, overrides, mode)


def check_run(overrides: Iterable[str], composer: "Composer | None" = None) -> DictConfig:
    """Compose the config of a single run with Hydra's own node, and check it."""
    composer, words = composer or Composer(compose_full), list(overrides)
    check_single_run([composer.parse(word) for word in words])
    return composer.checked(words)


def check_deleted(overrides: Iterable[Override]) -> None:
    """Refuse an override such as ``~trainer.threads``, which removes a key that a run needs."""
    for each in overrides:
        key = each.key_or_group
        if each.is_delete() and each.package is None and key.partition(".")[0] not in _OPTIONAL:
            raise UserError(f"{each.input_line}: a run needs {key}; set {key}=... to another value instead")


def compose_all(runs: Iterable[Sequence[str]]) -> Iterator[DictConfig]:
    """Compose and check the configs of many runs, each given by its overrides, as :func:`compose` does."""
    return map(Composer().checked, runs)


def _groups() -> list[str]:
    with configs():
        return GlobalHydra.instance().config_loader().list_groups("")


_MOST_BASES = 32
"""Sets of choices that a composer keeps: each takes some 100 kB."""


@final
class Composer:
    """Composer of the configs of many runs; it composes once for each set of choices and then sets the values."""

    def __init__(
        self, compose: Callable[[Sequence[str]], DictConfig] = _compose, groups: Callable[[], Iterable[str]] = _groups
    ) -> None:
        self._compose, self._list_groups = compose, groups
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        self._groups: set[str] = set()
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def all(self, runs: Iterable[Sequence[str]]) -> Iterator[DictConfig]:
        """Compose a config for each run, given by its overrides, without a check."""
        for overrides in runs:
            parsed = [self.parse(each) for each in overrides]
            choices = tuple(each.input_line or "" for each in parsed if self._is_choice(each))
            if choices not in self._bases:
                if len(self._bases) >= _MOST_BASES:
                    del self._bases[next(iter(self._bases))]
                self._bases[choices] = self._compose(choices)
            config = deepcopy(self._bases[choices])
            values = [each for each in parsed if not self._is_choice(each)]
            apply_overrides(config, values)  # as Hydra does, after the groups
            yield config

    def checked(self, overrides: Sequence[str]) -> DictConfig:
        """Compose the config of a run and check it."""
        check_deleted(map(self.parse, overrides))
        (config,) = self.all([overrides])
        plain_config(config)
        return config

    def parse(self, override: str) -> Override:
        """Parse an override."""
        if override not in self._parsed:
            (self._parsed[override],) = self._parser.parse_overrides([override])
        return self._parsed[override]

    def _is_choice(self, override: Override) -> bool:
        """Return whether an override chooses from a group, or belongs to Hydra, whose node is not in the config."""
        if not self._groups:
            self._groups = set(self._list_groups())
        key = override.key_or_group
        named = key in self._groups or "/" in key or override.package is not None
        return named or key.partition(".")[0] == "hydra"


@final
class _Shared:
    """The composer of :func:`compose`, until the plugins are read again or a config is stored."""

    def __init__(self) -> None:
        self._known: list[object] = []
        self._composer = Composer()

    def composer(self) -> Composer:
        """Return it; a new one if the plugins or the stored configs changed."""
        stored = {name: node for name, node in ConfigStore.instance().repo.items() if name != "hydra"}
        known = [*(plugins(kind) for kind in KINDS), *_flat(stored)]
        if len(known) != len(self._known) or any(a is not b for a, b in zip(known, self._known, strict=True)):
            self._known, self._composer = known, Composer()
        return self._composer


def _flat(stored: Mapping[str, Any]) -> Iterator[object]:
    """Yield the nodes of Hydra's config store; storing one again makes a new node."""
    for node in stored.values():
        yield from _flat(node) if isinstance(node, dict) else [node]


_SHARED = _Shared()
