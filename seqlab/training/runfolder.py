"""The run folder's format: names of its files, atomic writing, careful reading."""

import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, final

from seqlab.bounded import LARGEST_TEXT, open_regular, parse_json, read_bytes, within
from seqlab.discovery.registry import one_line
from seqlab.errors import UserError

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


def relative(path: Path) -> str:
    """Show a path as a person in the working folder would type it."""
    try:
        shown = str(path.relative_to(Path.cwd()))
    except ValueError:
        shown = str(path)
    return f"./{shown}" if shown.startswith("-") else shown  # no option of a command


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file so that a crash leaves either the old one or the new one, whole and on the disk.

    Raises:
        UserError: the disk is full, or the folder cannot be written; the old file is as it was.
    """
    with writing(path) as faults:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with _Noting(descriptor, faults) as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o666 & ~_umask())
            Path(temporary).replace(path)
            sync_folder(path.parent)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def writing(path: Path) -> Iterator[list[OSError]]:
    """Turn what the system says against writing a file into one line with its name and the way out.

    Gives a list for the system's errors that a writer hides behind one of its own, as torch does.

    Raises:
        UserError: the system said something.
    """
    faults: list[OSError] = []
    try:
        yield faults
    except Exception as error:
        fault = faults[0] if faults else error
        if not isinstance(fault, OSError):
            raise
        raise UserError(f"{relative(path)} cannot be written: {fault.strerror}; {way_out(fault)}") from error


def way_out(fault: OSError) -> str:
    """Say what helps when a file cannot be written."""
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room there, and go on with the verb resume, or a single run with ckpt_path=last"
    return "make the folder writable, or choose another (hydra.run.dir; of a sweep hydra.sweep.dir)"


@final
class _Noting(io.FileIO):
    """A file that remembers why it could not be written."""

    def __init__(self, descriptor: int, faults: list[OSError]) -> None:
        super().__init__(descriptor, "wb")
        self._faults = faults

    def write(self, data: Any) -> int:
        """Write all of it: a full disk takes a part and says nothing."""
        view, written = memoryview(data).cast("B"), 0
        try:
            while written < len(view):
                written += super().write(view[written:]) or 0
        except OSError as error:
            self._faults.append(error)
            raise
        return written


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def sync_folder(folder: Path) -> None:
    """Make a renaming in a folder last through a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write JSON: two spaces, text as it is, NaN as null.

    Raises:
        UserError: the file cannot be written, or would be too large to be read again.
    """
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if len(text) > LARGEST_TEXT // 4 and len(text.encode("utf-8")) > LARGEST_TEXT:
        most = f"{LARGEST_TEXT:,} bytes at most, as that of a vocabulary of millions of words"
        raise UserError(f"{relative(path)} would be larger than such a file may be ({most}); make it smaller")
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8."""
    write_atomically(path, lambda file: _write(file, text.encode("utf-8")))


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


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
        value = parse_json(read_bytes(within(path.parent, path)), plain=plain)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (ValueError, OSError, MemoryError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object")
    return value


def write_weights(path: Path, weights: Mapping[str, "Tensor"]) -> None:
    """Write tensors as safetensors, atomically; what two names share, such as tied weights, is written for each."""
    from safetensors.torch import save
    from torch import contiguous_format

    data = save({name: value.detach().cpu().clone(memory_format=contiguous_format) for name, value in weights.items()})
    write_atomically(path, lambda file: _write(file, data))


def read_weights(path: Path) -> dict[str, "Tensor"]:
    """Read a run's tensors, as :func:`seqlab.training.weights.read` does.

    Raises:
        UserError: the file is missing or damaged.
    """
    from seqlab.training import weights

    return weights.read(path)


def hashes(folder: Path) -> dict[str, str]:
    """Compute the SHA-256 of a run's files.

    Raises:
        UserError: one is missing.
    """
    found = {}
    for name in HASHED:
        try:
            with open_regular(within(folder, folder / name)) as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise UserError(f"{folder} is no finished run: it has no {name}") from error
    return found
