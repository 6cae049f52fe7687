"""Worker processes of a run on several devices, as rank 0 starts and ends them.

Lightning would start the command line, and so a whole sweep, again for each of them. Here they read a job that rank 0
writes into the run folder (``seqlab.training.worker``).
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, final

import torch

from seqlab.contracts import UserError
from seqlab.distributed.devices import RANK, RankInfo, srun_tasks
from seqlab.io import atomic

START, READY = "start\n", "ready\n"
"""Lines of the handshake between rank 0 and a worker that it started."""
_WORKER = "seqlab.training.worker"
_GRACE = 15.0
"""Seconds that rank 0 may continue after a worker failed: it then hangs in a collective operation."""


@final
class WorkerRanks:
    """The other processes of a run; none for a run on one device.

    On one machine they are started here, and import torch while rank 0 reads the data. Those that ``srun`` started
    wait for the job.
    """

    def __init__(self, folder: Path, info: RankInfo) -> None:
        self.folder, self.info = folder, info
        self._processes: list[subprocess.Popen[str]] = []
        self._errors: list[IO[str]] = []
        self._started = False
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Start the processes, unless ``srun`` did."""
        for rank in range(1, 1 if self.info.by_srun else self.info.devices):
            errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # read after the process ended
            process = subprocess.Popen(
                [sys.executable, "-m", _WORKER, str(self.folder)],
                env={**os.environ, RANK: str(rank)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            self._processes.append(process)
            self._errors.append(errors)
        return self

    def start(self, config: dict[str, Any], resume_from: Path | None) -> None:
        """Write the job, after the data is prepared, and wait until the processes started here are ready."""
        if self.info.world_size == 1:
            return
        self._started = True
        job = {
            "config": config,
            "resume_from": None if resume_from is None else str(resume_from),
            "devices": self.info.devices,
            "port": self.info.port,
            "dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        }
        _write_job(self.folder, job)
        for rank, process in enumerate(self._processes, 1):
            assert process.stdin is not None
            try:
                process.stdin.write(START)
                process.stdin.flush()
            except BrokenPipeError:
                self._fail(rank)
        for rank, process in enumerate(self._processes, 1):
            assert process.stdout is not None
            while (line := process.stdout.readline()) != READY:  # a plugin may print, too
                if not line:
                    self._fail(rank)
        threading.Thread(target=self._watch, daemon=True).start()

    def _fail(self, rank: int) -> None:
        self._processes[rank - 1].wait()
        raise UserError(self._failure(rank))

    def _failure(self, rank: int) -> str:
        """Return the last line that a worker wrote to stderr; keep all lines in a file of the run folder."""
        errors = self._errors[rank - 1]
        errors.seek(0)
        lines = [line for line in errors.read().splitlines() if line.strip()]
        if len(lines) > 1:
            with suppress(OSError):
                (self.folder / f"error_of_rank_{rank}.txt").write_text("\n".join(lines), encoding="utf-8")
        reason = lines[-1] if lines else f"it ended with {self._processes[rank - 1].returncode}"
        return f"the process of rank {rank} failed: {reason}"

    def _watch(self) -> None:
        """End a rank 0 that waits for a dead worker: some backends wait for ever."""
        while not self._ended.wait(1.0):
            for rank, process in enumerate(self._processes, 1):
                if process.poll() and not self._ended.wait(_GRACE):
                    print(self._failure(rank), file=sys.stderr, flush=True)
                    os._exit(1)  # the run folder holds what it takes to resume

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the workers; if one of them failed, raise that as the cause of the error here."""
        self._ended.set()
        # A worker that failed closed the connection, and so failed rank 0, before it has ended itself.
        by_rank_0 = kind is not None and (not issubclass(kind, Exception) or issubclass(kind, UserError))
        timeout = 60.0 if error is None else (2.0 if by_rank_0 else _GRACE) * self._started
        failed = [rank for rank, process in enumerate(self._processes, 1) if _has_failed(process, timeout)]
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            if failed and error is not None and not by_rank_0:
                raise UserError(self._failure(failed[0])) from error
        finally:
            for errors in self._errors:
                errors.close()
            if not self.info.by_srun:
                _job_path(self.folder).unlink(missing_ok=True)


def _has_failed(process: subprocess.Popen[str], timeout: float) -> bool:
    """Wait for a process, end it after ``timeout`` seconds, and return whether it failed by itself."""
    try:
        return process.wait(timeout=timeout) != 0
    except subprocess.TimeoutExpired:
        process.terminate()
    try:
        process.wait(timeout=10.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return False


@contextmanager
def releasing_srun_workers(folder: Path) -> Iterator[None]:
    """Let the processes that ``srun`` started end when rank 0 leaves the block, whether it began the run or not."""
    try:
        yield
    finally:
        if srun_tasks() > 1 and folder.is_dir():
            _write_job(folder, {"over": True})


def read_job(folder: Path) -> dict[str, Any] | None:
    """Read what rank 0 wrote for this job step; ``None`` if it has not yet."""
    try:
        job: dict[str, Any] = json.loads(_job_path(folder).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return job


def _write_job(folder: Path, job: dict[str, Any]) -> None:
    atomic.write_text(_job_path(folder), json.dumps(job))


def _job_path(folder: Path) -> Path:
    """Return the job's file: one for each job step of SLURM, as an earlier step may have left one."""
    if srun_tasks() == 1:
        return folder / ".ranks.json"
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")  # a requeued job is another one
    return folder / f".ranks.{'.'.join(os.environ.get(name, '0') for name in names)}.json"
