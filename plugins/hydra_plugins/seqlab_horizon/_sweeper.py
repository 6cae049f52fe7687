"""The horizon search as a sweeper: it asks the launcher for runs, a round at a time, until it knows."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from seqlab.study.horizon.rows import rows_of
from seqlab.study.horizon.runner import SearchRunner, finish_search
from seqlab.study.horizon.settings import read_settings
from seqlab.sweeps.ledger import read_plan


@final
class HorizonSweeper(Sweeper):
    """Searches for the largest distance that each row solves.

    Args:
        **settings: see :class:`seqlab.study.horizon.settings.Settings`.
    """

    def __init__(self, **settings: Any) -> None:
        self._given = settings
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self._launched = 0

    @staticmethod
    def check(node: Mapping[str, Any], words: Sequence[str]) -> None:
        """Check what a search is told, before its folder is made.

        Args:
            node: ``hydra.sweeper``, composed.
            words: overrides of the command line, without what is Hydra's.

        Raises:
            seqlab.UserError, hydra.errors.HydraException: the search cannot be made.
        """
        rows_of(words, read_settings(node))

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what a sweep has, and make its launcher."""
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        # Two lines for each run, of which the search says more in one for each batch.
        for name in ("hydra._internal.core_plugins.basic_launcher", "hydra_plugins.hydra_joblib_launcher"):
            logging.getLogger(name).setLevel(logging.WARNING)

    def sweep(self, arguments: list[str]) -> None:
        """Search.

        Args:
            arguments: what was typed, without what is Hydra's.

        Raises:
            seqlab.UserError: the search cannot be made with these words.
        """
        assert self.config is not None
        given = OmegaConf.to_container(OmegaConf.create(self._given), resolve=True)
        assert isinstance(given, dict)
        settings = read_settings({str(key): value for key, value in given.items()})
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        conductor = SearchRunner(folder, read_plan(folder)["words"], arguments, settings, self._launch)
        conductor.conduct()
        finish_search(conductor)

    def _launch(self, runs: Sequence[Sequence[str]]) -> None:
        assert self.launcher is not None
        first, self._launched = self._launched, self._launched + len(runs)
        for done in self.launcher.launch(runs, initial_job_idx=first):
            _ = done.return_value  # raises what a run raised that its own page could not take
