"""An attack, and helpers that build one."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARK = "ran"
"""The file that a payload makes where it runs."""

PREDICT = ("predict", "run", "Satoshi")
VERIFY = ("verify", "run")
RERUN = ("rerun", "run", "--out", "again")
EXPORT = ("export", "run", "--format", "state-dict", "--out", "given")
INSPECT = ("inspect", "run", "Satoshi")
EVALUATE = ("evaluate", "run", "--data", "texts.csv")
REPORT = ("report", "run")
STATUS = ("status", "sweep")
RESUME = ("resume", "sweep")
FAST = ("task=names", "cell=gru", "cell.hidden_size=4", "model.embedding_size=4", "trainer.max_epochs=2", "kernel=loop",
        "optimizer.lr=0.02", "data.batch_size=256", "logger=none", "trainer.progress=false",
        "trainer.threads=1")  # fmt: skip
GO_ON = (*FAST, "hydra.run.dir=run", "ckpt_path=last")
BEGIN_WITH = (*FAST, "hydra.run.dir=new", "init_from=run")


@dataclass(frozen=True)
class Attack:
    """A hostile input.

    Attributes:
        name: what it attempts.
        build: writes it into a folder with ``run``, a sound run, and ``texts.csv``.
        commands: arguments of the commands that read it.
        message: regular expression that the error must match.
    """

    name: str
    build: Callable[[Path], None]
    commands: tuple[tuple[str, ...], ...]
    message: str


def changed(name: str, alter: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change a JSON file of the run; the return value of ``alter``, if any, replaces it."""

    def build(folder: Path) -> None:
        path = folder / "run" / name
        record = json.loads(path.read_text("utf-8"))
        changed = alter(record)
        path.write_text(json.dumps(record if changed is None else changed), "utf-8")

    return build


def written(name: str, data: bytes | str | Callable[[], bytes]) -> Callable[[Path], None]:
    """Write a file, of the run or beside it."""

    def build(folder: Path) -> None:
        given = data() if callable(data) else data
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(given.encode() if isinstance(given, str) else given)

    return build


def linked(name: str, to: str) -> Callable[[Path], None]:
    """Put a link into the run."""

    def build(folder: Path) -> None:
        path = folder / name
        path.unlink(missing_ok=True)
        path.symlink_to(to if to.startswith("/") else folder / to)

    return build


def at(record: Any, keys: str, value: Any) -> None:
    """Set what stands at a path of keys."""
    *path, last = keys.split(".")
    for key in path:
        record = record[key]
    record[last] = value


def setting(name: str, keys: str, value: Any) -> Callable[[Path], None]:
    """Change one value of a JSON file of the run."""
    return changed(name, lambda record: at(record, keys, value))


class Payload:
    """Makes the file :data:`MARK` when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {MARK}",)


def pickled() -> bytes:
    """A pickle that runs something."""
    return pickle.dumps({"state_dict": Payload(), "epoch": 1})
