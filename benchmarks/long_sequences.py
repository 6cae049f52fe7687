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

import torch

from seqlab import Batch
from seqlab.plugins import find
from seqlab.recurrence.chunks import MAX_BYTES, automatic_steps
from seqlab_models.recurrent import RecurrentModel
from seqlab_tasks.synthetic import First

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_FORMAT = "{:>10} {:>7} {:>12} {:>12} {:>8} {:>15}"


def peak() -> int:
    """Return the largest resident set of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def measure(options: argparse.Namespace, steps: int) -> dict[str, float]:
    """Measure one length in this process."""
    torch.set_num_threads(options.threads)
    task = First(options.short)
    kind = find("cell", options.cell).load()
    chunk = options.checkpoint_steps or automatic_steps(steps, MAX_BYTES)
    model = RecurrentModel(
        task.inputs,
        task.head,
        False,
        lambda size: kind(size, options.hidden),
        options.kernel,
        checkpoint_steps=chunk,
        embedding_size=options.embedding,
    )

    def training_step(length: int) -> float:
        task.sequence_length = length
        examples = task.draw(options.batch, 0)
        batch = Batch(examples.inputs.even, None, examples.targets)
        model.zero_grad()
        since = time.perf_counter()
        task.loss(model(batch)[0], batch).backward()
        return time.perf_counter() - since

    model.recurrent.checkpoint_steps = 0
    training_step(options.short)
    before, ratios, seconds, memory = peak(), [], [], 0
    for turn in range(options.rounds):
        model.recurrent.checkpoint_steps = chunk
        seconds.append(training_step(steps))
        memory = memory or peak() - before
        model.recurrent.checkpoint_steps = 0
        short = sum(training_step(options.short) for _ in range(steps // options.short))
        ratios.append(seconds[-1] / short * (steps // options.short * options.short) / steps)
        print(f"{steps:,} steps, round {turn + 1}: ratio {ratios[-1]:.3f}", file=sys.stderr, flush=True)
    return {
        "chunk": chunk,
        "seconds": statistics.median(seconds),
        "ratio": statistics.median(ratios),
        "bytes": memory,
    }


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
