"""What seqlab uses of Hydra and OmegaConf beyond their public interface, alike for hydra-core 1.3 and 1.4."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import hydra
import yaml  # type: ignore[import-untyped]  # PyYAML, which OmegaConf brings, has no types
from hydra._internal import config_loader_impl
from hydra._internal.core_plugins import basic_sweeper
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigSource
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import BooleanNode, DictConfig, FloatNode, OmegaConf, _utils
from omegaconf.errors import ValidationError

__all__ = ["FileConfigSource", "ImportlibResourcesConfigSource"]

CORE_PLUGINS = "hydra._internal.core_plugins."
"""Prefix of the modules of Hydra's own launcher and sweeper."""
BASIC_LAUNCHER_LOG = f"{CORE_PLUGINS}basic_launcher"
"""Name of the logger of Hydra's own launcher."""

_IS_1_3 = hydra.__version__.startswith("1.3.")

VERSION_BASE: Mapping[str, str] = {"version_base": "1.3"} if _IS_1_3 else {}
"""Keyword arguments of ``hydra.main`` and ``hydra.initialize``; from 1.4 on the parameter is deprecated."""


class NumberOrText(FloatNode):
    """A float, to which integers are converted as in a field of that type, or a string that is no number."""

    def _validate_and_convert_impl(self, value: Any) -> Any:
        try:
            return super()._validate_and_convert_impl(value)
        except ValidationError:
            if isinstance(value, str):
                return value
            raise ValidationError("Value '$VALUE' could not be converted to a number") from None

    def __deepcopy__(self, memo: dict[int, Any]) -> "NumberOrText":
        copied = NumberOrText()
        self._deepcopy_impl(copied, memo)
        return copied


class TrueOrFalse(BooleanNode):
    """A bool, to which 0, 1 and words such as yes are converted, but no other number."""

    def _validate_and_convert_impl(self, value: Any) -> Any:
        if isinstance(value, int) and value not in (0, 1):
            raise ValidationError("Value '$VALUE' is not a valid bool (type $VALUE_TYPE)")
        return super()._validate_and_convert_impl(value)

    def __deepcopy__(self, memo: dict[int, Any]) -> "TrueOrFalse":
        copied = TrueOrFalse()
        self._deepcopy_impl(copied, memo)
        return copied


def to_yaml(config: Any) -> str:
    """Return a config as YAML as :meth:`OmegaConf.to_yaml` does, by libyaml where PyYAML has it: four times as fast."""
    dumper = _dumper()
    if dumper is None:
        return OmegaConf.to_yaml(config)
    plain = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    text: str = yaml.dump(plain, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=dumper)
    return text


@cache
def _dumper() -> Any:
    """Return libyaml's dumper, with OmegaConf's quotes around strings that look like numbers; ``None`` without it."""
    represent = getattr(getattr(_utils, "OmegaConfDumper", None), "str_representer", None)
    if represent is None or not hasattr(yaml, "CDumper"):
        return None
    dumper: Any = type("Dumper", (yaml.CDumper,), {})
    dumper.add_representer(str, represent)
    return dumper


def flag_parser() -> argparse.ArgumentParser:
    """Return the parser of Hydra's command line."""
    return get_args_parser()


def register_sources(*sources: type[ConfigSource]) -> None:
    """Register config sources in place of those with the same scheme; idempotent."""
    types: dict[str, Any] = SourcesRegistry.instance().types
    types |= {source.scheme(): source for source in sources}


def register_resolver(name: str, resolver: Callable[..., Any], *, use_cache: bool = False) -> None:
    """Register a resolver of interpolations in place of an earlier one of this name."""
    # OmegaConf 2.4, of Hydra 1.4, deprecates the first; in 2.3 the second is the one that the first replaced.
    register: Any = OmegaConf.register_new_resolver if _IS_1_3 else OmegaConf.register_resolver
    register(name, resolver, replace=True, use_cache=use_cache)


def check_single_run(overrides: Sequence[Override]) -> None:
    """Check that no override is a sweep."""
    config_loader_impl.ConfigLoaderImpl.validate_sweep_overrides_legal([*overrides], RunMode.RUN, from_shell=True)


def apply_overrides(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Apply overrides of values to a composed config, in place."""
    config_loader_impl.ConfigLoaderImpl._apply_overrides_to_config([*overrides], config)


def set_override_dirname(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Set ``hydra.job.override_dirname`` to that of the overrides of a run; Hydra 1.4 resolves it when it is read."""
    if _IS_1_3:
        naming = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = config_loader_impl.get_overrides_dirname(
            overrides=[*overrides], kv_sep=naming.kv_sep, item_sep=naming.item_sep, exclude_keys=naming.exclude_keys
        )


def expand_sweep(overrides: Iterable[Override]) -> list[list[str]]:
    """Return the overrides of each run of a sweep, in the order of Hydra's basic sweeper."""
    (runs,) = basic_sweeper.BasicSweeper.split_arguments([*overrides], None)
    return runs


def planned_sweeper(max_batch_size: int | None, params: dict[str, str] | None) -> Sweeper:
    """Return Hydra's basic sweeper without its check, which composes every run; planning the sweep did so already."""
    # Hydra 1.3 executes the module again when it looks for plugins, so that the class is looked up here.
    sweeper = basic_sweeper.BasicSweeper(max_batch_size, params)
    sweeper.validate_batch_is_legal = lambda _: None  # type: ignore[method-assign, assignment]  # only this method checks
    return sweeper
