"""A process of a run that rank 0 started: ``python -m seqlab.training.follow RUN_DIR``, for its use alone."""

import os
import sys
import threading
from pathlib import Path

from seqlab.contracts import UserError
from seqlab.distributed.devices import RANK, Place
from seqlab.training.ranks import read_orders, run_worker_rank


def main(folder: Path) -> int:
    """Wait for rank 0's word, do this process' part, and end with rank 0 in any case."""
    if sys.stdin.readline() != "go\n":
        return 0  # rank 0 is gone, or its run failed before it began
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    orders = read_orders(folder)
    assert orders is not None
    place = orders["place"]
    where = Place(place["devices"], local_rank=int(os.environ[RANK]), port=place["port"])
    try:
        run_worker_rank(folder, where, _say_ready)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _say_ready() -> None:
    print("ready", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on


def _end_with_rank_0() -> None:
    os.read(sys.stdin.fileno(), 1)  # until rank 0's end is closed; sys.stdin would be locked, and no worker could fork
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
