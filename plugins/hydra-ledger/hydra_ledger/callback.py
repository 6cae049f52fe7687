"""Callback that gives a Hydra application the ledger of its sweeps."""

from collections.abc import Sequence
from typing import Any, final

from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from hydra_ledger.errors import LedgerError, one_line
from hydra_ledger.optuna import continue_study, is_optuna
from hydra_ledger.sweep import Sweep


@final
class LedgerCallback(Callback):
    """Ledger of each sweep, in ``hydra.sweep.dir``: plan, job numbers, states, and resumption.

    Args:
        retry_failed: whether a resumed sweep runs failed jobs again; if not, the sweeper is told that they failed.
        ignore: keys of the config whose values may differ when a sweep is resumed, such as paths.
    """

    def __init__(self, retry_failed: bool = True, ignore: Sequence[str] = ()) -> None:
        self.retry_failed, self.ignore = retry_failed, list(ignore)
        self._sweep: Sweep | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the sweep out, which belongs to the process of the sweeper."""
        return {**self.__dict__, "_sweep": None}

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Begin or resume the sweep, and put the ledger between its sweeper and its launcher.

        Raises:
            SystemExit: the folder holds another sweep, another process runs it, or the ledger cannot be kept. Hydra
                turns other exceptions of callbacks into warnings, and would run the finished jobs again.
        """
        try:
            self._begin(config)
        except LedgerError as error:
            raise SystemExit(str(error)) from error
        except Exception as error:
            cause = f"{type(error).__name__}: {one_line(error)}"
            raise SystemExit(f"no ledger can be kept of this sweep: {cause}") from error

    def _begin(self, config: DictConfig) -> None:
        from hydra_plugins.hydra_ledger._launcher import LedgerLauncher

        self._sweep = Sweep(config, self.ignore)
        if is_optuna(config):
            continue_study(config, self._sweep.folder, self._sweep.is_resumed)
        Plugins.instance().register(LedgerLauncher)
        LedgerLauncher.given = config.hydra.launcher, self._sweep, self.retry_failed
        name = f"{LedgerLauncher.__module__}.{LedgerLauncher.__name__}"
        with read_write(config), open_dict(config):
            config.hydra.launcher = OmegaConf.create({"_target_": name})

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Record that the sweeper is through."""
        if self._sweep is not None:
            self._sweep.finish()
