"""Downloads of public files, verified by their SHA-256 and cached."""

import hashlib
import logging
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from seqlab.io.safe_io import read_member

_PATIENCE = 600.0
"""Seconds to wait for another process that downloads the same files."""


def fetch_archive(url: str, members: Mapping[str, str], folder: Path, archive: str | None = None) -> Path:
    """Make sure that a folder holds the wanted files of a zip archive.

    Present files are verified, not downloaded again. With several processes, one downloads and the others wait; none
    sees a partial folder. Only the wanted files are written, under their base names.

    Args:
        url: of the archive.
        members: SHA-256 of each wanted file, by its path in the archive; base names are unique. An empty one leaves
            the check to the archive's hash.
        folder: where to put them; created if missing.
        archive: hash of the archive, such as ``md5:...``.

    Returns:
        The folder.

    Raises:
        ValueError: the archive lacks a file, or a file has another hash.
        OSError: the archive cannot be downloaded, or the folder cannot be written.
    """
    if not verified(folder, members):
        with _locked(folder, url):
            if not verified(folder, members):
                _fetch(url, members, folder, archive)
    return folder


def fetch_files(url: str, files: Mapping[str, str], folder: Path) -> Path:
    """Make sure that a folder holds files that are downloaded one by one.

    Present files are verified, not downloaded again; each is moved into place when it is complete.

    Args:
        url: the prefix of each file's URL.
        files: SHA-256 of each, by name.
        folder: where to put them; created if missing.

    Raises:
        ValueError: a file has another hash.
        OSError: a file cannot be downloaded, or the folder cannot be written.
    """
    with _locked(folder, url):
        folder.mkdir(exist_ok=True)
        for name, digest in files.items():
            if not verified(folder, {name: digest}):
                with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=folder) as work:
                    fetched = _download(f"{url}{name}", Path(work))
                    if _sha256(fetched.read_bytes()) != digest:
                        raise ValueError(f"{url}{name} has an unexpected SHA-256")
                    fetched.replace(folder / name)
    return folder


def guided(fetch: Callable[[], object], source: str, hint: str) -> None:
    """Download, and explain a failure.

    Raises:
        ValueError, OSError: the download failed; the message names the source and what to do.
    """
    try:
        fetch()
    except (ValueError, OSError) as error:
        raise type(error)(f"task.source={source}: {error}. {hint}") from error


@contextmanager
def _locked(folder: Path, url: str) -> Iterator[None]:
    """Hold the folder's lock file, and turn system errors into one line."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock"), timeout=_PATIENCE):
            yield
    except Timeout as error:
        raise OSError(
            f"another process has been downloading {url} for {_PATIENCE:.0f} s ({error.lock_file})"
        ) from error
    except OSError as error:
        if error.strerror is None:  # raised below, with a message
            raise
        raise OSError(f"{folder} cannot be written ({error.strerror}); set SEQLAB_CACHE to another folder") from error


def verified(folder: Path, members: Mapping[str, str]) -> bool:
    """Return whether a folder holds all files, unchanged."""
    try:
        found = {path: _sha256((folder / base_name(path)).read_bytes()) for path in members}
    except OSError:
        return False
    return all(digest in ("", found[path]) for path, digest in members.items())


def _fetch(url: str, members: Mapping[str, str], folder: Path, known_hash: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as work:
        archive = _download(url, Path(work), known_hash)
        fresh = Path(work) / "fresh"
        fresh.mkdir()
        _unpack(archive, members, fresh, url)
        if folder.exists():  # damaged: a rename cannot replace a folder that is not empty
            folder.rename(Path(work) / "damaged")
        fresh.rename(folder)


def _download(url: str, folder: Path, known_hash: str | None = None) -> Path:
    import pooch  # type: ignore[import-untyped]  # here, as it takes a tenth of a second

    pooch.get_logger().setLevel(logging.WARNING)
    downloader = pooch.HTTPDownloader(progressbar=False, timeout=30)
    try:
        return Path(pooch.retrieve(url, known_hash=known_hash, fname="archive", path=folder, downloader=downloader))
    except OSError as error:
        raise OSError(f"{url} cannot be downloaded ({type(error).__name__})") from error


def _unpack(archive: Path, members: Mapping[str, str], folder: Path, url: str) -> None:
    """Write the wanted files, each read and verified before it reaches the disk."""
    try:
        with zipfile.ZipFile(archive) as opened:
            for path, digest in members.items():
                data = _member(opened, path, url)
                if digest and _sha256(data) != digest:
                    raise ValueError(f"{path} in {url} has an unexpected SHA-256")
                (folder / base_name(path)).write_bytes(data)
    except KeyError as error:
        raise ValueError(f"{url} does not contain {path}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{url} is damaged, or not a zip archive ({type(error).__name__})") from error


def _member(archive: zipfile.ZipFile, path: str, url: str) -> bytes:
    try:
        return read_member(archive, path)
    except ValueError as error:
        raise ValueError(f"{path} in {url}: {error}") from error


def base_name(path: str) -> str:
    """Return the last part of a path in an archive."""
    return path.rpartition("/")[2]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
