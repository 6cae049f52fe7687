"""What the kernels for CUDA devices support, how they tile a batch, and how fast they are known to be.

Does not import Triton. ``benchmarks/gpu_campaign.py`` writes a ``record.json`` for the GPU it ran on; copied to the
folder ``records`` beside this file, under any name, it is read here. Without a record of its architecture
``kernel=auto`` takes no kernel of ours.
"""

import importlib.util
import json
import math
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqlab import Cell
from seqlab_cells.weights import Epilogue

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ON_CHIP = 128 * 1024
"""Bytes of W that a program can hold in registers, which are 256 KiB, and compute beside them."""
AROUND = 32 * 1024
"""Bytes of shared memory that a program needs beside W, at most: the states of a tile between two layouts."""

INTERPRETED = os.environ.get("SEQLAB_TRITON_ON_CPU") == "1"
"""Whether tensors of the CPU go to the Triton kernels too: for tests, with ``TRITON_INTERPRET=1``."""
TILE: tuple[int, int] | None = None
"""Rows and warps that a benchmark tries instead of those of :func:`tile`."""


def uses_triton(x: Tensor) -> bool:
    """Return whether the Triton kernels are those for this tensor's device."""
    return x.is_cuda or (INTERPRETED and x.device.type == "cpu")


def compute_dtype(x: Tensor, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that is computed in: autocast's, or else ``dtype``, the parameters'."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else dtype


def refusal(epilogue: Epilogue, hidden: int, dtype: torch.dtype, x: Tensor) -> str | None:
    """Return why a layer cannot be scanned on this device; ``None`` where it can."""
    if fault := missing():
        return fault
    if dtype not in DTYPES:
        return f"on a GPU it computes in float32, bfloat16 and float16, not in {dtype}"
    if fault := too_large(epilogue, hidden, dtype):
        return fault
    if not x.is_cuda:
        return None
    if torch.version.hip:
        return "it was made for CUDA and is untested on ROCm"
    return _device_fault(w_bytes(epilogue, hidden, dtype), x.device.index or 0)


@cache
def _device_fault(size: int, index: int) -> str | None:
    properties = torch.cuda.get_device_properties(index)
    if properties.major < 8:
        return f"{properties.name} has compute capability {properties.major}.{properties.minor}; it needs 8.0"
    fits = getattr(properties, "shared_memory_per_block_optin", 99 * 1024)
    if size + AROUND > fits:  # W passes through shared memory on its way into registers
        needed = (size + AROUND) // 1024
        return f"a program of {properties.name} has {fits // 1024} KiB of shared memory; {needed} are needed"
    return None


@cache
def missing() -> str | None:
    """Return why Triton cannot be used here at all; ``None`` where it can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install 'seqlab[gpu]', on Linux)"
    return None


def padded(hidden: int) -> int:
    """Round up as the kernels do: to a power of two, 16 at least."""
    return max(16, 1 << (hidden - 1).bit_length())


def w_bytes(epilogue: Epilogue, hidden: int, dtype: torch.dtype) -> int:
    """Return the bytes of the padded ``W_hh`` of one direction."""
    return epilogue.gates * padded(hidden) ** 2 * dtype.itemsize


def too_large(epilogue: Epilogue, hidden: int, dtype: torch.dtype) -> str | None:
    """Return why W cannot be held on chip; ``None`` where it can."""
    size = w_bytes(epilogue, hidden, dtype)
    if size <= ON_CHIP:
        return None
    return f"hidden_size {hidden} in {dtype} means {size // 1024} KiB of W for each program; {ON_CHIP // 1024} fit"


def precision(dtype: torch.dtype) -> str:
    """Return how float32 is multiplied: by ``torch.set_float32_matmul_precision``, ``highest`` being IEEE."""
    return "tf32" if dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest" else "ieee"


def tile(epilogue: Epilogue, hidden: int, dtype: torch.dtype, how: str, *, back: bool) -> tuple[int, int]:
    """Choose rows and warps of a program.

    16 rows are the least that tensor cores take, and the most programs for a batch. Forward, W lies in registers: as
    many warps as have 96 of each thread for it. Backward, it lies in shared memory, from which every warp reads all
    gates' gradients too, so that few warps are better: 8 numbers of the state a thread. IEEE float32 does not use
    tensor cores: W is in shared memory both ways, and fewer numbers a thread leave room for the products.
    ``benchmarks/gpu_resources.py`` shows the registers and spills that result.

    Args:
        epilogue: the cell.
        hidden: its units.
        dtype: the dtype.
        how: its :func:`precision`.
        back: whether it is the backward kernel.
    """
    if TILE is not None:
        return TILE
    if dtype == torch.float32 and how == "ieee":
        least = min(8, padded(hidden) // 8)
    else:
        least = padded(hidden) // 16 if back else -(-(w_bytes(epilogue, hidden, dtype) // 4) // (32 * 96))
    return 16, min(16, max(4, 1 << max(0, least - 1).bit_length()))


# -------------------------------------------------------------------------------------------------- memory layout


class Plan(NamedTuple):
    """Layout of ragged batches in memory: of each replica its valid steps alone, row after row.

    Replicas are blocks of rows with weights of their own; all get as much memory as the one of most steps, so that one
    batched product serves them. What is left over at the end of a block is zero where it is multiplied.

    Attributes:
        total: steps that each replica has memory for.
        places: index of each kept step in ``[replicas * time * batch]``; this and those below are ``None`` for full
            rows.
        row: the row of each kept step, in ``[replicas * batch]``.
        step: the time of each kept step in its row.
        lengths: valid steps of each row, ``[replicas, batch]``.
        order: the rows of each replica, the longest first.
        base: index of each row's first kept step in ``[replicas * total]``.
        slots: index of each kept step in ``[replicas * total]``; ``None`` too where no memory is left over.
    """

    total: int
    places: Tensor | None = None
    row: Tensor | None = None
    step: Tensor | None = None
    lengths: Tensor | None = None
    order: Tensor | None = None
    base: Tensor | None = None
    slots: Tensor | None = None

    def kept(self, x: Tensor) -> Tensor:
        """Return ``[replicas, time, batch, ...]`` as ``[replicas, kept steps, ...]``, without the padding."""
        if self.places is None:
            return x.flatten(1, 2)
        return self._blocks(x.flatten(0, 2).index_select(0, self.places), len(x))

    def _blocks(self, kept: Tensor, replicas: int) -> Tensor:
        """Part the kept steps by replicas, with zeros where memory is left over."""
        if self.slots is not None:
            kept = kept.new_zeros(replicas * self.total, *kept.shape[1:]).index_copy_(0, self.slots, kept)
        return kept.view(replicas, self.total, *kept.shape[1:])

    def spread(self, x: Tensor, time: int, batch: int) -> Tensor:
        """Undo :meth:`kept`, with zeros on the padding."""
        shape = len(x), time, batch, *x.shape[2:]
        if self.places is None:
            return x.view(shape)
        x = x.flatten(0, 1)
        x = x if self.slots is None else x.index_select(0, self.slots)
        return x.new_zeros(math.prod(shape[:3]), *x.shape[1:]).index_copy_(0, self.places, x).view(shape)

    def before(self, y: Tensor, start: Tensor, backward: bool) -> Tensor:
        """Return the state before each kept step of ``y [replicas, time, batch, hidden]``, in its direction.

        Args:
            y: the outputs of one direction.
            start: its initial state, ``[replicas, batch, hidden]``.
            backward: whether it reads backward.
        """
        start = start.to(y.dtype)
        if self.places is None:
            start = start.unsqueeze(1)[:, : y.shape[1]]
            return torch.cat([y[:, 1:], start] if backward else [start, y[:, :-1]], dim=1).flatten(1, 2)
        assert self.row is not None
        assert self.step is not None
        assert self.lengths is not None
        batch = y.shape[2]
        first = self.step == (self.lengths.flatten()[self.row] - 1 if backward else 0)
        at = torch.where(first, self.places, self.places + (batch if backward else -batch))
        earlier = y.flatten(0, 2).index_select(0, at)
        found = torch.where(first.unsqueeze(1), start.flatten(0, 1).index_select(0, self.row), earlier)
        return self._blocks(found, len(y))


def plan(replicas: int, time: int, batch: int, lengths: Tensor | None, device: torch.device) -> Plan:
    """Lay batches out; with lengths this waits for the device, to read how many steps there are."""
    if lengths is None:
        return Plan(time * batch)
    lengths = lengths.to(device, torch.int64).contiguous()
    totals = lengths.sum(1).tolist()
    total, count = max(totals), sum(totals)
    flat = lengths.flatten()
    base = flat.cumsum(0) - flat
    row = torch.arange(replicas * batch, device=device).repeat_interleave(flat, output_size=count)
    step = torch.arange(count, device=device) - base[row]
    begin = torch.arange(replicas, device=device).unsqueeze(1)
    places = step * batch + (begin * (time * batch) + torch.arange(batch, device=device)).flatten()[row]
    order = lengths.argsort(dim=1, descending=True, stable=True)
    slots = None
    if count < replicas * total:
        base = (lengths.cumsum(1) - lengths + begin * total).flatten()
        slots = base[row] + step
    return Plan(total, places, row, step, lengths, order, base, slots)


# ---------------------------------------------------------------------------------------------- benchmark records

RECORDS = Path(__file__).with_name("records")
SAME = ("epilogue", "dtype", "directions", "ragged")
"""What a benchmark must share with a layer to apply to it."""
NEAR = ("batch", "time", "hidden")
"""Sizes that may differ; the nearest benchmark applies."""
FAR = 8.0
"""Doublings of these sizes, added up, beyond which a benchmark does not apply."""


def architecture(device: torch.device) -> str:
    """Return a CUDA device's architecture, such as ``sm_90``."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


@cache
def records(name: str, folder: Path = RECORDS) -> tuple[dict[str, Any], ...]:
    """Return the benchmarks recorded for an architecture."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["architecture"] == name:
            found += record["points"]
    return tuple(found)


def nearest_speed(name: str, layer: dict[str, Any], folder: Path = RECORDS) -> float | None:
    """Return the speed of a training step relative to cuDNN in the nearest benchmark.

    Args:
        name: the architecture.
        layer: ``epilogue``, ``dtype`` (a name), ``directions``, ``ragged``, ``batch``, ``time``, ``hidden``.
        folder: of the records.

    Returns:
        The ratio, or ``None`` where no benchmark of this cell, dtype and form is near.
    """
    alike = [point for point in records(name, folder) if all(point[key] == layer[key] for key in SAME)]

    def far(point: dict[str, Any]) -> float:
        return sum(abs(math.log2(max(1, point[key]) / max(1, layer[key]))) for key in NEAR)

    near = [point for point in alike if far(point) <= FAR]
    return float(min(near, key=far)["speed"]) if near else None


def recorded_speed(epilogue: str, dtype: str, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> float | None:
    """Return the :func:`nearest_speed` to one call, on the device of its input."""
    layer = {"epilogue": epilogue, "dtype": dtype, "directions": len(cells), "ragged": lengths is not None}
    layer |= {"batch": x.shape[1], "time": x.shape[0], "hidden": cells[0].hidden_size}
    return nearest_speed(architecture(x.device), layer)
