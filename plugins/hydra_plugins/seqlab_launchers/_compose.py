"""The configs of a sweep's runs, composed in a process that does many of them."""

from collections.abc import Sequence
from typing import final

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from seqlab.config.compose import Composer

_COMPOSERS: dict[tuple[str, ...], Composer] = {}
"""Of this process, by what all runs of a sweep have in common; a loader arrives anew with every run."""


@final
class SharingLoader:
    """Composes what the runs of a process choose of groups once, which takes longer than the values of each.

    Args:
        loader: Hydra's.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """Compose a run's config, the same that Hydra's loader would.

        Args:
            master_config: of the sweep.
            sweep_overrides: of the run.

        Raises:
            hydra.errors.HydraException: it cannot be composed.
        """
        loader, common = self._loader, tuple(map(str, master_config.hydra.overrides.hydra))
        key = (str(master_config.hydra.job.config_name), *common)
        if key not in _COMPOSERS:
            _COMPOSERS[key] = Composer(
                lambda chosen: loader.load_sweep_config(master_config, list(chosen)), lambda: loader.list_groups("")
            )
        composer = _COMPOSERS[key]
        (config,) = composer.all([sweep_overrides])
        parsed = [composer.parse(word) for word in sweep_overrides]
        own = [each for each in parsed if not each.is_hydra_override()]
        config.hydra.overrides.task = [each.input_line for each in own]
        naming = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=own, kv_sep=naming.kv_sep, item_sep=naming.item_sep, exclude_keys=naming.exclude_keys
        )
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config


def sharing(context: HydraContext) -> HydraContext:
    """Give a context whose loader shares; it may do so already."""
    if isinstance(context.config_loader, SharingLoader):
        return context
    return HydraContext(config_loader=SharingLoader(context.config_loader), callbacks=context.callbacks)  # type: ignore[arg-type]  # a run asks no more of it
