"""A round trip through pickle for what may be defined inside a function or a notebook."""

import io
import pickle
import sys
from typing import Any, final


def pickled_size(value: Any) -> int:
    """Count the bytes of a value's pickle."""
    file = io.BytesIO()
    _Pickler(file, []).dump(value)
    return file.tell()


def pickled(value: Any) -> Any:
    """Pickle and unpickle; a class that no import finds again is let through, as that is no fault of its instances."""
    classes: list[type] = []
    file = io.BytesIO()
    _Pickler(file, classes).dump(value)
    file.seek(0)
    return _Unpickler(file, classes).load()


@final
class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, classes: list[type]) -> None:
        super().__init__(file)
        self.classes = classes

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, type) or _can_be_imported(obj):
            return None
        self.classes.append(obj)
        return len(self.classes) - 1


@final
class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, classes: list[type]) -> None:
        super().__init__(file)
        self.classes = classes

    def persistent_load(self, pid: int) -> type:
        return self.classes[pid]


def _can_be_imported(cls: type) -> bool:
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls
