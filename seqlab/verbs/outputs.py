"""Hydra's part of a run folder."""

import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf


def output_folder() -> Path:
    """Give the run folder that Hydra chose; a log file that Hydra opened there is closed, as it may be another's."""
    from hydra.core.hydra_config import HydraConfig

    folder = Path(HydraConfig.get().runtime.output_dir)
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).is_relative_to(folder):
            root.removeHandler(handler)
            handler.close()
    return folder


def write_hydra(config: DictConfig, folder: Path) -> None:
    """Write ``.hydra/``: the composed config, Hydra's own, and the overrides."""
    from hydra.core.hydra_config import HydraConfig

    from seqlab.training.runfolder import write_text

    hydra_config = HydraConfig.get()
    write_text(folder / ".hydra" / "config.yaml", OmegaConf.to_yaml(config))
    write_text(folder / ".hydra" / "overrides.yaml", OmegaConf.to_yaml(hydra_config.overrides.task))
    write_text(folder / ".hydra" / "hydra.yaml", OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra_config})))
