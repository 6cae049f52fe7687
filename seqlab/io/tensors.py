"""Safe reading of tensor files: safetensors headers, ``torch.save`` archives, a limit on the size of models."""

import math
import os
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, final

from torch import Tensor, nn, strided
from torch.nn.modules import module as hooks

from seqlab.errors import UserError, one_line
from seqlab.io.safe_io import DEEPEST, check_not_sparse, check_within, open_regular, parse_json

_SLACK = 2**20
"""Elements that a model may have beyond those in its file, such as buffers that are not saved."""
_MODULES = 20_000


@contextmanager
def allocation_limit(elements: int, where: str) -> Iterator[None]:
    """Limit the size of a model that is created in the block, by the size of its weights.

    A parameter is refused when it is registered; until it is filled, its memory is reserved but not used.
    """
    made = modules = 0

    def add_tensor(_module: nn.Module, _name: str, tensor: Any) -> None:
        nonlocal made
        made += tensor.numel() if isinstance(tensor, Tensor) else 0
        if made > 4 * elements + _SLACK:
            raise UserError(f"{where} describes a model of more than {made:,} numbers; its file has {elements:,}")

    def add_module(_module: nn.Module, _name: str, _child: Any) -> None:
        nonlocal modules
        modules += 1
        if modules > _MODULES + elements:
            raise UserError(f"{where} describes a model of more than {modules:,} modules for {elements:,} numbers")

    handles = [
        hooks.register_module_parameter_registration_hook(add_tensor),
        hooks.register_module_buffer_registration_hook(add_tensor),
        hooks.register_module_module_registration_hook(add_module),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


_LONGEST_HEADER = 8 * 2**20
"""Bytes: some 80,000 tensors."""
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8, "C64": 8,
}  # fmt: skip
"""Bytes of an element."""


@final
class TensorHeader(NamedTuple):
    """Type, shape and place of a tensor in a safetensors file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, TensorHeader]:
    """Read the header of a safetensors file, and check it against the size of the file.

    The format (safetensors 0.4, "Format"): 8 bytes with the header's length, the header in JSON, the data.
    """
    try:
        with open_regular(path) as file:
            size = check_not_sparse(file)
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _LONGEST_HEADER):
                raise ValueError(f"its header claims {length:,} bytes, of a file of {size:,}")
            header = parse_json(file.read(length))
        return _checked(header, size - 8 - length)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)[:300]}") from error


def _checked(header: Any, size: int) -> dict[str, TensorHeader]:
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    found = {name: _described(name, entry) for name, entry in header.items() if name != "__metadata__"}
    place = 0
    for name, each in sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)):
        if each.begin != place:
            raise ValueError(f"the tensor {name[:80]!a} begins at {each.begin:,}, not at {place:,}")
        place = each.end
    if place != size:
        raise ValueError(f"its tensors take {place:,} bytes, and it has {size:,}")
    return found


def _described(name: str, entry: Any) -> TensorHeader:
    what = f"the tensor {name[:80]!a}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{what} must have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise ValueError(f"{what} has the unknown type {str(dtype)[:40]!a}")
    if not _are_sizes(shape) or len(shape) > 16 or not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{what} has an invalid shape or invalid offsets")
    if math.prod(shape) * _BYTES[dtype] != offsets[1] - offsets[0]:
        raise ValueError(f"{what} of the shape {shape} does not take {offsets[1] - offsets[0]:,} bytes")
    return TensorHeader(dtype, tuple(shape), *offsets)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 2**60 for each in value)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file of a run."""
    if not path.is_file():
        raise UserError(f"{path.parent} is no finished run: it has no {path.name}")
    check_within(path.parent, path)
    expected = read_header(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        loaded: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, RuntimeError, MemoryError, KeyError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)[:300]}") from error
    if {name: tuple(value.shape) for name, value in loaded.items()} != {n: each.shape for n, each in expected.items()}:
        raise UserError(f"{path} cannot be read: its header is ambiguous")
    return loaded


def count_elements(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of elements of all tensors."""
    return sum(value.numel() for value in tensors.values())


_LARGEST_PICKLE = 4 * 2**20
"""Bytes of the pickle of a checkpoint: some 30,000 tensors."""
_MOST_VALUES = 2**21
_KNOWN = re.compile(
    r"collections (OrderedDict|Counter)|(builtins|__builtin__) (set|complex)|_codecs encode|torch (Size|device)|"
    r"torch [A-Z][A-Za-z0-9]*Storage|torch (bool|bfloat16|(u?int|float|complex)\d+\w*)|"
    r"torch\._utils _rebuild_(tensor_v2|parameter)|torch\.serialization _get_layout"
)
"""Globals of a checkpoint's pickle. ``weights_only=True`` allows more, such as ``bytearray(10**10)``."""
_OTHER_GLOBALS = ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")
"""Opcodes for globals in protocols that torch does not write."""


def check_archive(file: BinaryIO) -> None:
    """Check that a checkpoint is unambiguous and uncompressed, and that its pickle calls nothing unexpected."""
    if not zipfile.is_zipfile(file):
        raise ValueError("it is not an archive of torch.save; plain pickles are refused")
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        size = file.seek(0, os.SEEK_END)
        if archive.comment or _directory(file, size) != archive.start_dir:
            raise ValueError("it is ambiguous, as it has more than one directory")
        if len({entry.filename for entry in entries}) != len(entries):
            raise ValueError("a name is in it twice")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed, which torch.save does not do")
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("its entries are larger than the file")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                if entry.file_size > _LARGEST_PICKLE:
                    raise ValueError("its pickle is too large")
                _check_calls(archive.read(entry))
    file.seek(0)


def _directory(file: BinaryIO, size: int) -> int:
    """Return the offset of an archive's directory by its last bytes, as torch's reader finds it; -1 without one.

    Python's reader shifts all offsets by the bytes before the archive, so that the two may read different directories.
    Layout: APPNOTE.TXT 4.3.14 to 4.3.16.
    """
    file.seek(size - 22)
    signature, *_, place, _ = struct.unpack("<4s4H2LH", file.read(22))
    if signature != b"PK\5\6":
        return -1
    if place != 0xFFFFFFFF or size < 42:
        return int(place)
    file.seek(size - 42)
    signature, _, place, _ = struct.unpack("<4sLQL", file.read(20))
    if signature != b"PK\6\7" or place > size - 56 - 42:
        return -1
    file.seek(place)
    end = struct.unpack("<4sQ2H2L4Q", file.read(56))
    return int(end[-1]) if end[0] == b"PK\6\6" else -1


def _check_calls(pickled: bytes) -> None:
    """Check the globals of a pickle without running it."""
    for code, argument, _ in pickletools.genops(pickled):
        if code.name in _OTHER_GLOBALS:
            raise ValueError(f"weights_only: it calls by {code.name}, which torch.save does not write")
        if code.name == "GLOBAL" and not _KNOWN.fullmatch(str(argument)):
            raise ValueError(f"weights_only: it calls {str(argument)[:80]!a}, which no checkpoint needs")


def check_values(value: Any, size: int) -> None:
    """Refuse values of a checkpoint that stand for far more than the bytes of its file.

    Lists that contain one another twice, sixty levels deep, never end; a tensor may repeat one element a million times.
    """
    elements, seen = 0, 0
    level: list[Any] = [value]
    for _ in range(DEEPEST + 1):
        deeper: list[Any] = []
        for each in level:
            if isinstance(each, Tensor):
                elements += each.numel() if each.layout is strided else size + _SLACK
            deeper += _inner(each)
            if seen + len(deeper) > _MOST_VALUES:
                raise ValueError("it has too many values")
        if elements > size + _SLACK:
            raise ValueError(f"its tensors have {elements:,} numbers, and it has {size:,} bytes")
        if not deeper:
            return
        level, seen = deeper, seen + len(deeper)
    raise ValueError(f"it is nested more than {DEEPEST} deep")


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    return value if isinstance(value, list | tuple | set) else ()
