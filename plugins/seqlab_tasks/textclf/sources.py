"""Where texts come from: the bundled reviews, the NTC-SCV corpus, or one's own files."""

import hashlib
import re
import zipfile
import zlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Literal

from seqlab import cache_folder
from seqlab.io.tables import Layout, decode
from seqlab_tasks.download import fetch_files
from seqlab_tasks.textclf.documents import Documents
from seqlab_tasks.textclf.reading import read_table

NTC_SCV = "https://github.com/congnghia0609/ntc-scv/raw/master/data/"
"""Where the two archives of 50,000 Vietnamese reviews are."""

NTC_SCV_ARCHIVES = {
    "data_train.zip": "13871ed1f890ec58748f8aace9b35731a3e7e6ceb9adc5b3feb21248fcc8c73c",
    "data_test.zip": "d0173d3769492b0f42807868b18a002fc3e05531dce78c2b39b7110f7f30acb2",
}
"""sha256 of the archives."""

_MEMBER = re.compile(r"(data_train/train|data_train/test|data_test/test)/(neg|pos)/[^/]+\.txt")
_SPLITS = {"data_train/train": "train", "data_train/test": "valid", "data_test/test": "test"}


def bundled() -> Documents:
    """Read the reviews that come with seqlab."""
    file = files("seqlab_tasks.textclf") / "data" / "reviews.jsonl"
    return read_table(file, "task.source=bundled: reviews.jsonl")


def ntc_scv(
    data_dir: str | None,
    errors: Literal["strict", "replace"],
    address: str = NTC_SCV,
    archives: Mapping[str, str] = NTC_SCV_ARCHIVES,
) -> Documents:
    """Read the 50,000 reviews of NTC-SCV: 30,000 to train on, 10,000 each for validation and test.

    Args:
        data_dir: a folder with the two archives; ``None`` takes the cache's, fetched if they are not there.
        errors: what to do with bytes that are not UTF-8.
        address: where the archives are.
        archives: sha256 of each, by name.

    Raises:
        ValueError, OSError: they cannot be had; the message says what else to do.
    """
    folder = cache_folder() / "ntc-scv" if data_dir is None else Path(data_dir).expanduser()
    where = "task.source=ntc_scv" if data_dir is None else f"task.data_dir={data_dir}"
    if data_dir is None:
        _fetch(address, archives, folder)
    found = Documents(splits=[])
    for name, digest in archives.items():
        if data_dir is not None:
            _check(folder / name, where, address, digest)
        try:
            _read_archive(folder / name, where, Layout(errors=errors), found)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{where}: {name} is damaged ({type(error).__name__}); fetch it anew") from error
    return found


def _fetch(address: str, archives: Mapping[str, str], folder: Path) -> None:
    try:
        fetch_files(address, archives, folder)
    except (ValueError, OSError) as error:
        way_out = f"Put {' and '.join(archives)} into {folder}, set task.data_dir, or use task.source=bundled"
        raise type(error)(f"task.source=ntc_scv: {error}. {way_out}") from error


def _check(path: Path, where: str, address: str, digest: str) -> None:
    if not path.is_file():
        names = " and ".join(NTC_SCV_ARCHIVES)
        raise ValueError(f"{where} holds no {path.name}; for task.source=ntc_scv it must hold {names} of {address}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise ValueError(f"{where}: {path.name} is not the file of {address}: its sha256 differs. Fetch it anew")


def _read_archive(path: Path, where: str, layout: Layout, found: Documents) -> None:
    """Take every review of an archive, by class and number, so that the order is the same on every machine."""
    assert found.splits is not None
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if member := _MEMBER.fullmatch(name):
                text, _ = decode(archive.read(name), f"{where}: {path.name}, {name}", layout)
                found.texts.append(text)
                found.labels.append(member[2])
                found.splits.append(_SPLITS[member[1]])
