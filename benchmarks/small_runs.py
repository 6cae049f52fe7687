"""Cost of a run of a small model: of a training step against a bare loop, and of everything else, in CPU time.

The bare loop trains the same model on the same batches with the same optimiser and clipping, in turns with seqlab. CPU
time counts, not wall-clock time, so that a busy machine changes little.

    python benchmarks/small_runs.py --rounds 7
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import seqlab
from seqlab.config.build import build_model
from seqlab.training.callbacks import Cost
from seqlab.training.optimizers import make_optimizer, recurrent_parameters
from seqlab.training.session import prepare_data

RUN = (
    "task=first", "task.sequence_length=32", "task.examples=2560", "task.held_out=500", "cell=gru", "kernel=fused",
    "cell.hidden_size=32", "model.embedding_size=16", "data.batch_size=64", "optimizer.lr=0.005",
    "optimizer.schedule=constant", "optimizer.warmup=0", "optimizer.weight_decay=0", "trainer.threads=1",
    "trainer.progress=false", "logger=none",
)  # fmt: skip
"""One of the runs of ``experiment=horizon_quick``."""


def bare_loop(config: Mapping[str, Any], epochs: int) -> float:
    """Train in a plain loop; return the CPU seconds of a step."""
    torch.manual_seed(config["seed"])
    task, data = prepare_data(config)
    model = build_model(config, task, data.inputs)
    optimizer = make_optimizer(config["optimizer"], model.parameters(), recurrent_parameters(model))
    parameters = [each for each in model.parameters() if each.requires_grad]
    loader, steps = data.loader("train"), 0
    model.train()
    began = time.process_time()
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        for batch in loader:
            loss = task.loss(model(batch)[0], batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, config["trainer"]["gradient_clip_val"])
            optimizer.step()
            steps += 1
    return (time.process_time() - began) / steps


def seqlab_run(overrides: list[str]) -> tuple[float, float]:
    """Compose and run; return the CPU seconds of a training step, and of all that is no training."""
    began = time.process_time()
    config = seqlab.compose(overrides)
    with tempfile.TemporaryDirectory() as folder:
        cost = seqlab.run(config, Path(folder) / "run").cost
        used = time.process_time() - began
    return cost["training_seconds"] / cost["steps"], used - cost["training_seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("overrides", nargs="*", help="further config overrides, such as cell=lstm")
    asked = parser.parse_args()
    Cost.clock = staticmethod(time.process_time)
    torch.set_num_threads(1)
    overrides = [*RUN, f"trainer.max_epochs={asked.epochs}", *asked.overrides]
    config = dict(seqlab.compose(overrides))
    rows = []
    for turn in range(asked.rounds + 1):
        (step, rest), bare = seqlab_run(overrides), bare_loop(config, asked.epochs)
        if turn:  # the first round warms up
            step *= 1e6
            bare *= 1e6
            rows.append((step, bare, step / bare, rest))
            print(f"round {turn}: step {step:.0f} us, bare {bare:.0f}, ratio {step / bare:.3f}; rest {rest:.3f} s")
    step, bare, ratio, rest = (statistics.median(column) for column in zip(*rows, strict=True))
    ratios = [row[2] for row in rows]
    print(
        f"CPU time, median of {asked.rounds}: step {step:.0f} us, bare loop {bare:.0f} us, ratio {ratio:.3f} "
        f"(spread {min(ratios):.3f}-{max(ratios):.3f}); not training {rest:.3f} s a run"
    )


if __name__ == "__main__":
    main()
