"""The composed config, as the command line has it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import final

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig

from seqlab.config.schema import plain_config
from seqlab.errors import UserError
from seqlab.plugins.hydra_internals import VERSION_BASE, apply_overrides, check_single_run
from seqlab.plugins.hydra_source import register, sources
from seqlab.plugins.signature import format_value

_OPTIONAL = ("callbacks", "debug", "experiment", "hydra", "preprocessing")
"""What a run can do without, so that ``~`` may take it out of the defaults."""


@contextmanager
def configs() -> Iterator[None]:
    """Make Hydra ready to compose; where it is at work already, in a sweep, that is put back afterwards."""
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
    words = list(overrides)
    check_deleted(OverridesParser.create().parse_overrides(words))
    config = _composed(words)
    plain_config(config)
    return config


def _composed(words: Sequence[str]) -> DictConfig:
    with configs(), _choosing(words):
        return hydra_compose(sources().name, overrides=list(words))


@contextmanager
def _choosing(words: Iterable[str]) -> Iterator[None]:
    """Name what Hydra raises an error of Python for: a group that is chosen by no name, or files without an end."""
    try:
        yield
    except RecursionError as error:
        raise UserError("config files include one another without an end; look at their defaults lists") from error
    except ValueError as error:
        parsed = OverridesParser.create().parse_overrides(list(words))
        wrong = [each for each in parsed if not each.is_delete() and not isinstance(each.value(), str | list)]
        groups = GlobalHydra.instance().config_loader().list_groups("")
        for each in wrong:
            if (key := each.key_or_group) in groups or "/" in key:
                hint = f"; ~{key} leaves it out" if key in _OPTIONAL else ""
                raise UserError(f"{key} must be chosen by name, got {format_value(each.value())}{hint}") from error
        raise


def compose_full(overrides: Iterable[str], mode: RunMode = RunMode.RUN) -> DictConfig:
    """Compose a config with Hydra's own node, without a check.

    Raises:
        hydra.errors.HydraException: it cannot be composed.
    """
    words = list(overrides)
    with configs():
        loader = GlobalHydra.instance().config_loader()
        with _choosing(words):
            return loader.load_configuration(sources().name, words, mode)


def check_run(overrides: Iterable[str], composer: "Composer | None" = None) -> DictConfig:
    """Compose the config of a single run with Hydra's own node, and check it.

    Args:
        overrides: of the command line.
        composer: of earlier runs, by :func:`full_composer`, which makes many checks fast.

    Raises:
        hydra.errors.HydraException, UserError: as :func:`compose`.
    """
    composer, words = composer or full_composer(), list(overrides)
    check_single_run([composer.parse(word) for word in words])
    return composer.checked(words)


def full_composer() -> "Composer":
    """Return a composer for :func:`check_run`."""
    return Composer(compose_full)


def check_deleted(overrides: Iterable[Override]) -> None:
    """Refuse to take a key out that a run needs.

    Raises:
        UserError: one is ``~trainer.threads``, say.
    """
    for each in overrides:
        key = each.key_or_group
        if each.is_delete() and key.partition(".")[0] not in _OPTIONAL and (each.package is None):
            raise UserError(f"{each.input_line}: a run needs {key}; set {key}=... to another value instead")


def compose_all(runs: Iterable[Sequence[str]]) -> Iterator[DictConfig]:
    """Compose the configs of many runs at once, by a :class:`Composer`, and check each.

    Args:
        runs: the overrides of each.

    Raises:
        hydra.errors.HydraException, UserError: as :func:`compose`.
    """
    composer = Composer()
    for words in runs:
        yield composer.checked(words)


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
        self, compose: Callable[[Sequence[str]], DictConfig] = _composed, groups: Callable[[], Iterable[str]] = _groups
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
            apply_overrides(config, values)  # as Hydra does, behind the groups
            yield config

    def checked(self, words: Sequence[str]) -> DictConfig:
        """Compose the config of a run and check it.

        Raises:
            hydra.errors.HydraException, UserError: as :func:`compose`.
        """
        check_deleted(map(self.parse, words))
        (config,) = self.all([words])
        plain_config(config)
        return config

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
