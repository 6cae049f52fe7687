"""Files out of public archives: fetched once, known by their sha256."""

import hashlib
import logging
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from seqlab.io.safe_io import read_member

_PATIENCE = 600.0
"""Seconds to wait for another process that is fetching the same files."""


def fetch_archive(address: str, members: Mapping[str, str], folder: Path, archive: str | None = None) -> Path:
    """Make sure that a folder holds the wanted files of a zip archive.

    Files that are there are verified, not fetched again. Several processes may ask at once: one fetches, the others
    wait, and none ever sees half a folder. Nothing of the archive is written but the wanted files, under their own
    base names.

    Args:
        address: of the archive.
        members: sha256 of each wanted file, by its path in the archive; base names are unique. An empty one leaves
            the file to the archive's.
        folder: where they go; it is made.
        archive: hash of the archive, such as ``md5:...``.

    Returns:
        The folder.

    Raises:
        ValueError: the archive lacks a file, or a file is not the one that is wanted.
        OSError: the archive cannot be reached, or the folder cannot be written.
    """
    if verified(folder, members):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock"), timeout=_PATIENCE):
            if not verified(folder, members):
                _fetch(address, members, folder, archive)
    except Timeout as error:
        raise OSError(
            f"another process has been fetching {address} for {_PATIENCE:.0f} s ({error.lock_file})"
        ) from error
    except OSError as error:
        if error.strerror is None:  # told already, below
            raise
        raise OSError(f"{folder} cannot be written ({error.strerror}); set SEQLAB_CACHE to another folder") from error
    return folder


def fetch_files(address: str, files: Mapping[str, str], folder: Path) -> Path:
    """Make sure that a folder holds files, each of which has an address of its own.

    Files that are there are verified, not fetched again; each appears whole, and several processes may ask at once.

    Args:
        address: what stands before each file's name.
        files: sha256 of each, by name.
        folder: where they go; it is made.

    Raises:
        ValueError: a file is not the one that is wanted.
        OSError: the address cannot be reached, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock"), timeout=_PATIENCE):
            for name, digest in files.items():
                if not verified(folder, {name: digest}):
                    with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=folder) as work:
                        fetched = _download(f"{address}{name}", Path(work))
                        if _sha256(fetched.read_bytes()) != digest:
                            raise ValueError(f"{address}{name} is not the file that was wanted: its sha256 differs")
                        fetched.replace(folder / name)
    except OSError as error:
        if error.strerror is None:  # told already, below
            raise
        raise OSError(f"{folder} cannot be written ({error.strerror}); set SEQLAB_CACHE to another folder") from error
    return folder


def verified(folder: Path, members: Mapping[str, str]) -> bool:
    """Say whether a folder holds all files, unchanged."""
    try:
        found = {path: _sha256((folder / _base(path)).read_bytes()) for path in members}
    except OSError:
        return False
    return all(digest in ("", found[path]) for path, digest in members.items())


def _fetch(address: str, members: Mapping[str, str], folder: Path, known_hash: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as work:
        archive = _download(address, Path(work), known_hash)
        fresh = Path(work) / "fresh"
        fresh.mkdir()
        _unpack(archive, members, fresh, address)
        if folder.exists():  # damaged: a rename cannot replace a folder that is not empty
            folder.rename(Path(work) / "damaged")
        fresh.rename(folder)


def _download(address: str, folder: Path, known_hash: str | None = None) -> Path:
    import pooch  # type: ignore[import-untyped]  # here, as it takes a tenth of a second

    pooch.get_logger().setLevel(logging.WARNING)
    downloader = pooch.HTTPDownloader(progressbar=False, timeout=30)
    try:
        return Path(pooch.retrieve(address, known_hash=known_hash, fname="archive", path=folder, downloader=downloader))
    except OSError as error:
        raise OSError(f"{address} cannot be fetched ({type(error).__name__})") from error


def _unpack(archive: Path, members: Mapping[str, str], folder: Path, address: str) -> None:
    """Write the wanted files, each read and checked before it reaches the disk."""
    try:
        with zipfile.ZipFile(archive) as opened:
            for path, digest in members.items():
                data = _member(opened, path, address)
                if digest and _sha256(data) != digest:
                    raise ValueError(f"{path} in {address} is not the file that was wanted: its sha256 differs")
                (folder / _base(path)).write_bytes(data)
    except KeyError as error:
        raise ValueError(f"{address} does not hold {path}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{address} is damaged, or no zip archive ({type(error).__name__})") from error


def _member(archive: zipfile.ZipFile, path: str, address: str) -> bytes:
    try:
        return read_member(archive, path)
    except ValueError as error:
        raise ValueError(f"{path} in {address}: {error}") from error


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
