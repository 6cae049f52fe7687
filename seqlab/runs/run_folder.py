"""Format of the run folder: names of its files, and safe reading."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from seqlab.errors import UserError, one_line
from seqlab.io.atomic import write_atomically
from seqlab.io.safe_io import check_within, open_regular, parse_json, read_bytes

if TYPE_CHECKING:
    from torch import Tensor  # which takes seconds to import, and most readers of run folders want no tensors

FORMAT = 1
"""Version of the run folder; a reader refuses a newer one."""
RESULTS_SCHEMA = 1
"""Version of ``results.json``."""

MODEL = "model.safetensors"
MODEL_CARD = "model.json"
PREPROCESSOR = "preprocessor.json"
RESULTS = "results.json"
RESUME = "resume.ckpt"
BEST = "best.ckpt"

HASHED = (MODEL, MODEL_CARD, PREPROCESSOR)
"""Files of which ``results.json`` keeps the SHA-256."""


def read_json(path: Path, *, plain: bool = False) -> dict[str, Any]:
    """Read a JSON object of a run folder.

    Args:
        path: the file; no link may lead it out of its folder.
        plain: whether its texts may have no control characters, since they are shown in a terminal.

    Raises:
        UserError: it is missing, too large, or no JSON object.
    """
    try:
        return _read_json(path, plain=plain)
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} is no run folder: it has no {path.name}") from error
    except NotADirectoryError as error:
        raise UserError(f"{path.parent} is no folder, so no run can be in it") from error


def find_json(path: Path, *, plain: bool = False) -> dict[str, Any] | None:
    """Read a JSON object of a run folder as :func:`read_json` does; ``None`` where there is no such file."""
    try:
        return _read_json(path, plain=plain)
    except FileNotFoundError:
        return None


def _read_json(path: Path, *, plain: bool) -> dict[str, Any]:
    try:
        value = parse_json(read_bytes(check_within(path.parent, path)), plain=plain)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (ValueError, OSError, MemoryError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object")
    return value


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def write_weights(path: Path, weights: Mapping[str, "Tensor"]) -> None:
    """Write tensors as safetensors, atomically; what two names share, such as tied weights, is written for each."""
    from safetensors.torch import save
    from torch import contiguous_format

    data = save({name: value.detach().cpu().clone(memory_format=contiguous_format) for name, value in weights.items()})
    write_atomically(path, lambda file: _write(file, data))


def read_weights(path: Path) -> dict[str, "Tensor"]:
    """Read a run's tensors, as :func:`seqlab.io.tensors.read_tensors` does.

    Raises:
        UserError: the file is missing or damaged.
    """
    from seqlab.io import tensors

    return tensors.read_tensors(path)


def hashes(folder: Path) -> dict[str, str]:
    """Compute the SHA-256 of a run's files.

    Raises:
        UserError: one is missing.
    """
    found = {}
    for name in HASHED:
        try:
            with open_regular(check_within(folder, folder / name)) as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise UserError(f"{folder} is no finished run: it has no {name}") from error
    return found
