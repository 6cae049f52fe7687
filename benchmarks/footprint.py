"""File system footprint of a run: files, bytes, opens, renames and processes, per process start and per run.

Counts Python's audit events in sweeps of one run and of several; the difference is the cost per run. Files opened by
native code (shared libraries) are not counted.

    python benchmarks/footprint.py
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

QUICK = ("trainer.max_epochs=1", "cell.hidden_size=4", "logger=csv", "trainer.progress=false", "trainer.threads=1")
WATCHED = {"open": "opens", "os.rename": "renames", "os.mkdir": "folders made", "subprocess.Popen": "processes"}


def watch(words: list[str]) -> None:
    """Run the command line in this process and print the counts."""
    from seqlab.__main__ import main as command

    counts: Counter[str] = Counter()

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event in WATCHED:
            counts[WATCHED[event]] += 1
            if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
                counts["of them to write"] += 1

    sys.addaudithook(note)
    sys.argv = ["seqlab", *words]
    try:
        command()
    except SystemExit:
        print(json.dumps(counts))


def sweep(folder: Path, runs: int) -> Counter[str]:
    """Return the counts of a sweep of so many runs."""
    words = ["-m", *QUICK, f"seed=range({runs})", f"hydra.sweep.dir={folder}"]
    done = subprocess.run([sys.executable, __file__, "--watch", *words], check=True, capture_output=True, text=True)
    return Counter(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        one, several = sweep(Path(name) / "one", 1), sweep(Path(name) / "several", asked.runs)
        (run, *_) = [path.parent for path in Path(name).glob("several/*/results.json")]
        inside = list(run.rglob("*"))
    files = [path for path in inside if path.suffix or path.name.startswith(".")]
    print(f"a run folder: {len(inside) + 1} inodes, {len(files)} of them files")
    for what in [*WATCHED.values(), "of them to write"]:
        each = (several[what] - one[what]) / (asked.runs - 1)
        print(f"{what:17} {each:7.1f} a run, {one[what] - each:8.0f} at the start")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        watch(sys.argv[2:])
    else:
        main()
