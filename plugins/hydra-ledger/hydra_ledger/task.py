"""Task function that records its runs, and does none twice."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hydra_ledger.errors import LedgerError, one_line
from hydra_ledger.locks import FolderLock, take
from hydra_ledger.records import Records
from hydra_ledger.sweep import decode, encode

_POLL = 0.2


@final
class RecordedTask:
    """Task function of a sweep in any process of any launcher.

    Args:
        function: of the application.
    """

    def __init__(self, function: Callable[[DictConfig], Any]) -> None:
        self.function = function
        functools.update_wrapper(self, function)

    def __call__(self, config: DictConfig) -> Any:
        """Run the job in the folder of Hydra's job and record how it ends; return the value of a finished one."""
        hydra, records = HydraConfig.get(), Records()
        folder = Path(hydra.runtime.output_dir)
        lock = _wait_for(folder)
        try:
            earlier = records.read_entry(folder)
            if earlier.state == "done":
                return decode(earlier.value)
            with records.recording(folder, list(hydra.overrides.task)) as record:
                record["number"] = hydra.job.num
                try:
                    value = self.function(config)
                except Exception as error:
                    record.update(state="failed", cause=f"{type(error).__name__}: {one_line(error)}"[:300])
                    raise
                record.update(state="done", **encode(value))
            return value
        finally:
            lock.release()


def _wait_for(folder: Path) -> FolderLock:
    """Take the lock of a job's folder, once a process that still runs the job has ended."""
    while True:
        try:
            lock = take(folder)
        except OSError as error:
            raise LedgerError(f"{folder} cannot be written: {error.strerror}") from error
        if lock is not None:
            return lock
        time.sleep(_POLL)
