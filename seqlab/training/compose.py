"""The composed config, as the command line has it."""

from collections.abc import Iterable

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from omegaconf import DictConfig

from seqlab.discovery.hydra_source import register


def compose(overrides: Iterable[str] = ()) -> DictConfig:
    """Compose the config as ``python -m seqlab <overrides>`` would.

    Args:
        overrides: such as ``["cell=gru", "task=names", "model.depth=2"]``.

    Raises:
        hydra.errors.HydraException: an override names nothing that exists, or has a value of the wrong type.
    """
    register()
    with initialize_config_module("seqlab_conf", version_base="1.3"):
        return hydra_compose("config", overrides=list(overrides))
