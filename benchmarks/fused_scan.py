"""Training steps of ``kernel=fused`` against ``torch.nn`` and a hand-written kernel, in turns.

A step is a forward and a backward pass in float32 over full rows, to all parameters and the input. Reports medians
over rounds, ratios per round with quartiles, and the ratio of the shortest steps. With one thread CPU time is measured,
which other processes change little; with more, run on an idle machine.

    python benchmarks/fused_scan.py --runs 15
    python benchmarks/fused_scan.py --runs 15 --prototype FOLDER

FOLDER has a ``lib.py`` whose ``Fn.apply(kind, x, h0, c0, W_ih, W_hh, b_ih, b_hh)`` returns the outputs
``[time, batch, hidden]`` of kind 0 (GRU), 1 (LSTM) or 2 (RNN) and has a derivative.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqlab import Cell
from seqlab.cli.commands.bench import Forward, Shape, keep_heap, read_shape, timed_paths, torch_module
from seqlab.plugins.config import plugin_class
from seqlab.plugins.kernels import kernel_types

SHAPES = "8x1000x16x64,16x1000x64x128,32x128x128x128,256x20x64x128,64x256x512x512"
KINDS = ("gru", "lstm", "rnn")


def prototype_forward(library: Any, cell: str, shape: Shape) -> tuple[Forward, list[torch.nn.Parameter]]:
    """Return the hand-written scan of a cell and its weights."""
    weights = list(torch_module(plugin_class("cell", cell), shape).parameters())
    h0, c0 = torch.zeros(shape.batch, shape.hidden), torch.zeros(shape.batch, shape.hidden)

    def forward(x: Tensor) -> Tensor:
        return library.Fn.apply(KINDS.index(cell), x, h0, c0, *weights)

    return forward, weights


def fused_forward(target: type[Cell], shape: Shape) -> tuple[Forward, list[torch.nn.Parameter]]:
    """Return the kernel, from an initial state that is there already, as the hand-written one has it."""
    cell, kernel = target(shape.input, hidden_size=shape.hidden), kernel_types(target)["fused"]()
    state = cell.initial_state(torch.zeros(shape.batch, shape.input))
    return (lambda x: kernel.outputs([cell], x, [state], None)), list(cell.parameters())


def compare(cell: str, shape: Shape, runs: int, library: Any | None) -> None:
    """Print the row of one cell and shape."""
    target = plugin_class("cell", cell)
    paths = {**timed_paths(target, shape, {}, None), "fused": fused_forward(target, shape)}
    if library is not None:
        paths["prototype"] = prototype_forward(library, cell, shape)
    x = torch.randn(shape.time, shape.batch, shape.input).requires_grad_()
    weight = torch.randn(shape.time, shape.batch, shape.hidden)
    steps = {name: partial(seconds, *path, x, weight) for name, path in paths.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    order, shuffled = list(steps), random.Random(0)
    for turn in range(runs + 1):  # the first one warms up
        for name in order:
            taken = steps[name]()
            if turn:
                times[name].append(taken)
        shuffled.shuffle(order)  # what follows a slow one finds colder caches
    shown = (f"{name} {1e3 * statistics.median(each):.2f} ms" for name, each in times.items())
    print(f"{cell} {shape}:", ", ".join(shown))
    for name in times:
        if name != "fused":
            print(f"  fused / {name}: {ratio(times['fused'], times[name])}", flush=True)


def seconds(forward: Forward, parameters: Sequence[Tensor], x: Tensor, weight: Tensor) -> float:
    """Run one step."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    for leaf in (x, *parameters):
        leaf.grad = None
    started = clock()
    forward(x).backward(weight)
    return clock() - started


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the median ratio of the rounds with quartiles, and that of the shortest."""
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(each, n=4) if len(each) > 1 else each * 3
    return f"{middle:.3f} ({low:.3f}-{high:.3f}), shortest {min(ours) / min(theirs):.3f}"


def load(folder: Path) -> Any:
    """Import the prototype."""
    sys.path.insert(0, str(folder))
    import lib

    return lib


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cells", default=",".join(KINDS))
    parser.add_argument("--shapes", default=SHAPES, help="batch x time x input x hidden (%(default)s)")
    parser.add_argument("--prototype", type=Path, metavar="FOLDER", help="of lib.py")
    asked = parser.parse_args()
    keep_heap(sys.argv)
    torch.set_num_threads(asked.threads)
    library = None if asked.prototype is None else load(asked.prototype)
    print(f"torch {torch.__version__}, {asked.threads} threads, {asked.runs} rounds")
    for shape in map(read_shape, asked.shapes.split(",")):
        for cell in asked.cells.split(","):
            compare(cell, shape, asked.runs, library)


if __name__ == "__main__":
    main()
