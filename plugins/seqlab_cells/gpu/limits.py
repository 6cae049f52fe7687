"""What the kernels for CUDA devices can do, without importing Triton."""

import importlib.util
import os
from functools import cache

import torch
from torch import Tensor

from seqlab_cells.fused.library import Tail

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ON_CHIP = 128 * 1024
"""Bytes of W that a program can hold in registers, which are 256 KiB, and compute beside them."""
AROUND = 24 * 1024
"""Bytes of shared memory that a program takes beside W, at most: the states of a tile, on their way between layouts."""


INTERPRETED = os.environ.get("SEQLAB_TRITON_ON_CPU") == "1"
"""Whether tensors of the CPU go to the Triton kernels too: for the tests, with ``TRITON_INTERPRET=1``."""
TILE: tuple[int, int] | None = None
"""Rows and warps that a campaign tries instead of those of :func:`tile`."""


def taken(x: Tensor) -> bool:
    """Whether these kernels are those for this tensor's device."""
    return x.is_cuda or (INTERPRETED and x.device.type == "cpu")


def compute_dtype(x: Tensor, parameter: Tensor) -> torch.dtype:
    """Say in which type of number is computed: autocast's, or else the parameters'."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else parameter.dtype


def refusal(tail: Tail, hidden: int, dtype: torch.dtype, x: Tensor) -> str | None:
    """Say why a layer cannot be scanned on this device; ``None`` where it can."""
    if fault := missing():
        return fault
    if dtype not in DTYPES:
        return f"it computes in float32, bfloat16 and float16 on a GPU, not in {dtype}"
    if fault := too_large(tail, hidden, dtype):
        return fault
    if not x.is_cuda:
        return None
    if torch.version.hip:
        return "it was made for CUDA and is untested on ROCm"
    return _unfit(tail.gates * padded(hidden) ** 2 * dtype.itemsize, x.device.index or 0)


@cache
def _unfit(size: int, index: int) -> str | None:
    properties = torch.cuda.get_device_properties(index)
    if properties.major < 8:
        return f"{properties.name} has compute capability {properties.major}.{properties.minor}; it needs 8.0"
    fits = getattr(properties, "shared_memory_per_block_optin", 99 * 1024)
    if size + AROUND > fits:  # W passes through shared memory on its way into registers
        return (
            f"a program of {properties.name} has {fits // 1024} KiB of shared memory; {(size + AROUND) // 1024} needed"
        )
    return None


@cache
def missing() -> str | None:
    """Say why Triton cannot be used here at all; ``None`` where it can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install 'seqlab[gpu]', on Linux)"
    return None


def padded(hidden: int) -> int:
    """Round up as the kernels do: to a power of two, 16 at least."""
    return max(16, 1 << (hidden - 1).bit_length())


def too_large(tail: Tail, hidden: int, dtype: torch.dtype) -> str | None:
    """Say why W cannot be held on chip; ``None`` where it can."""
    size = tail.gates * padded(hidden) ** 2 * dtype.itemsize
    if size <= ON_CHIP:
        return None
    return f"hidden_size {hidden} in {dtype} means {size // 1024} KiB of W for each program; {ON_CHIP // 1024} fit"


def precision(dtype: torch.dtype) -> str:
    """Say how float32 meets float32: as ``torch.set_float32_matmul_precision`` has it, ``highest`` being IEEE."""
    return "tf32" if dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest" else "ieee"


def tile(tail: Tail, hidden: int, dtype: torch.dtype, how: str, *, back: bool) -> tuple[int, int]:
    """Choose rows and warps of a program.

    16 rows are the least that tensor cores take, and the most programs for a batch. Forward W lies in registers: as
    many warps as have 96 of each thread for it. Back it lies in shared memory, from which every warp reads all gates'
    gradients too, so that few warps are better: 8 numbers of the state a thread. IEEE float32 is not for tensor cores,
    W is in shared memory both ways, and fewer numbers a thread leave room for what is multiplied.
    ``benchmarks/gpu_resources.py`` shows what the compiler makes of that.

    Args:
        tail: the cell.
        hidden: its units.
        dtype: the type of number.
        how: what :func:`precision` says of it.
        back: whether it is the walk back.
    """
    if TILE is not None:
        return TILE
    words = tail.gates * padded(hidden) ** 2 * dtype.itemsize // 4
    if dtype == torch.float32 and how == "ieee":
        least = min(8, padded(hidden) // 8)
    else:
        least = padded(hidden) // 16 if back else -(-words // (32 * 96))
    return 16, min(16, max(4, 1 << max(0, least - 1).bit_length()))
