"""Training steps of ``kernel=compiled`` against ``torch.nn.GRU``, the loop and a compiled step, interleaved.

A step is a forward and a backward pass in float32 over ragged rows, to all parameters and the input. Reports medians
over rounds, and ratios per round with quartiles; compilation is timed separately. Run on an idle machine.

    python benchmarks/compiled_scan.py --rounds 9
    python benchmarks/compiled_scan.py --grid       # a GRU's compiled scan and step over batch, time, size
"""

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from importlib import util
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from seqlab import Recurrent
from seqlab.recurrence import scan
from seqlab.recurrence.graphs import compilations
from seqlab_cells.gru import GRU
from seqlab_cells.lstm import LSTM

SHAPES = [(32, 128, 128), (16, 1000, 128)]  # batch, time, hidden
GRID = list(itertools.product((4, 64), (32, 512), (32, 256)))
ODD = Path(__file__).parents[1] / "tests" / "seqlab" / "recurrence" / "odd_cells.py"


def odd_cells() -> dict[str, type]:
    """Load the cells of the tests that no vendor kernel supports."""
    spec = util.spec_from_file_location("odd_cells", ODD)
    module = util.module_from_spec(spec)
    sys.modules["odd_cells"] = module  # torch.compile resolves globals here
    spec.loader.exec_module(module)
    return {cell.__name__: cell for cell in module.ODD}


def training_step(run: Callable[[], Tensor], parameters: list[Tensor]) -> Callable[[], float]:
    """Return a function that runs one step and returns its seconds."""

    def step() -> float:
        since = time.perf_counter()
        for parameter in parameters:
            parameter.grad = None
        run().square().sum().backward()
        return time.perf_counter() - since

    return step


def contenders(batch: int, steps: int, hidden: int, lengths: Tensor, *, rivals: bool) -> dict[str, Callable[[], float]]:
    """Return the steps to time, by name."""
    x = torch.randn(steps, batch, hidden, requires_grad=True)
    found: dict[str, Callable[[], float]] = {}

    def add(name: str, module: nn.Module, run: Callable[[], Tensor]) -> None:
        found[name] = training_step(run, [x, *module.parameters()])

    for name, cell in {"GRU": GRU, "LSTM": LSTM, **odd_cells()}.items():
        size = 32 if name == "MatrixMemory" else hidden  # a 128 x 128 matrix per row would only measure memory
        for kernel in ("compiled", "loop"):
            net = Recurrent(cell, hidden, hidden_size=size, kernel=kernel)
            add(f"{name} {kernel}", net, lambda net=net: net(x, lengths=lengths)[0])
    if rivals:
        stepped = GRU(hidden, hidden)
        stepped.step = torch.compile(stepped.step, dynamic=False)  # type: ignore[method-assign]  # this one cell's step, compiled
        add("GRU step compiled", stepped, lambda: scan(stepped, x, stepped.initial_state(x[0]), lengths)[0])
    for name, module in (("GRU", nn.GRU(hidden, hidden)), ("LSTM", nn.LSTM(hidden, hidden))):
        add(f"torch.nn.{name} padded", module, lambda module=module: module(x)[0])
        add(
            f"torch.nn.{name} packed",
            module,
            lambda module=module: module(pack_padded_sequence(x, lengths, enforce_sorted=False))[0].data,
        )
    return found


def measure(batch: int, steps: int, hidden: int, rounds: int) -> None:
    """Print the table of one shape."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(steps // 2, steps + 1, (batch,), generator=generator)
    lengths[0] = steps
    runs = contenders(batch, steps, hidden, lengths, rivals=True)
    print(f"B{batch} T{steps} H{hidden}, rows of {int(lengths.min())} to {steps} steps", flush=True)
    for name, run in runs.items():  # the first call compiles
        before, count = compilations.seconds, compilations.count
        run()
        if compilations.count > count:
            graphs = compilations.count - count
            print(f"  {name}: {graphs} graphs compiled in {compilations.seconds - before:.1f} s", flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds[name].append(run())
    for name, each in seconds.items():
        print(f"  {name:22} {1e3 * statistics.median(each):8.1f} ms")

    def ratio(above: str, below: str) -> None:
        each = [a / b for a, b in zip(seconds[above], seconds[below], strict=True)]
        low, _, high = statistics.quantiles(each, n=4)
        print(f"  {above} / {below}: {statistics.median(each):.2f} (quartiles {low:.2f}-{high:.2f})", flush=True)

    ratio("GRU compiled", "torch.nn.GRU padded")
    ratio("GRU compiled", "torch.nn.GRU packed")
    ratio("GRU compiled", "GRU step compiled")
    ratio("LSTM compiled", "torch.nn.LSTM padded")
    for name in ("GRU", *odd_cells()):
        ratio(f"{name} loop", f"{name} compiled")


def compare_ways(batch: int, steps: int, hidden: int, rounds: int) -> None:
    """Print the speed of a compiled scan and of a compiled step of a GRU, relative to the loop."""
    x = torch.randn(steps, batch, hidden, requires_grad=True)
    loop, compiled = (Recurrent(GRU, hidden, hidden_size=hidden, kernel=kernel) for kernel in ("loop", "compiled"))
    stepped = GRU(hidden, hidden)
    stepped.step = torch.compile(stepped.step, dynamic=False)  # type: ignore[method-assign]  # this one cell's step, compiled
    runs = [
        training_step(lambda: loop(x)[0], [x, *loop.parameters()]),
        training_step(lambda: compiled(x)[0], [x, *compiled.parameters()]),
        training_step(lambda: scan(stepped, x, stepped.initial_state(x[0]))[0], [x, *stepped.parameters()]),
    ]
    compiling = []
    for run in runs:
        before = compilations.seconds
        run()
        compiling.append(compilations.seconds - before)
    seconds = [[run() for run in runs] for _ in range(rounds)]
    scanned, stepwise = (
        f"{statistics.median(each[0] / each[way] for each in seconds):.2f} ({compiling[way]:.0f} s)" for way in (1, 2)
    )
    print(f"  B{batch} T{steps} H{hidden}: {scanned}, {stepwise}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--grid", action="store_true", help="compiled scan and step over batch, time, size")
    asked = parser.parse_args()
    if asked.rounds < 2:
        parser.error(f"--rounds must be >= 2, got {asked.rounds}")
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {asked.rounds} rounds")
    if asked.grid:
        print("speed relative to the loop (compile time): compiled scan, compiled step")
    for shape in GRID if asked.grid else SHAPES:
        (compare_ways if asked.grid else measure)(*shape, asked.rounds)


if __name__ == "__main__":
    main()
