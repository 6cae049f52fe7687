"""Time to generate a batch relative to training on it: ``python benchmarks/generation.py``.

For each generated task: the mean time to generate a batch of 64 (generated in blocks), the median time of a training
step of a GRU (``kernel=fused``, one thread), and the share of the first in the sum.
"""

import argparse
import time
from statistics import median

import torch

from seqlab.config.build import build_model, build_task
from seqlab.data.datamodule import SequenceData

TASKS = ("first", "adding", "copying", "temporal_order", "parity", "recall", "dyck", "agreement", "fluent")


def compared(task_name: str, length: int, hidden_size: int, rounds: int) -> tuple[float, float]:
    """Return the seconds of generating a batch and of a training step."""
    task = build_task({"name": task_name, "sequence_length": length, "examples": 64 * rounds, "held_out": 1})
    data = SequenceData(task, None, batch_size=64)
    data.prepare()
    nodes = {
        "model": {"name": "recurrent"},
        "cell": {"name": "gru", "hidden_size": hidden_size},
        "kernel": {"name": "fused"},
    }
    model = build_model(nodes, task, data.inputs)
    optimizer = torch.optim.AdamW(model.parameters())
    drawing, training = 0.0, []
    batches = iter(data.train_dataloader())
    for _ in range(rounds):
        start = time.perf_counter()
        batch = next(batches)
        middle = time.perf_counter()
        loss = task.loss(model(batch)[0], batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        drawing += middle - start
        training.append(time.perf_counter() - middle)
    return drawing / rounds, median(training)


def main() -> None:
    """Print a row per task and distance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--hidden-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=157, help="batches: an epoch of 10,000 (%(default)s)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"GRU of {asked.hidden_size}, batches of 64, 1 thread, {asked.rounds} rounds; milliseconds")
    for name in TASKS:
        for length in asked.lengths:
            drawing, training = compared(name, length, asked.hidden_size, asked.rounds)
            share = drawing / (drawing + training)
            print(
                f"{name:16} T={length:<5} generate {1e3 * drawing:7.2f}  step {1e3 * training:8.2f}  share {share:.1%}"
            )


if __name__ == "__main__":
    main()
