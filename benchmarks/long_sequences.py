"""Exact gradients over long sequences: time and memory of a training step with ``model.checkpoint_steps``.

Each length has a process of its own. A step is loss and gradients of ``task=first`` with ``model=recurrent``, in
float32; its time is divided by that of as many steps in short sequences, read whole, which are measured in turns with
it. Memory is the largest resident set less that before the first long sequence, the generated batch included. It
grows as the root of the length if ``/ sqrt(steps)`` stays the same or falls. Run on an idle machine.

    python benchmarks/long_sequences.py
    python benchmarks/long_sequences.py --steps 1048576 --cell lstm --rounds 5
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from functools import partial

import torch

from seqlab import Batch, Ragged
from seqlab.plugins import find
from seqlab.recurrence.chunks import MAX_BYTES, automatic_steps
from seqlab_models.recurrent import RecurrentModel
from seqlab_tasks.synthetic import First

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_FORMAT = "{:>10} {:>7} {:>12} {:>12} {:>8} {:>15}"


def peak() -> int:
    """Return the largest resident set of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def build(options: argparse.Namespace, task: First) -> RecurrentModel:
    """Build the model."""
    kind = find("cell", options.cell).load()
    return RecurrentModel(
        task.inputs,
        task.head,
        False,
        lambda size: kind(size, options.hidden),
        options.kernel,
        embedding_size=options.embedding,
    )


def training_step(model: RecurrentModel, task: First, rows: int, steps: int, chunk: int) -> float:
    """Return the seconds of loss and gradients of a new batch."""
    examples = task.draw(rows, 0, steps)
    assert isinstance(examples.inputs, Ragged)
    assert examples.inputs.even is not None
    batch = Batch(examples.inputs.even, None, examples.targets)
    model.recurrent.checkpoint_steps = chunk
    model.zero_grad()
    since = time.perf_counter()
    task.loss(model(batch)[0], batch).backward()
    return time.perf_counter() - since


def measure(options: argparse.Namespace, steps: int) -> dict[str, float]:
    """Measure one length in this process."""
    torch.set_num_threads(options.threads)
    chunk = options.checkpoint_steps or automatic_steps(steps, MAX_BYTES)
    task = First()
    step = partial(training_step, build(options, task), task, options.batch)
    count = max(1, steps // options.short)
    step(options.short, 0)
    before, memory, ratios, seconds = peak(), 0, [], []
    for turn in range(options.rounds):
        seconds.append(step(steps, chunk))
        memory = memory or peak() - before
        short = sum(step(options.short, 0) for _ in range(count))
        ratios.append(seconds[-1] / steps * count * options.short / short)
        print(f"{steps:,} steps, round {turn + 1}: ratio {ratios[-1]:.3f}", file=sys.stderr, flush=True)
    median = statistics.median
    return {"chunk": chunk, "seconds": median(seconds), "ratio": median(ratios), "bytes": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[10**4, 10**5, 10**6], help="lengths to measure")
    parser.add_argument("--short", type=int, default=1000, help="steps of a short sequence")
    parser.add_argument("--cell", default="gru", help="cell, with its default options")
    parser.add_argument("--kernel", default="fused", help="kernel")
    parser.add_argument("--hidden", type=int, default=64, help="units")
    parser.add_argument("--embedding", type=int, default=16, help="features of a step")
    parser.add_argument("--batch", type=int, default=8, help="rows")
    parser.add_argument("--checkpoint-steps", type=int, default=0, help="steps of a chunk; 0: those of auto")
    parser.add_argument("--rounds", type=int, default=3, help="rounds")
    parser.add_argument("--threads", type=int, default=1, help="threads")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options, options.one)))
        return
    print(_FORMAT.format("steps", "chunk", "seconds", "time ratio", "MB", "MB / sqrt(steps)"))
    for steps in options.steps:
        command = [sys.executable, __file__, *sys.argv[1:], "--one", str(steps)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        size = found["bytes"] / 1e6
        row = (f"{steps:,}", found["chunk"], f"{found['seconds']:.2f}", f"{found['ratio']:.3f}", f"{size:.0f}")
        print(_FORMAT.format(*row, f"{size / steps**0.5:.3f}"), flush=True)


if __name__ == "__main__":
    main()
