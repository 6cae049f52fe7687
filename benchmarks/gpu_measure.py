"""Measurements for ``gpu_campaign.py``: peak rates of a device, time and memory of kernels."""

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from gpu_points import DTYPES, EPILOGUES, Point
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqlab import Cell, Kernel, Recurrent
from seqlab_cells.gpu import launch, limits
from seqlab_cells.gru import GRU, GRUFused, GRUVendor
from seqlab_cells.lstm import LSTM, LSTMFused, LSTMVendor
from seqlab_cells.mingru import MinGRU, MinGRUParallel
from seqlab_cells.parallel import affine_scan
from seqlab_cells.rnn import RNN, RNNFused, RNNVendor
from seqlab_cells.weights import EPILOGUES as FUSED

CELLS: dict[str, tuple[type[Cell], Any, Any]] = {
    "lstm": (LSTM, LSTMFused, LSTMVendor), "gru": (GRU, GRUFused, GRUVendor), "rnn": (RNN, RNNFused, RNNVendor),
    "mingru": (MinGRU, MinGRUParallel, MinGRUParallel),
}  # fmt: skip
Ways = Mapping[str, Callable[[], Any]]


def wait(device: str) -> None:
    """Synchronise the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(ways: Ways, device: str, budget: float) -> tuple[dict[str, float], dict[str, str]]:
    """Return the median seconds of interleaved calls, and the errors.

    Args:
        ways: functions to time, by name.
        device: ``cuda`` or ``cpu``.
        budget: seconds for all, without warm-up; each runs at least three times, on a CPU once.
    """
    warm: dict[str, float] = {}
    faults: dict[str, str] = {}
    for name, way in ways.items():
        try:
            way()
            wait(device)
            began = time.perf_counter()
            way()
            wait(device)
            warm[name] = time.perf_counter() - began
        except Exception as error:  # the others may succeed
            faults[name] = f"{type(error).__name__}: {str(error).strip()[:200]}"
            if device == "cuda":
                torch.cuda.empty_cache()
    times: dict[str, list[float]] = {name: [] for name in warm}
    rounds = max(3 if device == "cuda" else 1, min(50, int(budget / max(1e-6, sum(warm.values())))))
    for _ in range(rounds):
        for name in warm:
            times[name].append(_once(ways[name], device))
    return {name: statistics.median(each) for name, each in times.items()}, faults


def _once(way: Callable[[], Any], device: str) -> float:
    if device != "cuda":
        began = time.perf_counter()
        way()
        return time.perf_counter() - began
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    way()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / 1e3


def peak(way: Callable[[], Any], device: str) -> int | None:
    """Return the peak memory of a call in bytes, beyond what was allocated before."""
    if device != "cuda":
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    way()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def ceilings(device: str) -> dict[str, float]:
    """Measure peak rates: bytes per second of a copy (read and written), FLOP per second of matrix products."""
    numbers = 2**30 if device == "cuda" else 2**16
    one, other = torch.ones(2, numbers, dtype=torch.bfloat16, device=device)
    found, _ = seconds({"copy": lambda: other.copy_(one)}, device, 0.5)
    result = {"copy": 4 * numbers / found["copy"]}
    del one, other
    size = 8192 if device == "cuda" else 64
    for name, dtype in DTYPES.items():
        if device != "cuda" and dtype is torch.bfloat16:
            continue
        a, b = torch.randn(2, size, size, device=device).to(dtype)
        with precision(name):
            found, _ = seconds({"product": lambda a=a, b=b: a @ b}, device, 0.3)
        result[name] = 2 * size**3 / found["product"]
    return result


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Set the float32 precision of torch, cuDNN and our kernels to that of a dtype of the points."""
    before, theirs = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = name == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = theirs


def ours(point: Point) -> Kernel:
    """Return the measured kernel."""
    kernel = CELLS[point.cell][1]
    made: Kernel = kernel(by="triton") if point.cell == "mingru" else kernel(save=point.save)
    return made


def drawn(point: Point, device: str) -> tuple[Recurrent, Tensor, Tensor | None]:
    """Return a layer, an input, and lengths between 1 and the time, one row full."""
    torch.manual_seed(0)
    kernel = ours(point)
    layer = Recurrent(
        CELLS[point.cell][0], point.hidden, hidden_size=point.hidden, bidirectional=point.directions == 2, kernel=kernel
    )
    dtype = DTYPES[point.dtype]
    x = torch.randn(point.time, point.batch, point.hidden, device=device).to(dtype).requires_grad_()
    lengths = None
    if point.ragged:
        lengths = torch.randint(1, point.time + 1, (point.batch,), device=device)
        lengths[0] = point.time
    return layer.to(device, dtype), x, lengths


def ways(point: Point, device: str, *, compiled: bool) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    """Return the functions to compare: training steps of one layer, and our forward pass."""
    layer, x, lengths = drawn(point, device)
    weight = torch.randn(point.time, point.batch, layer.output_size, device=device).to(x.dtype)
    twin = copy.deepcopy(layer)
    twin.kernel = MinGRUParallel(by="torch") if point.cell == "mingru" else CELLS[point.cell][2]()

    def step(module: nn.Module, run: Callable[[], Tensor]) -> Callable[[], Any]:
        leaves = [x, *module.parameters()]
        return lambda: torch.autograd.grad(run(), leaves, weight)

    found = {
        "ours": step(layer, lambda: layer(x, lengths=lengths, final_state=False)[0]),
        "vendor": as_it_comes(step(twin, lambda: twin(x, lengths=lengths, final_state=False)[0])),
        "forward": torch.no_grad()(lambda: layer(x, lengths=lengths, final_state=False)[0]),
    }
    if point.cell != "mingru":
        make: Any = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[point.cell]
        theirs = make(point.hidden, point.hidden, bidirectional=point.directions == 2).to(x.device, x.dtype)
        found["padded"] = step(theirs, lambda: theirs(x)[0])
        if lengths is not None:
            on_cpu = lengths.cpu()
            found["packed"] = step(theirs, lambda: packed(theirs, x, on_cpu))
    if compiled:
        third = copy.deepcopy(layer)
        third.kernel = "compiled" if device == "cuda" else "loop"
        found["compiled"] = step(third, lambda: third(x, lengths=lengths, final_state=False)[0])
    return found, {"steps": int(lengths.sum()) if lengths is not None else point.time * point.batch}


def as_it_comes(way: Callable[[], Any]) -> Callable[[], Any]:
    """Allow TF32 in cuDNN, its default, which ``auto`` meets."""

    def run() -> Any:
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = True
        try:
            return way()
        finally:
            torch.backends.cudnn.allow_tf32 = before

    return run


def packed(module: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    """Run a module of torch on packed input."""
    output, _ = module(pack_padded_sequence(x, lengths, enforce_sorted=False))
    padded: Tensor = pad_packed_sequence(output, total_length=len(x))[0]
    return padded


def measure(point: Point, device: str, ceiling: Mapping[str, float], *, compiled: bool = False) -> dict[str, Any]:
    """Measure a point: milliseconds of each function, ratios to ours, shares of the peak rates, memory."""
    with precision(point.dtype):
        made, facts = ways(point, device, compiled=compiled)
        found, faults = seconds(made, device, 1.2 if device == "cuda" else 0.0)
        result: dict[str, Any] = {"point": point._asdict(), "faults": faults}
        result["ms"] = {name: 1e3 * each for name, each in found.items()}
        result["peak"] = {name: peak(made[name], device) for name in ("ours", "vendor") if name in found}
        del made
        if "ours" not in found:
            return {**result, "error": faults["ours"]}
        result |= {f"over_{name}": found[name] / found["ours"] for name in found if name not in ("ours", "forward")}
        result["us_a_step"] = 1e6 * found["ours"] / point.time
        moved, done = cost(point, facts["steps"])
        result["bandwidth"] = moved / found["ours"] / ceiling["copy"]
        result["flops"] = done / found["ours"] / ceiling.get(point.dtype, float("inf"))
        if point.cell == "mingru":
            result |= _scan_alone(point, device, ceiling["copy"])
    result["said"] = f"{result['ms']['ours']:.3g} ms, {result.get('over_vendor', 0):.2f} x vendor"
    return result


def tiles(point: Point, device: str, shapes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Measure our training step and forward pass with other tiles than those of :func:`.limits.tile`."""
    result: dict[str, Any] = {}
    with precision(point.dtype):
        made, _ = ways(point, device, compiled=False)
        mine = {name: made[name] for name in ("ours", "forward")}
        try:
            for shape in (None, *shapes):
                limits.TILE = shape
                found, faults = seconds(mine, device, 0.3)
                name = "chosen" if shape is None else f"{shape[0]} rows, {shape[1]} warps"
                result[name] = {way: 1e3 * each for way, each in found.items()} or faults
        finally:
            limits.TILE = None
    return {"tiles": result}


def cost(point: Point, steps: int) -> tuple[float, float]:
    """Return the bytes that a training step must move, each number once, and its FLOP."""
    size, h, d = DTYPES[point.dtype].itemsize, point.hidden, point.directions
    if point.cell == "mingru":  # a, b and h; then a, h, dh, da and db; the maps around it: x, two gates, and back
        return float(steps * h * size * d * (8 + 8)), float(steps * d * 3 * 2 * 2 * h * h)
    epilogue = FUSED[EPILOGUES[point.cell]]
    kept = launch.kept_per_step(epilogue, h, point.save, DTYPES[point.dtype]) / h
    planes = 4 if epilogue.kept else 1
    forward = 1 / d + 2 * epilogue.gates + 1 + kept  # x, the projection written and read, y, what is kept
    back = kept + 1 + planes + 2 * planes + 2 / d + 1  # read, with dy; planes written, read twice; x, dx; y
    return float(steps * d * h * size * (forward + back)), float(steps * d * 3 * 2 * epilogue.gates * 2 * h * h)


def _scan_alone(point: Point, device: str, copy_rate: float) -> dict[str, Any]:
    shape = (point.time, point.batch, point.hidden)
    a = torch.rand(shape, device=device).to(DTYPES[point.dtype]).requires_grad_()
    b = torch.randn(shape, device=device).to(a.dtype).requires_grad_()
    start, weight = torch.zeros_like(a[0], requires_grad=True), torch.ones_like(b)

    def step() -> Any:
        h = affine_scan(a, b, start, backward=False, by_triton=True)
        return torch.autograd.grad(h, (a, b, start), weight)

    found, faults = seconds({"scan": step}, device, 0.3)
    if "scan" not in found:
        return {"scan_fault": faults["scan"]}
    return {"scan_bandwidth": 8 * a.numel() * a.element_size() / found["scan"] / copy_rate}
