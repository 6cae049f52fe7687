"""Cost of each layer wrapper on each kernel: training steps of a GRU, relative to no wrapper, interleaved.

A step is a forward and a backward pass in float32 over ragged rows, two layers deep. Reports the median ratio of the
rounds. Run on an idle machine.

    python benchmarks/wrappers.py --rounds 11
"""

import argparse
import logging
import statistics
import time
from collections.abc import Callable

import torch

from seqlab import Recurrent
from seqlab_cells.gru import GRU

BATCH, STEPS, HIDDEN = 32, 128, 128
KERNELS = ("vendor", "loop", "compiled")
WRAPPERS: dict[str, dict[str, object]] = {
    "none": {},
    "dropout": {"dropout": 0.2},
    "locked_dropout": {"locked_dropout": 0.2},
    "weight_drop": {"weight_drop": 0.2},
    "layer_norm": {"layer_norm": True},
    "connection=residual": {"connection": "residual"},
    "connection=highway": {"connection": "highway"},
    "block=prenorm": {"block": "prenorm"},
    "block=prenorm_mlp": {"block": "prenorm_mlp"},
    "conv=4": {"conv": 4},
    "learned_start": {"learned_start": True},
    "truncate": {"truncate": 32},
    "state_dropout": {"state_dropout": 0.2},
    "zoneout": {"zoneout": 0.2},
}


def training_step(kernel: str, options: dict[str, object]) -> tuple[Callable[[], float], str]:
    """Return a function that runs one step and returns its seconds, and the name of the kernel."""
    net = Recurrent(
        GRU, HIDDEN, hidden_size=HIDDEN, depth=2, kernel="auto" if kernel == "vendor" else kernel, **options
    )
    x = torch.randn(STEPS, BATCH, HIDDEN, requires_grad=True)
    lengths = torch.randint(STEPS // 2, STEPS + 1, (BATCH,), generator=torch.Generator().manual_seed(1))
    lengths[0] = STEPS

    def step() -> float:
        since = time.perf_counter()
        for tensor in (x, *net.parameters()):
            tensor.grad = None
        net(x, lengths=lengths)[0].square().sum().backward()
        return time.perf_counter() - since

    step()
    step()  # kernel refusals are known after the first calls
    assert net.choice is not None
    return step, net.choice.kernel.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    logging.getLogger("seqlab").setLevel(logging.ERROR)  # the table shows the refusals
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds, B{BATCH} T{STEPS} H{HIDDEN}")
    steps = {(w, k): training_step(k, options) for w, options in WRAPPERS.items() for k in KERNELS}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    for _ in range(rounds):
        for key, (step, _ran) in steps.items():
            seconds[key].append(step())
    base = seconds["none", "vendor"]
    print(f"{'':22}" + "".join(f"{kernel:>22}" for kernel in KERNELS) + "   (/ vendor, no wrapper; kernel)")
    for wrapper in WRAPPERS:
        cells = []
        for kernel in KERNELS:
            ratio = statistics.median(s / b for s, b in zip(seconds[wrapper, kernel], base, strict=True))
            cells.append(f"{ratio:.2f} {steps[wrapper, kernel][1]}")
        print(f"{wrapper:22}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
