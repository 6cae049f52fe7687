"""A sweep of a Hydra application: its plan, the numbers of its jobs, and whether a command may resume it."""

import json
import math
import os
import re
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from omegaconf import DictConfig, OmegaConf

from hydra_ledger.errors import LedgerError
from hydra_ledger.files import is_plain_name
from hydra_ledger.identity import config_difference, override_difference, override_key
from hydra_ledger.locks import FolderLock, take
from hydra_ledger.records import MOST_RUNS, RUN, SWEEP, Records

NUMBER = "${hydra.job.num}"
"""Default of ``hydra.sweep.subdir``."""
_UNSTABLE = re.compile(r"\$\{\s*(now:|hydra\.job\.id\b)")
"""What gives a job another folder in each process."""
_HOW = ("sweeper.n_trials", "sweeper.n_jobs", "sweeper.max_batch_size", "sweeper.storage", "sweeper.study_name")
"""Keys of sweepers that say how many jobs they ask for and where they keep their own state."""

Compose = Callable[[Sequence[str], int], DictConfig]
"""Compose the config of a job from its overrides and its number."""


@final
@dataclass(frozen=True)
class Job:
    """A job of a sweep: its number, its folder's name and its overrides."""

    number: int
    name: str
    overrides: tuple[str, ...]


@final
class Sweep:
    """Plan of a sweep, held by one process at a time.

    Args:
        config: of the sweep, as Hydra composed it.
        ignored: keys of the config whose values do not matter when it is resumed.

    Attributes:
        folder: ``hydra.sweep.dir``.
        is_resumed: whether an earlier process began it.

    Raises:
        LedgerError: another process runs it, or the folder holds another sweep.
    """

    def __init__(self, config: DictConfig, ignored: Sequence[str] = ()) -> None:
        self.records, self.folder = Records(), Path(os.path.abspath(str(config.hydra.sweep.dir)))  # noqa: PTH100  # as Hydra does: links stay
        self._about, self._words = _about(config), [str(each) for each in config.hydra.overrides.task]
        self._subdir: str = self._about["subdir"]
        self._jobs: list[Job] = []
        self._ignored = ignored
        self._unmet: defaultdict[tuple[str, ...], deque[int]] = defaultdict(deque)
        self._numbers: dict[str, int] = {}
        if _UNSTABLE.search(self._subdir):
            raise LedgerError(
                f"hydra.sweep.subdir={self._subdir} gives a job another folder each time; name it by its values, or"
                f" leave the default, {NUMBER}"
            )
        self._lock = self._locked()
        self.is_resumed = (self.folder / SWEEP).is_file()
        try:
            if self.is_resumed:
                self._read()
            elif (run := next(self.folder.glob(f"*/{RUN}"), None)) is not None:
                raise LedgerError(
                    f"hydra.sweep.dir={self.folder} has no {SWEEP}, but {run.parent.name}/{RUN} of another sweep; set"
                    " another hydra.sweep.dir"
                )
            self._write(is_open=True)
        except BaseException:
            self._lock.release()
            raise

    def _locked(self) -> FolderLock:
        try:
            lock = take(self.folder)
        except OSError as error:
            raise LedgerError(f"hydra.sweep.dir={self.folder} cannot be written: {error.strerror}") from error
        if lock is None:
            raise LedgerError(f"another process runs the sweep in {self.folder}; wait for its end")
        return lock

    def _read(self) -> None:
        plan = self.records.read_plan(self.folder)
        found = override_difference(plan["words"], self._words, self._matters)
        of_config = [f"config.{key}" for key in self._ignored]
        found = found or config_difference(plan.get("about", {}), self._about, [*_HOW, *of_config])
        if found is not None:
            raise LedgerError(
                f"hydra.sweep.dir={self.folder} holds another sweep: {found}; repeat its command, or set another"
                " hydra.sweep.dir"
            )
        for run in plan["runs"]:
            job = self._append(run["name"], tuple(run["words"]))
            self._unmet[self._key(job.overrides)].append(job.number)

    def _write(self, *, is_open: bool) -> None:
        runs = {job.name: job.overrides for job in self._jobs}
        further = {"about": self._about, "command": sys.orig_argv[1:]}
        self.records.write_plan(self.folder, self._words, runs, open=is_open, **further)

    def _matters(self, override: str) -> bool:
        return not any(f"{override_key(override)}.".startswith(f"{key}.") for key in self._ignored)

    def assign(self, overrides: Sequence[Sequence[str]], compose: Compose) -> list[Job]:
        """Return the jobs with these overrides: those of the plan that this process has not met yet, or new ones."""
        jobs = [self._find(tuple(map(str, each))) or self._add(tuple(map(str, each)), compose) for each in overrides]
        self._write(is_open=True)
        return jobs

    def _key(self, overrides: Sequence[str]) -> tuple[str, ...]:
        return tuple(filter(self._matters, overrides))

    def _append(self, name: str, overrides: tuple[str, ...]) -> Job:
        self._numbers[name] = len(self._jobs)
        self._jobs.append(Job(len(self._jobs), name, overrides))
        return self._jobs[-1]

    def _find(self, overrides: tuple[str, ...]) -> Job | None:
        if not (numbers := self._unmet.get(self._key(overrides))):
            return None
        number = numbers.popleft()
        self._jobs[number] = Job(number, self._jobs[number].name, overrides)
        return self._jobs[number]

    def _add(self, overrides: tuple[str, ...], compose: Compose) -> Job:
        number = len(self._jobs)
        if number >= MOST_RUNS:
            raise LedgerError(f"{self.folder}: a sweep has {MOST_RUNS:,} jobs at most")
        name = str(number) if self._subdir == NUMBER else str(compose(overrides, number).hydra.sweep.subdir)
        if not is_plain_name(name):
            raise LedgerError(f"hydra.sweep.subdir must be the name of one folder, got {name!r}")
        if name not in self._numbers:
            return self._append(name, overrides)
        known = self._jobs[self._numbers[name]]
        if self._key(known.overrides) != self._key(overrides):
            raise LedgerError(
                f"hydra.sweep.subdir={self._subdir} gives the folder {name} to {' '.join(known.overrides)} and to"
                f" {' '.join(overrides)}; put all swept keys into it"
            )
        return known

    def finish(self) -> None:
        """Record that the sweeper asks for no more jobs, and release the folder."""
        self._write(is_open=False)
        self._lock.release()


def _about(config: DictConfig) -> dict[str, Any]:
    """Return what must be equal when a sweep is resumed, as JSON."""
    plain = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    assert isinstance(plain, dict)
    hydra = plain.pop("hydra")
    sweeper = {key: value for key, value in hydra["sweeper"].items() if value is not None}
    about = {"config": plain, "sweeper": sweeper, "subdir": hydra["sweep"]["subdir"]}
    if hydra["job"].get("config_name") is not None:
        about["config_name"] = hydra["job"]["config_name"]
    found: dict[str, Any] = json.loads(json.dumps(_encoded(about), default=str))
    return found


def encode(value: Any) -> dict[str, Any]:
    """Return the field of a run record with what a job returned; none for a value that JSON does not have."""
    try:
        return {"value": json.loads(json.dumps(_encoded(value)))}
    except Exception:  # of an object of another library, such as a tensor of two values
        return {}


def _encoded(value: Any) -> Any:
    """Replace numbers that JSON does not have, and numbers of NumPy and torch by Python's."""
    if isinstance(value, Mapping):
        plain = {str(key): _encoded(each) for key, each in value.items()}
        return {"float": [plain["float"]]} if set(plain) == {"float"} else plain
    if isinstance(value, list | tuple):
        return [_encoded(each) for each in value]
    if not isinstance(value, str | int | float | bool | None) and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def decode(value: Any) -> Any:
    """Return what :func:`encode` was given; a tuple comes back as a list."""
    if isinstance(value, Mapping):
        marked = value["float"] if set(value) == {"float"} else None
        if isinstance(marked, str) and marked in ("nan", "inf", "-inf"):
            return float(marked)
        if isinstance(marked, list) and len(marked) == 1:
            return {"float": decode(marked[0])}
        return {key: decode(each) for key, each in value.items()}
    return [decode(each) for each in value] if isinstance(value, list) else value
