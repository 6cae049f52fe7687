"""The composed config, as the command line has it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import final

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from seqlab.discovery.hydra_source import register


@contextmanager
def configs() -> Iterator[None]:
    """Make Hydra ready to compose; where it is at work already, in a sweep, that is put back afterwards."""
    register()
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("seqlab_conf", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def compose(overrides: Iterable[str] = ()) -> DictConfig:
    """Compose the config as ``python -m seqlab <overrides>`` would.

    Args:
        overrides: such as ``["cell=gru", "task=names", "model.depth=2"]``.

    Raises:
        hydra.errors.HydraException: an override names nothing that exists, or has a value of the wrong type.
    """
    with configs():
        return hydra_compose("config", overrides=list(overrides))


def compose_all(runs: Iterable[Sequence[str]]) -> Iterator[DictConfig]:
    """Compose the configs of many runs at once, by a :class:`Composer`.

    Args:
        runs: the overrides of each.

    Raises:
        hydra.errors.HydraException: as :func:`compose`.
    """
    return Composer().all(runs)


def _groups() -> list[str]:
    with configs():
        return GlobalHydra.instance().config_loader().list_groups("")


@final
class Composer:
    """Composes the configs of many runs; those that choose the same of each group share what takes the time.

    Args:
        compose: composes a config from choices alone.
        groups: lists what can be chosen of.
    """

    def __init__(
        self, compose: Callable[[Sequence[str]], DictConfig] = compose, groups: Callable[[], Iterable[str]] = _groups
    ) -> None:
        self._compose, self._list_groups = compose, groups
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        self._groups: set[str] = set()
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def all(self, runs: Iterable[Sequence[str]]) -> Iterator[DictConfig]:
        """Compose a config for each run.

        Args:
            runs: the overrides of each.

        Raises:
            hydra.errors.HydraException: as :func:`compose`.
        """
        for words in runs:
            parsed = [self.parse(word) for word in words]
            config = deepcopy(self._base(tuple(each.input_line or "" for each in parsed if self._chooses(each))))
            values = [each for each in parsed if not self._chooses(each)]
            ConfigLoaderImpl._apply_overrides_to_config(values, config)  # as Hydra does, behind the groups
            yield config

    def parse(self, word: str) -> Override:
        """Read an override.

        Raises:
            hydra.errors.HydraException: it is none.
        """
        if word not in self._parsed:
            (self._parsed[word],) = self._parser.parse_overrides([word])
        return self._parsed[word]

    def _base(self, chosen: tuple[str, ...]) -> DictConfig:
        if chosen not in self._bases:
            self._bases[chosen] = self._compose(chosen)
        return self._bases[chosen]

    def _chooses(self, override: Override) -> bool:
        """Whether an override chooses of a group, or belongs to Hydra, whose node a composed config does not have."""
        if not self._groups:
            self._groups = set(self._list_groups())
        key = override.key_or_group
        named = key in self._groups or "/" in key or override.package is not None
        return named or key.partition(".")[0] == "hydra"
