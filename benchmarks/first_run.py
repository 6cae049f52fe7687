"""Wall time of a first run, compilation included: ``kernel=auto`` against ``kernel=vendor``.

Each process has an empty cache. Run on an idle machine.

    python benchmarks/first_run.py cell=gru task=names
    python benchmarks/first_run.py cell=gru task=adding task.sequence_length=500
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time


def wall(words: list[str], kernel: str) -> float:
    """Run once with an empty cache and return the seconds of the process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "seqlab", *words, f"kernel={kernel}", f"hydra.run.dir={folder}/run"]
        since = time.perf_counter()
        environment = {**os.environ, "SEQLAB_CACHE": f"{folder}/cache"}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        return time.perf_counter() - since


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("words", nargs="+", help="config overrides")
    asked = parser.parse_args()
    pairs = []
    for turn in range(asked.rounds):
        pairs.append((wall(asked.words, "auto"), wall(asked.words, "vendor")))
        print(f"round {turn + 1}: auto {pairs[-1][0]:.1f} s, vendor {pairs[-1][1]:.1f} s", flush=True)
    more = [auto - vendor for auto, vendor in pairs]
    print(f"auto takes {statistics.median(more):+.1f} s more ({min(more):+.1f} to {max(more):+.1f})")


if __name__ == "__main__":
    main()
