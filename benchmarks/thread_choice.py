"""Time of runs with ``trainer.threads=auto`` against one thread and all, in turns, quiet and beside a busy process.

    python benchmarks/thread_choice.py                           names, textclf, lm and adding, 500 updates each
    python benchmarks/thread_choice.py --busy 1 --tasks names    beside one process that keeps a core busy

A run takes its training and validation here, without start and data.
"""

import argparse
import multiprocessing
import random
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import seqlab

TASKS = {
    "names": ["task=names", "task.baseline=none"],
    "textclf": ["task=textclf", "task.baseline=none"],
    "lm": ["task=lm"],
    "adding": ["task=adding", "task.fresh=true"],
}
QUICK = ["cell=lstm", "logger=none", "trainer.progress=false", "trainer.early_stopping=null"]


def spin() -> None:
    """Keep a core busy."""
    while True:
        pass


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep cores busy meanwhile."""
    spinners = [multiprocessing.get_context("spawn").Process(target=spin, daemon=True) for _ in range(count)]
    for spinner in spinners:
        spinner.start()
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.join()


def seconds(words: list[str], threads: str) -> float:
    """Train; return the seconds of training and validation."""
    with tempfile.TemporaryDirectory() as folder:
        config = seqlab.compose([*words, *QUICK, f"trainer.threads={threads}"])
        return float(seqlab.run(config, Path(folder) / "run").cost["fit_seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", type=int, default=0, help="number of cores that other processes keep busy")
    parser.add_argument("overrides", nargs="*", help="config overrides, such as cell.hidden_size=256")
    asked = parser.parse_args()
    all_threads = str(torch.get_num_threads())
    with busy(asked.busy):
        for task in asked.tasks:
            words = [*TASKS[task], f"trainer.max_steps={asked.updates}", "trainer.max_epochs=null", *asked.overrides]
            seconds(words, "1")  # the first run compiles, reads and warms up
            taken: dict[str, list[float]] = {way: [] for way in ("auto", "1", all_threads)}
            for _ in range(asked.rounds):
                for way in random.sample(list(taken), len(taken)):  # what follows a busy second core finds it warm
                    taken[way].append(seconds(words, way))
            medians = {way: statistics.median(found) for way, found in taken.items()}
            shown = ", ".join(f"threads={way} {medians[way]:.2f} s" for way in taken)
            best = min(medians["1"], medians[all_threads])
            ratios = f"auto / best {medians['auto'] / best:.3f}, auto / one {medians['auto'] / medians['1']:.3f}"
            print(f"{task}, {asked.busy} busy: {shown}; {ratios}", flush=True)


if __name__ == "__main__":
    main()
