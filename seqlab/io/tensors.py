"""Safe reading of tensor files: headers of safetensors, ``torch.save`` archives, a limit on allocations."""

import math
import os
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, final

from torch import Tensor, nn, strided
from torch.nn.modules import module as hooks

from seqlab.errors import UserError, one_line
from seqlab.io.safe_io import DEEPEST, check_not_sparse, check_within, open_regular, parse_json

if TYPE_CHECKING:
    from torch import Tensor  # which takes seconds to import, and most readers of run folders want no tensors


_SLACK = 2**20
"""Numbers that a model may have beyond those in its file: tables that are not saved."""
_PARTS = 20_000


@contextmanager
def allocation_limit(numbers: int, where: str) -> Iterator[None]:
    """Refuse a model that grows far larger than the weights that it is to take, as soon as it does.

    torch reserves memory for a parameter when it is made, and uses it when it is filled: by then this has looked.

    Args:
        numbers: in the file of weights.
        where: what an error begins with.

    Raises:
        UserError: the model is too large.
    """
    most, made, parts = 4 * numbers + _SLACK, 0, 0

    def weigh(_module: nn.Module, _name: str, tensor: Any) -> None:
        nonlocal made
        made += tensor.numel() if isinstance(tensor, Tensor) else 0
        if made > most:
            raise UserError(f"{where} describes a model of more than {made:,} numbers, and its weights are {numbers:,}")

    def count(_module: nn.Module, _name: str, _part: Any) -> None:
        nonlocal parts
        parts += 1
        if parts > _PARTS + numbers:
            raise UserError(f"{where} describes a model of more than {parts:,} parts, and its weights are {numbers:,}")

    handles = [
        hooks.register_module_parameter_registration_hook(weigh),
        hooks.register_module_buffer_registration_hook(weigh),
        hooks.register_module_module_registration_hook(count),
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
"""Bytes of a number of each type."""


@final
class TensorHeader(NamedTuple):
    """A tensor, as the header has it."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, TensorHeader]:
    """Read the header of a safetensors file, and hold it against the file.

    The format (safetensors 0.4, "Format"): 8 bytes with the header's length, the header in JSON, the numbers.

    Raises:
        UserError: it is none, or says of itself what is not so.
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


def _described(name: str, entry: Any) -> TensorHeader:
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
    return TensorHeader(dtype, tuple(shape), *offsets)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 2**60 for each in value)


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """Read the tensors of a run's file.

    Raises:
        UserError: it is missing, damaged, or leads out of its folder.
    """
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
        raise UserError(f"{path} cannot be read: its header was read in two ways")
    return loaded


def count_numbers(tensors: "Mapping[str, Tensor]") -> int:
    """Count the numbers of some tensors."""
    return sum(value.numel() for value in tensors.values())


_LARGEST_PAGE = 4 * 2**20
"""Bytes of the list of what is in a checkpoint: some 30,000 tensors."""
_MOST_VALUES = 2**21
_KNOWN = re.compile(
    r"collections (OrderedDict|Counter)|(builtins|__builtin__) (set|complex)|_codecs encode|torch (Size|device)|"
    r"torch [A-Z][A-Za-z0-9]*Storage|torch (bool|bfloat16|(u?int|float|complex)\d+\w*)|"
    r"torch\._utils _rebuild_(tensor_v2|parameter)|torch\.serialization _get_layout"
)
"""What a checkpoint may call. torch allows more with ``weights_only=True``: ``bytearray(10**10)`` among it."""


_UNNAMED = ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")
"""Other ways to name what is called, of protocols that torch does not write."""


def check_archive(file: BinaryIO) -> None:
    """Check that nothing in a checkpoint is packed or calls what makes much of little, and that it reads in one way.

    Raises:
        ValueError: it is no archive as torch writes it.
    """
    if not zipfile.is_zipfile(file):
        raise ValueError("it is no archive as torch.save writes it; pickles are not read")
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        size = file.seek(0, os.SEEK_END)
        if archive.comment or _directory(file, size) != archive.start_dir:
            raise ValueError("it can be read in two ways, as it has more than one directory")
        if len({entry.filename for entry in entries}) != len(entries):
            raise ValueError("a name is in it twice")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("something in it is packed, which torch.save does not do")
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("it says that more is in it than it has bytes")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                if entry.file_size > _LARGEST_PAGE:
                    raise ValueError("the list of what is in it is too long")
                _check_calls(archive.read(entry))
    file.seek(0)


def _directory(file: BinaryIO, size: int) -> int:
    """Find where an archive's last bytes say that its directory begins, as torch's reader takes them.

    Python's moves the directory, and all that it names, where bytes stand before the archive: of a file made for it,
    the two would read different lists. Layout: APPNOTE.TXT 4.3.14 to 4.3.16.
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


def _check_calls(page: bytes) -> None:
    """Look through a pickle, without running it, for what it would call."""
    for code, argument, _ in pickletools.genops(page):
        if code.name in _UNNAMED:
            raise ValueError(f"weights_only: it calls by {code.name}, which torch.save does not write")
        if code.name == "GLOBAL" and not _KNOWN.fullmatch(str(argument)):
            raise ValueError(f"weights_only: it calls {str(argument)[:80]!a}, which no checkpoint needs")


def check_values(value: Any, size: int) -> None:
    """Refuse what a file of so many bytes cannot honestly hold: few values that stand for very many.

    A list that holds another one twice, and so on sixty times, is walked through for ever; a tensor may be a view of
    one number a million times.

    Raises:
        ValueError: it holds such a thing.
    """
    numbers, seen = 0, 0
    level: list[Any] = [value]
    for _ in range(DEEPEST + 1):
        deeper: list[Any] = []
        for each in level:
            if isinstance(each, Tensor):
                numbers += each.numel() if each.layout is strided else size + _SLACK
            deeper += _inner(each)
            if seen + len(deeper) > _MOST_VALUES:
                raise ValueError("it has too many values")
        if numbers > size + _SLACK:
            raise ValueError(f"its tensors are of {numbers:,} numbers, and it has {size:,} bytes")
        if not deeper:
            return
        level, seen = deeper, seen + len(deeper)
    raise ValueError(f"it is nested more than {DEEPEST} deep")


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    return value if isinstance(value, list | tuple | set) else ()
