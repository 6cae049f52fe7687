"""Training session of a rank other than 0; ``python -m seqlab.training.worker RUN_DIR`` is started by rank 0 alone."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from seqlab.contracts import UserError
from seqlab.distributed.devices import RANK, RankInfo, rank_info
from seqlab.distributed.ranks import READY, START, read_job
from seqlab.distributed.signals import StoppedError
from seqlab.training.session import TrainingSession

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


def run_worker_rank(folder: Path, on_ready: Callable[[], None] = lambda: None) -> None:
    """Wait for the job that rank 0 writes into the run folder, and take part in it."""
    while (job := read_job(folder)) is None:
        time.sleep(0.1)
    if "over" in job:
        return
    logging.getLogger("seqlab").setLevel(logging.ERROR)  # rank 0 logs the same
    resume_from = None if job["resume_from"] is None else Path(job["resume_from"])
    torch.set_default_dtype(_DTYPES[job["dtype"]])
    if RANK in os.environ:
        info = RankInfo(job["devices"], local_rank=int(os.environ[RANK]), port=job["port"])
    else:
        info = rank_info(job["config"]["trainer"])
    session = TrainingSession(job["config"], folder, resume_from, info)
    on_ready()
    with suppress(StoppedError):  # rank 0 reports it
        session.train_and_test(None)


def main(folder: Path) -> int:
    """Wait for the start line of rank 0, train, and end whenever rank 0 ends."""
    if sys.stdin.readline() != START:
        return 0  # rank 0 ended before the run began
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    try:
        run_worker_rank(folder, _report_ready)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _report_ready() -> None:
    print(READY, end="", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # rank 0 reads no further


def _end_with_rank_0() -> None:
    os.read(sys.stdin.fileno(), 1)  # until rank 0's end is closed; sys.stdin would be locked, and no worker could fork
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
