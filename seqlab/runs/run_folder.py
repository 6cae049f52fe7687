"""Format of the run folder: names of its files, and safe reading."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.errors import UserError, one_line
from seqlab.io.atomic import write_bytes
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
PREDICTIONS = "predictions.safetensors"
RESUME = "resume.ckpt"
BEST = "best.ckpt"
METRICS = Path("curves") / "metrics.csv"
CURRICULUM = Path("curves") / "curriculum.csv"

HASHED = (MODEL, MODEL_CARD, PREPROCESSOR)
"""Files of which ``results.json`` keeps the SHA-256."""


def read_json(path: Path, *, plain: bool = False) -> dict[str, Any]:
    """Read a JSON object of a run folder.

    Args:
        path: the file; no link may lead it out of its folder.
        plain: whether its texts must be free of control characters, because they are shown in a terminal.
    """
    if (value := find_json(path, plain=plain)) is None:
        raise UserError(f"{path.parent} is no run folder: it has no {path.name}")
    return value


def find_json(path: Path, *, plain: bool = False) -> dict[str, Any] | None:
    """Read a JSON object as :func:`read_json` does; ``None`` where there is no such file."""
    try:
        value = parse_json(read_bytes(check_within(path.parent, path)), plain=plain)
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise UserError(f"{path.parent} is no folder, so no run can be in it") from error
    except (ValueError, OSError, MemoryError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object")
    return value


def write_weights(path: Path, weights: Mapping[str, "Tensor"]) -> None:
    """Write tensors as safetensors, atomically; tied weights are written under each of their names."""
    from safetensors.torch import save
    from torch import contiguous_format

    data = save({name: value.detach().cpu().clone(memory_format=contiguous_format) for name, value in weights.items()})
    write_bytes(path, data)


def read_weights(path: Path) -> dict[str, "Tensor"]:
    """Read a run's tensors, as :func:`seqlab.io.tensors.read_tensors` does."""
    from seqlab.io import tensors

    return tensors.read_tensors(path)


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in :data:`HASHED`."""
    found = {}
    for name in HASHED:
        try:
            with open_regular(check_within(folder, folder / name)) as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise UserError(f"{folder} is no finished run: it has no {name}") from error
    return found
