"""Cost of a cell: training steps of one layer under each kernel, in turns with ``torch.nn.GRU``."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from seqlab.contracts import Cell, Kernel
from seqlab.plugins.kernels import kernel_types
from seqlab.recurrence import Loop
from seqlab.study.card.protocol import Cost
from seqlab.study.matching import nearest_size

BASELINE = "torch.nn.GRU"
_PATIENCE, _FEWEST = 20.0, 2
"""Seconds after which no round begins, and the number of rounds that are timed in any case."""

_Forward = Callable[[Tensor], Tensor]


def measure_cost(cell: Cell, shape: Cost) -> dict[str, Any]:
    """Time training steps (forward, and gradients of inputs and parameters) in float32 on one thread.

    ``torch.nn.GRU`` has the hidden size at which its number of parameters is nearest to the cell's.

    Args:
        cell: one layer, with ``shape.inputs`` features.
        shape: of the batch.

    Returns:
        ``parameters`` and ``hidden_size`` of the layer, those of the baseline, a row per kernel with the median time,
        time steps per second and the ratio to the baseline with its range over the rounds, and the ``load`` of the
        machine before, its load average of one minute.
    """
    parameters = _count(cell)
    hidden = nearest_size(lambda size: 3 * size * (shape.inputs + size + 2), parameters)
    module = nn.GRU(shape.inputs, hidden)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape.steps, shape.rows, shape.inputs, generator=generator)
    paths: dict[str, tuple[_Forward, nn.Module]] = {BASELINE: (lambda inputs: module(inputs)[0], module)}
    for name, kernel in _kernels(cell, x).items():
        paths[name] = _bound(kernel, cell), cell
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with _one_thread():
        times = _in_turns(paths, x.requires_grad_(), shape.rounds)
    return {
        "shape": {"rows": shape.rows, "steps": shape.steps, "inputs": shape.inputs, "rounds": shape.rounds},
        "load": load,
        "parameters": parameters,
        "baseline": {"name": BASELINE, "hidden_size": hidden, "parameters": _count(module)},
        "kernels": [_row(name, each, times[BASELINE], shape) for name, each in times.items()],
    }


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _kernels(cell: Cell, x: Tensor) -> Mapping[str, Kernel]:
    """Return the loop, and the registered kernels that take the cell; compilation by torch takes too long."""
    found: dict[str, Kernel] = {"loop": Loop(), **{name: made() for name, made in kernel_types(type(cell)).items()}}
    return {name: kernel for name, kernel in found.items() if not kernel.refuses([cell], x, None)}


def _bound(kernel: Kernel, cell: Cell) -> _Forward:
    return lambda x: kernel.outputs([cell], x, [cell.initial_state(x[0])], None)


def _in_turns(paths: Mapping[str, tuple[_Forward, nn.Module]], x: Tensor, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in paths}
    started = time.perf_counter()
    for number in range(rounds + 1):
        if number > _FEWEST and time.perf_counter() - started > _PATIENCE:
            break
        for name, (forward, module) in paths.items():
            x.grad = None
            module.zero_grad()
            began = time.perf_counter()
            forward(x).sum().backward()  # type: ignore[no-untyped-call]  # torch's own
            if number:  # the first compiles
                times[name].append(time.perf_counter() - began)
    return times


def _row(name: str, times: Sequence[float], baseline: Sequence[float], shape: Cost) -> dict[str, Any]:
    median = statistics.median(times)
    ratios = [theirs / own for theirs, own in zip(baseline, times, strict=True)]
    return {
        "name": name,
        "milliseconds": 1e3 * median,
        "steps_per_second": shape.rows * shape.steps / median,
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
