"""Selection of some runs of a sweep, for this process and those that it starts."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra_ledger.files import read_json, write_json

_VARIABLE = "HYDRA_LEDGER_SELECTION"
"""Environment variable with the path of the selection, for processes that this one starts."""


@contextmanager
def selecting(folder: Path, names: Sequence[str] | None) -> Iterator[None]:
    """Limit a sweep to some runs, in this process and those that it starts; ``None`` means all."""
    if names is None:
        yield
        return
    path = folder / f"selection-{secrets.token_hex(4)}.json"
    write_json(path, {"runs": list(names)})
    os.environ[_VARIABLE] = str(path)
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
        path.unlink(missing_ok=True)


def is_selected(name: str) -> bool:
    """Whether a run is selected."""
    if (path := os.environ.get(_VARIABLE)) is None:
        return True
    selection = read_json(Path(path))
    return selection is None or name in selection["runs"]
