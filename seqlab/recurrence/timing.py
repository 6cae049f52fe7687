"""Interleaved timing of the kernels of one layer."""

import statistics
import time as clock
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqlab.contracts import Cell, Kernel


class Shape(NamedTuple):
    """One layer's sizes, written ``batch x time x input x hidden``, with ``r`` behind it for ragged rows."""

    batch: int
    time: int
    input: int
    hidden: int
    ragged: bool = False

    def __str__(self) -> str:
        return "x".join(map(str, self[:4])) + ("r" if self.ragged else "")


def read_shape(text: str) -> Shape:
    """Read a shape such as ``16x1000x64x128`` or ``32x512x128x128r``.

    Raises:
        ValueError: it is none.
    """
    sizes = text.removesuffix("r").split("x")
    if len(sizes) != 4 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise ValueError(f"shape must be batch x time x input x hidden, such as 16x1000x64x128, got {text}")
    batch, time, size, hidden = map(int, sizes)
    return Shape(batch, time, size, hidden, text.endswith("r"))


@final
class Timings(NamedTuple):
    """Times of one kernel, in seconds.

    Attributes:
        train: each training step: forward, and the gradients of inputs and parameters.
        forward: each forward pass without gradients.
        first: the first training step, with compilation.
        kept: bytes saved for the backward pass, outputs included.
    """

    train: list[float]
    forward: list[float]
    first: float
    kept: int

    @property
    def median(self) -> float:
        """Median time of a training step."""
        return statistics.median(self.train)


Forward = Callable[[Tensor], Tensor]
"""From the inputs ``[time, batch, input]`` to the outputs."""


def timed_paths(
    cell: Callable[..., Cell], shape: Shape, kernels: Mapping[str, Kernel], lengths: Tensor | None
) -> dict[str, tuple[Forward, list[nn.Parameter]]]:
    """Make the paths through one layer: each kernel, and torch's module of the cell's name if there is one.

    torch's module stands for itself twice where rows are ragged: over all padding, and packed.
    """
    torch.manual_seed(0)
    made = cell(shape.input, hidden_size=shape.hidden)
    found: dict[str, tuple[Forward, list[nn.Parameter]]] = {}
    theirs: Any = getattr(nn, type(made).__name__, None)
    if isinstance(theirs, type) and issubclass(theirs, nn.RNNBase):
        make: Any = theirs
        module = make(shape.input, shape.hidden)
        name = f"torch.nn.{theirs.__name__}"
        found[name] = (lambda x: module(x)[0]), list(module.parameters())
        if lengths is not None:
            found[f"{name}, packed"] = (lambda x: _packed(module, x, lengths)), list(module.parameters())
    for name, kernel in kernels.items():

        def run(x: Tensor, kernel: Kernel = kernel) -> Tensor:
            return kernel.outputs([made], x, [made.initial_state(x[0])], lengths)

        found[name] = run, list(made.parameters())
    return found


def _packed(module: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    packed, _ = module(pack_padded_sequence(x, lengths, enforce_sorted=False))
    padded: Tensor = pad_packed_sequence(packed, total_length=len(x))[0]
    return padded


def draw_lengths(shape: Shape) -> Tensor | None:
    """Draw uniform lengths from 1 to the time, with one full row; ``None`` if rows are not ragged."""
    if not shape.ragged:
        return None
    lengths = torch.randint(1, shape.time + 1, (shape.batch,), generator=torch.Generator().manual_seed(1))
    lengths[0] = shape.time
    return lengths


def measure(paths: Mapping[str, tuple[Forward, Sequence[nn.Parameter]]], shape: Shape, runs: int) -> dict[str, Timings]:
    """Run all kernels in turn, ``runs`` times."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(shape.time, shape.batch, shape.input, generator=generator).requires_grad_()
    weight = torch.randn(shape.time, shape.batch, shape.hidden, generator=generator)
    found: dict[str, Timings] = {}
    for name, (way, parameters) in paths.items():
        kept = _SavedTensors([x, *parameters])
        with kept.counting():
            y = way(x)
        kept.add(y)
        del y
        found[name] = Timings([], [], _train(way, parameters, x, weight), kept.bytes)
    for _ in range(runs):
        for name, (way, parameters) in paths.items():
            found[name].train.append(_train(way, parameters, x, weight))
        for name, (way, _) in paths.items():
            found[name].forward.append(_forward(way, x))
    return found


def _train(way: Forward, parameters: Sequence[nn.Parameter], x: Tensor, weight: Tensor) -> float:
    for leaf in (x, *parameters):
        leaf.grad = None
    started = clock.perf_counter()
    way(x).backward(weight)  # type: ignore[no-untyped-call]  # torch's own
    return clock.perf_counter() - started


def _forward(way: Forward, x: Tensor) -> float:
    with torch.no_grad():
        started = clock.perf_counter()
        way(x)
        return clock.perf_counter() - started


class _SavedTensors:
    """Counts the memory that autograd saves, each storage once, without the given tensors."""

    def __init__(self, given: Iterable[Tensor]) -> None:
        self._given = {tensor.untyped_storage().data_ptr() for tensor in given}
        self._pieces: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        return sum(self._pieces.values())

    def add(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._given:
            self._pieces[storage.data_ptr()] = storage.nbytes()
        return tensor

    def counting(self) -> Any:
        return torch.autograd.graph.saved_tensors_hooks(self.add, lambda tensor: tensor)
