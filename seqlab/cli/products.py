"""Time of a layer's matrix products alone, by the fastest library at hand: what bounds its kernels."""

import time
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def products_seconds(weights: Sequence[Tensor], rows: int, runs: int) -> float:
    r"""Time the products of a training step, each by the library that is fastest at it, over all time steps at once.

    For each weight matrix :math:`W` and ``rows`` rows :math:`X`, whose outputs have the gradient :math:`D`, these are
    :math:`X W^\top`, :math:`D W` and :math:`D^\top X`. The libraries are torch's BLAS and oneDNN. A recurrent layer
    cannot compute all steps at once, so that its kernels have this rate for a bound and not for an aim.

    Args:
        weights: matrices ``[out, in]``.
        rows: valid time steps of all rows of the batch.
        runs: timed runs of each product, of which the shortest counts.
    """
    products = [product for weight in weights for product in _products(weight.detach(), rows)]
    shortest = [[float("inf")] * len(libraries) for libraries in products]
    for _ in range(runs + 1):
        for times, libraries in zip(shortest, products, strict=True):
            for index, multiply in enumerate(libraries):
                started = time.perf_counter()
                multiply()
                times[index] = min(times[index], time.perf_counter() - started)
    return sum(map(min, shortest))


def products_flops(weights: Sequence[Tensor], rows: int) -> float:
    """Return the floating-point operations of :func:`products_seconds`."""
    return 6.0 * rows * sum(weight.numel() for weight in weights)


def _products(weight: Tensor, rows: int) -> Iterator[list[Callable[[], object]]]:
    x, d = weight.new_ones(rows, weight.shape[1]), weight.new_ones(rows, weight.shape[0])
    yield _libraries(x, weight.t())
    yield _libraries(d, weight)
    yield _libraries(d.t(), x)


def _libraries(a: Tensor, b: Tensor) -> list[Callable[[], object]]:
    """Return a function for each library that multiplies two matrices, which memory of the result is ready for."""
    out = a.new_empty(a.shape[0], b.shape[1])
    found: list[Callable[[], object]] = [lambda: torch.mm(a, b, out=out)]
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch's own
    if has_onednn and a.dtype == torch.float32:
        left, right = a.contiguous().to_mkldnn(), b.t().contiguous().to_mkldnn()
        found.append(lambda: F.linear(left, right))
    return found
