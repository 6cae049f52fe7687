"""Removal of names of people, computers and folders from a report, for an anonymous submission."""

import getpass
import re
import socket
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, final

from seqlab.study.report.reading import Collected

_PATH = re.compile(
    r"(?:file://|(?<![\w<./~])(?:~|[A-Za-z]:(?=[\\/])|(?=/)))(?:[/\\][^\s/\\'\"<>|:;,()\[\]{}]+){1,}[/\\]?"
)
_HOST = re.compile(r"(?<=its process on )\S+(?= is gone)")
"""The computer that lost a run, which need not be this one."""
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_ENTITY = re.compile(r"(?<=wandb\.entity=)[^\s'\"]+")
_COMMON = frozenset(
    {"root", "user", "users", "home", "ubuntu", "debian", "localhost", "runner", "admin", "data", "seqlab"}
)
"""Names that identify nobody."""
_HIDDEN = frozenset({"commit"})
"""Facts of the setup that are left out: a public repository is found by its commit."""


@final
class Scrubber:
    """Replacement of absolute paths, mail addresses, and the names of the user and the computer.

    Args:
        folders: of the runs; owners of files and the folder below ``home`` or ``Users`` are names, too.
    """

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        names = {Path.home().name, socket.gethostname(), socket.gethostname().partition(".")[0]}
        for read in (getpass.getuser, *(folder.owner for folder in folders)):
            try:
                names.add(read())
            except (OSError, KeyError):  # a user without a name
                continue
        for folder in folders:
            parts = folder.resolve().parts
            names |= {after for part, after in pairwise(parts) if part in ("home", "Users")}
        chosen = sorted(
            (name for name in names if len(name) > 2 and name.lower() not in _COMMON), key=len, reverse=True
        )
        self._paths: dict[str, str] = {}
        self._names = re.compile(rf"\b(?:{'|'.join(map(re.escape, chosen))})\b", re.IGNORECASE) if chosen else None

    def text(self, text: str) -> str:
        """Replace what identifies someone in a text; each path keeps a name of its own, so that settings stay apart."""
        text = _PATH.sub(self._path, _MAIL.sub("MAIL", _ENTITY.sub("NAME", _HOST.sub("NAME", text))))
        return text if self._names is None else self._names.sub("NAME", text)

    def _path(self, found: re.Match[str]) -> str:
        number = len(self._paths) + 1
        return self._paths.setdefault(found[0].rstrip("/\\"), "PATH" if number == 1 else f"PATH_{number}")

    def value(self, value: Any) -> Any:
        """Replace it in all texts of nested lists, mappings and dataclasses; keys and other objects are kept."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.value(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(self.value, value))
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{each.name: self.value(getattr(value, each.name)) for each in fields(value)})
        return value


def anonymise(found: Collected, folders: Iterable[Path]) -> Scrubber:
    """Scrub the records, faults, horizons and commands of collected runs, and return what scrubs texts of them.

    Folders are numbered; those of the runs stay, to be read.
    """
    scrubber = Scrubber(folders)
    sources = dict.fromkeys([*(run.source for run in found.runs), *(folder for folder, _ in found.horizons)])
    named = {source: Path(f"folder_{number}") for number, source in enumerate(sources, start=1)}
    found.runs = [replace(run, source=named[run.source], record=_record(run.record, scrubber)) for run in found.runs]
    anonymise_faults(found, scrubber)
    found.horizons = [(named[folder], scrubber.value(horizon)) for folder, horizon in found.horizons]
    found.commands = [scrubber.text(command) for command in found.commands]
    return scrubber


def anonymise_faults(found: Collected, scrubber: Scrubber) -> None:
    """Scrub the faults of collected runs, and name their files without folders."""
    found.faults = [
        replace(scrubber.value(fault), place=scrubber.text(Path(fault.place).name)) for fault in found.faults
    ]


def _record(record: Any, scrubber: Scrubber) -> Any:
    made = scrubber.value(record)
    made["best"] = record["best"]  # its monitor and mode decide, also where a name is that of one of them
    if isinstance(made.get("git"), dict):
        made["git"] = {key: value for key, value in made["git"].items() if key not in _HIDDEN}
    return made
