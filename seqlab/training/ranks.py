"""The processes of a run on several devices: rank 0 is the run, the others follow it.

Lightning would start the command line again for each of them, a sweep's too. Here they read what rank 0 wrote into the
run folder, and nothing else.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, final

import torch

from seqlab.contracts import UserError
from seqlab.distributed.devices import RANK, Place, place, started_by_srun
from seqlab.distributed.signals import StoppedError
from seqlab.io import atomic
from seqlab.training.session import TrainingSession

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
_PATIENCE = 15.0
"""Seconds that rank 0 may go on when another process has failed: it then hangs in a talk with the dead."""


@final
class WorkerRanks:
    """The other processes of a run, as rank 0 sees them; none for a run on one device.

    On one machine they are started here, and import what they need while rank 0 reads the data. Those that ``srun``
    started wait for the run folder.

    Attributes:
        leader: this process' place.

    Args:
        folder: the run folder, which this process owns.
        leader: this process' place.
    """

    def __init__(self, folder: Path, leader: Place) -> None:
        self.folder, self.leader = folder, leader
        self._processes: list[subprocess.Popen[str]] = []
        self._errors: list[IO[str]] = []
        self._gone = False
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Start them, where that is left to do."""
        for rank in range(1, 1 if self.leader.by_srun else self.leader.devices):
            errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # read when the process is gone
            command = [sys.executable, "-m", "seqlab.training.follow", str(self.folder)]
            environment = {**os.environ, RANK: str(rank)}
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
            self._processes.append(process)
            self._errors.append(errors)
        return self

    def go(self, config: dict[str, Any], resume_from: Path | None) -> None:
        """Let them follow: the data is there. Waits until those that were started here are ready too.

        Raises:
            UserError: one of them is not; the message says why.
        """
        if self.leader.world == 1:
            return
        self._gone = True
        where = {"devices": self.leader.devices, "port": self.leader.port}
        resume = None if resume_from is None else str(resume_from)
        dtype = str(torch.get_default_dtype()).removeprefix("torch.")  # theirs would be float32
        _write(self.folder, {"config": config, "resume_from": resume, "place": where, "dtype": dtype})
        for rank, process in enumerate(self._processes, 1):
            assert process.stdin is not None
            try:
                process.stdin.write("go\n")
                process.stdin.flush()
            except BrokenPipeError:
                self._fail(rank)
        for rank, process in enumerate(self._processes, 1):
            assert process.stdout is not None
            while (line := process.stdout.readline()) != "ready\n":  # a plugin may print, too
                if not line:
                    self._fail(rank)
        threading.Thread(target=self._watch, daemon=True).start()

    def _fail(self, rank: int) -> None:
        self._processes[rank - 1].wait()
        raise UserError(f"the process of rank {rank} failed: {self._last_words(rank)}")

    def _last_words(self, rank: int) -> str:
        errors = self._errors[rank - 1]
        errors.seek(0)
        lines = [line for line in errors.read().splitlines() if line.strip()]
        if not lines:
            return f"it ended with {self._processes[rank - 1].returncode}"
        if len(lines) > 1:
            with suppress(OSError):
                (self.folder / f"error_of_rank_{rank}.txt").write_text("\n".join(lines), encoding="utf-8")
        return lines[-1]

    def _watch(self) -> None:
        """End a rank 0 that waits for a process that is dead: some backends do so for ever."""
        while not self._ended.wait(1.0):
            for rank, process in enumerate(self._processes, 1):
                if process.poll() and not self._ended.wait(_PATIENCE):
                    print(f"the process of rank {rank} failed: {self._last_words(rank)}", file=sys.stderr, flush=True)
                    os._exit(1)  # the folder holds all that is needed to go on

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """See them off; where one of them failed, that is the cause of whatever went wrong here."""
        self._ended.set()
        patience = 60.0 if error is None else 2.0 * self._gone
        failed = [rank for rank, process in enumerate(self._processes, 1) if _ends(process, patience)]
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        try:
            if failed and kind is not None and issubclass(kind, Exception) and not issubclass(kind, UserError):
                raise UserError(f"the process of rank {failed[0]} failed: {self._last_words(failed[0])}") from error
        finally:
            for errors in self._errors:
                errors.close()
            if not self.leader.by_srun:
                orders_path(self.folder).unlink(missing_ok=True)


def _ends(process: subprocess.Popen[str], patience: float) -> bool:
    """Wait for the end of a process, and say whether it failed by itself."""
    try:
        return process.wait(timeout=patience) != 0
    except subprocess.TimeoutExpired:
        process.terminate()
    try:
        process.wait(timeout=10.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return False


@contextmanager
def released_ranks(folder: Path) -> Iterator[None]:
    """Let the processes that ``srun`` started go when rank 0 is through with a run, whether it began it or not."""
    try:
        yield
    finally:
        if started_by_srun() > 1 and folder.is_dir():
            _write(folder, {"over": True})


def orders_path(folder: Path) -> Path:
    """Return the file by which rank 0 directs the others: one for each job step, as another one may own the folder."""
    step = _job_step()
    return folder / (".ranks.json" if step is None else f".ranks.{step}.json")


def _write(folder: Path, record: dict[str, Any]) -> None:
    atomic.write_text(orders_path(folder), json.dumps(record))


def run_worker_rank(folder: Path, where: Place | None = None, ready: Callable[[], None] = lambda: None) -> None:
    """Do another process' part of a run: what rank 0 wrote into the run folder, as soon as it has.

    Args:
        folder: the run folder.
        where: this process' place; as ``srun`` has it unless given.
        ready: is called when this process has read the data and built the model.
    """
    while (orders := read_orders(folder)) is None:
        time.sleep(0.1)
    if "over" in orders:
        return
    logging.getLogger("seqlab").setLevel(logging.ERROR)  # rank 0 says it
    resume_from = None if orders["resume_from"] is None else Path(orders["resume_from"])
    where = where or place(orders["config"]["trainer"])
    torch.set_default_dtype(_DTYPES[orders["dtype"]])
    work = TrainingSession(orders["config"], folder, resume_from, where)
    ready()
    with suppress(StoppedError):  # as rank 0 does, which says so
        work.do(None)


def read_orders(folder: Path) -> dict[str, Any] | None:
    """Read what rank 0 wrote for this job step; ``None`` if it has not yet."""
    try:
        record: dict[str, Any] = json.loads(orders_path(folder).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return record


def _job_step() -> str | None:
    """Name the job step that ``srun`` started these processes for: a requeued job is another one."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return ".".join(os.environ.get(name, "0") for name in names) if started_by_srun() > 1 else None
