"""Tensors on the disk: what the header of a safetensors file says is held against the file before anything is read."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

from seqlab.bounded import open_regular, parse_json, within
from seqlab.discovery.registry import one_line
from seqlab.errors import UserError
from seqlab.solid import check_solid

if TYPE_CHECKING:
    from torch import Tensor  # which takes seconds to import, and most readers of run folders want no tensors

_LONGEST_HEADER = 8 * 2**20
"""Bytes: some 80,000 tensors."""
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8, "C64": 8,
}  # fmt: skip
"""Bytes of a number of each type."""


@final
class Described(NamedTuple):
    """A tensor, as the header has it."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def described(path: Path) -> dict[str, Described]:
    """Read the header of a safetensors file, and hold it against the file.

    The format (safetensors 0.4, "Format"): 8 bytes with the header's length, the header in JSON, the numbers.

    Raises:
        UserError: it is none, or says of itself what is not so.
    """
    try:
        with open_regular(path) as file:
            size = check_solid(file)
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _LONGEST_HEADER):
                raise ValueError(f"its header claims {length:,} bytes, of a file of {size:,}")
            header = parse_json(file.read(length))
        return _checked(header, size - 8 - length)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)[:300]}") from error


def _checked(header: Any, size: int) -> dict[str, Described]:
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    found = {name: _described(name, entry) for name, entry in header.items() if name != "__metadata__"}
    place = 0
    for name, each in sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)):
        if each.begin != place:
            raise ValueError(f"the tensor {name[:80]!a} begins at {each.begin:,}, where {place:,} is free")
        place = each.end
    if place != size:
        raise ValueError(f"its tensors take {place:,} bytes, and it has {size:,}")
    return found


def _described(name: str, entry: Any) -> Described:
    what = f"the tensor {name[:80]!a}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{what} must have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise ValueError(f"{what} is of the type {str(dtype)[:40]!a}, which is not known")
    if not _are_sizes(shape) or len(shape) > 16 or not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{what} has a shape or offsets that are none")
    if math.prod(shape) * _BYTES[dtype] != offsets[1] - offsets[0]:
        raise ValueError(f"{what} of the shape {shape} does not take {offsets[1] - offsets[0]:,} bytes")
    return Described(dtype, tuple(shape), *offsets)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 2**60 for each in value)


def read(path: Path) -> "dict[str, Tensor]":
    """Read the tensors of a run's file.

    Raises:
        UserError: it is missing, damaged, or leads out of its folder.
    """
    if not path.is_file():
        raise UserError(f"{path.parent} is no finished run: it has no {path.name}")
    within(path.parent, path)
    expected = described(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        loaded: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, RuntimeError, MemoryError, KeyError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)[:300]}") from error
    if {name: tuple(value.shape) for name, value in loaded.items()} != {n: each.shape for n, each in expected.items()}:
        raise UserError(f"{path} cannot be read: its header was read in two ways")
    return loaded


def numbers(tensors: "Mapping[str, Tensor]") -> int:
    """Count the numbers of some tensors."""
    return sum(value.numel() for value in tensors.values())
