"""Which runs of a sweep are meant, where it is not all of them."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from seqlab.io import atomic
from seqlab.runs import run_folder

_VARIABLE = "SEQLAB_SELECTION"


@contextmanager
def selecting(folder: Path, names: Sequence[str] | None) -> Iterator[None]:
    """Mean these runs alone for a while, in this process and in those that it starts; ``None`` means all."""
    if names is None:
        yield
        return
    path = folder / f"selection-{secrets.token_hex(4)}.json"  # its own: another process may choose others meanwhile
    atomic.write_json(path, {"runs": list(names)})
    os.environ[_VARIABLE] = str(path)
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
        path.unlink(missing_ok=True)


def is_selected(name: str) -> bool:
    """Whether a run is among those that are meant."""
    if (path := os.environ.get(_VARIABLE)) is None or not Path(path).exists():
        return True
    return name in run_folder.read_json(Path(path))["runs"]
