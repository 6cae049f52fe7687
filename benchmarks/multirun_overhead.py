"""Overhead of a run of a sweep beyond its training, by a sweep of tiny runs in one process.

python benchmarks/multirun_overhead.py --runs 30
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

QUICK = ("trainer.max_epochs=1", "cell.hidden_size=4", "logger=csv", "trainer.progress=false", "trainer.threads=1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("words", nargs="*", default=QUICK, help="of the runs (tiny runs on the bundled names)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        began = time.time()
        words = [
            sys.executable,
            "-m",
            "seqlab",
            "-m",
            *asked.words,
            f"seed=range({asked.runs})",
            "hydra.sweep.dir=sweep",
        ]
        subprocess.run(words, cwd=name, check=True, capture_output=True)
        wall = time.time() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = used.ru_utime + used.ru_stime
        folders = [path.parent for path in Path(name).glob("sweep/*/run.json")]
        pages = sorted(
            (json.loads((each / "run.json").read_text()) for each in folders), key=lambda page: page["began"]
        )
        costs = [json.loads((each / "results.json").read_text())["cost"] for each in folders]
    assert len({page["pid"] for page in pages}) == 1
    training = sum(cost["training_seconds"] for cost in costs)
    starts = sorted(page["began"] for page in pages)
    paces = [later - earlier for earlier, later in itertools.pairwise(starts)]
    ready = starts[0] - began
    print(f"{asked.runs} runs in {wall:.1f} s ({processor:.1f} s of processor time); training {training:.1f} s of it")
    print(f"before the first run  {ready:.2f} s: imports, and {asked.runs} configs for the plan")
    print(f"from run to run       {statistics.median(paces):.2f} s (median; {min(paces):.2f} to {max(paces):.2f})")
    print(
        f"beyond training       {(wall - training) / asked.runs:.2f} s a run, all included; "
        f"{(processor - training) / asked.runs:.2f} s of processor time"
    )


if __name__ == "__main__":
    main()
