"""Which runs of a sweep are meant, where it is not all of them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from seqlab.training import runfolder

_VARIABLE = "SEQLAB_SELECTION"
_FILE = "selection.json"


@contextmanager
def choosing(folder: Path, names: Sequence[str] | None) -> Iterator[None]:
    """Mean these runs alone for a while, in this process and in those that it starts; ``None`` means all."""
    if names is None:
        yield
        return
    runfolder.write_json(folder / _FILE, {"runs": list(names)})
    os.environ[_VARIABLE] = str(folder / _FILE)
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
        (folder / _FILE).unlink(missing_ok=True)


def is_meant(name: str) -> bool:
    """Whether a run is among those that are meant."""
    if (path := os.environ.get(_VARIABLE)) is None or not Path(path).exists():
        return True
    return name in runfolder.read_json(Path(path))["runs"]
