"""Training steps of MinGRU and MinLSTM by parallel scan, against the loop and ``torch.nn.GRU``, interleaved.

A step is a forward and a backward pass in float32 over full rows, from the sum of squared outputs to all parameters and
the input. Reports medians over rounds, and ratios to ``parallel`` with quartiles. Run on an idle machine.

    python benchmarks/parallel_scan.py --rounds 15
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from seqlab import Recurrent
from seqlab_cells.mingru import MinGRU
from seqlab_cells.minlstm import MinLSTM

SHAPES = [(32, 128, 128), (16, 1000, 128), (1, 1000, 128)]  # batch, time, hidden


def training_step(module: nn.Module, x: Tensor) -> Callable[[], float]:
    """Return a function that runs one step and returns its seconds."""

    def step() -> float:
        since = time.perf_counter()
        module.zero_grad()
        x.grad = None
        module(x)[0].square().sum().backward()
        if x.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - since

    return step


def measure(batch: int, steps: int, hidden: int, rounds: int, device: str) -> None:
    """Print the table of one shape."""
    x = torch.randn(steps, batch, hidden, device=device, requires_grad=True)
    contenders = {
        f"{cell.__name__.lower()} {kernel}": Recurrent(cell, hidden, hidden_size=hidden, kernel=kernel)
        for cell in (MinGRU, MinLSTM)
        for kernel in ("parallel", "loop")
    }
    runs = {name: training_step(net.to(device), x) for name, net in contenders.items()}
    runs["torch.nn.GRU"] = training_step(nn.GRU(hidden, hidden).to(device), x)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            taken = run()
            if round_:  # the first is a warm-up
                seconds[name].append(taken)
    print(f"B{batch} T{steps} H{hidden}")
    for name, each in seconds.items():
        print(f"  {name:18} {1e3 * statistics.median(each):8.1f} ms")
    for cell in ("mingru", "minlstm"):
        for other in (f"{cell} loop", "torch.nn.GRU"):
            ratios = [a / b for a, b in zip(seconds[other], seconds[f"{cell} parallel"], strict=True)]
            low, _, high = statistics.quantiles(ratios, n=4)
            print(f"  {other} / {cell} parallel: {statistics.median(ratios):.2f} (quartiles {low:.2f}-{high:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    if asked.rounds < 2:
        parser.error(f"--rounds must be >= 2, got {asked.rounds}")
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    for shape in SHAPES:
        measure(*shape, asked.rounds, asked.device)


if __name__ == "__main__":
    main()
