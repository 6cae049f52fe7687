"""The composed config, as the command line has it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

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
    """Compose the configs of many runs; those that choose the same of each group share what takes the time.

    Args:
        runs: the overrides of each.

    Raises:
        hydra.errors.HydraException: as :func:`compose`.
    """
    parser = OverridesParser.create()
    bases: dict[tuple[str, ...], DictConfig] = {}
    with configs():
        groups = set(GlobalHydra.instance().config_loader().list_groups(""))
        for words in runs:
            parsed = parser.parse_overrides(list(words))
            chosen = tuple(str(each.input_line) for each in parsed if _chooses(each, groups))
            if chosen not in bases:
                bases[chosen] = hydra_compose("config", overrides=list(chosen))
            config = deepcopy(bases[chosen])
            values = [each for each in parsed if not _chooses(each, groups)]
            ConfigLoaderImpl._apply_overrides_to_config(values, config)  # as Hydra does, behind the groups
            yield config


def _chooses(override: Override, groups: set[str]) -> bool:
    """Whether an override chooses of a group, or belongs to Hydra, whose node a composed config does not have."""
    key = override.key_or_group
    return key in groups or "/" in key or override.package is not None or key.partition(".")[0] == "hydra"
