"""Examples per second of training replicas together against training them one by one in one process, interleaved.

A GRU of 32 units reads generated sequences of features. Rates are of training alone: of the runs one by one, the mean.

    python benchmarks/replicas.py --replicas 24 --steps 32
    python benchmarks/replicas.py --replicas 24 --steps 256

On a GPU, where the kernel runs a group in one launch, add ``--accelerator gpu``.
"""

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rounds import compare

import seqlab
from seqlab.training.replicas.group import train_together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--replicas", type=int, default=24)
    parser.add_argument("--alone", type=int, default=4, help="runs to train one by one in a round")
    parser.add_argument("--steps", type=int, default=32, help="time steps of a sequence")
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--accelerator", default="cpu", choices=("cpu", "gpu"))
    parser.add_argument("overrides", nargs="*", help="config overrides, such as cell=lstm")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    overrides = [
        "task=adding", f"task.sequence_length={asked.steps}", f"task.examples={64 * asked.updates}",
        "task.held_out=64", "cell=gru", "cell.hidden_size=32", "kernel=fused", "data.batch_size=64",
        "trainer.max_epochs=1", f"trainer.threads={asked.threads}",
        f"trainer.accelerator={asked.accelerator}", "trainer.progress=false", "logger=none", *asked.overrides,
    ]  # fmt: skip
    configs = [seqlab.compose([*overrides, f"seed={seed}"]) for seed in range(asked.replicas)]

    def job(config: Any, folder: str, number: int) -> Any:
        return partial(seqlab.run, config, Path(folder) / f"{number}")

    def as_group() -> float:
        with tempfile.TemporaryDirectory() as folder:
            done = train_together([job(config, folder, number) for number, config in enumerate(configs)])
        if reasons := {replica.alone for replica in done if replica.alone}:
            print(f"not batched: {', '.join(reasons)}")
        # Each replica's seconds are its share of the group's.
        costs = [replica.result.cost for replica in done]
        return sum(cost["examples"] for cost in costs) / sum(cost["training_seconds"] for cost in costs)

    def one_by_one() -> float:
        with tempfile.TemporaryDirectory() as folder:
            runs = [job(config, folder, number)() for number, config in enumerate(configs[: asked.alone])]
        return statistics.mean(run.cost["examples_per_second"] for run in runs)

    compare({"together": as_group, "one by one": one_by_one}, asked.rounds, "examples")


if __name__ == "__main__":
    main()
