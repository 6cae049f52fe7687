"""Pretrained word vectors: text files of word2vec, GloVe and fastText, binary files of fastText and word2vec."""

import math
import mmap
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias, final

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from seqlab import UserError
from seqlab.io.safe_io import open_regular

_LONGEST_LINE, _LONGEST_HEADER = 2**20, 64
Found: TypeAlias = dict[int, Sequence[float] | NDArray[np.floating]]
"""Vectors by token id."""
_FASTTEXT, _VERSIONS, _SUPERVISED = 793_712_314, (11, 12), 3
"""First number of a fastText model file, the versions of its format that are read, and its number of supervised models.
"""


@final
class Vectors(NamedTuple):
    """Pretrained vectors of the symbols found in a file.

    Attributes:
        ids: of these symbols, ``[found]``.
        values: their vectors, ``[found, size]``.
    """

    ids: Int[Tensor, " found"]
    values: Float[Tensor, "found size"]


def read_vectors(path: str, symbols: Sequence[str], size: int) -> Vectors:
    """Read the vectors of symbols from a file of word2vec, GloVe or fastText.

    In a text file a line is a word and its numbers, separated by spaces; a first line of two integers is the header of
    word2vec and fastText (``.vec``). A file that ends in ``.bin`` is a binary file of word2vec, or a fastText model,
    where a symbol that it does not list has the mean of its character n-grams (Bojanowski et al. 2017, arXiv
    1607.04606). Words must equal a symbol exactly, including capitals; the first of several lines counts. A file is
    read piece by piece.

    Args:
        path: the file; words are in UTF-8.
        symbols: of each id; id 0, the padding, has no vector.
        size: numbers of a vector.

    Raises:
        UserError: the file cannot be read, its vectors have another size, a line is damaged, it has another number of
            words than its header says, or it has no symbol.
    """
    wanted = {symbol.encode("utf-8", "surrogatepass"): index for index, symbol in enumerate(symbols) if index}
    read = _read_binary if Path(path).suffix.lower() == ".bin" else _read_text
    found = read(path, wanted, size)
    if not found:
        raise UserError(f"model.vectors={path} has none of the {len(wanted):,} symbols of the vocabulary")
    return Vectors(torch.tensor(list(found)), torch.tensor(np.array(list(found.values())), dtype=torch.float32))


def _read_text(path: str, wanted: dict[bytes, int], size: int) -> Found:
    found: Found = {}
    count, promised = 0, None
    for number, line in _lines(path):
        if number == 1 and (header := _header(line)) is not None:
            promised = header
            continue
        if not count:
            _check_size(path, line, size)
        count += 1
        word, *numbers = line.rsplit(b" ", size)
        index = wanted.get(word)
        if index is not None and index not in found:
            found[index] = _numbers(numbers, size, f"model.vectors={path}, line {number:,}")
    if not count:
        raise UserError(f"model.vectors={path} is empty")
    if promised not in (None, count):
        raise UserError(
            f"model.vectors={path} has {count:,} words, and its first line says {promised:,}; download it again, or"
            " correct that line"
        )
    return found


def _header(line: bytes) -> int | None:
    """Return the number of words that a first line of two integers promises."""
    parts = line.split()
    return int(parts[0]) if len(parts) == 2 and all(part.isdigit() for part in parts) else None


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, and their numbers."""
    try:
        with open_regular(Path(path).expanduser()) as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
                if len(line) == _LONGEST_LINE:
                    raise UserError(f"model.vectors={path}, line {number:,} has more than {_LONGEST_LINE:,} bytes")
                stripped = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).rstrip()
                if stripped:
                    yield number, stripped
    except OSError as error:
        raise UserError(f"model.vectors={path} cannot be read: {error.strerror}") from error


def _check_size(path: str, line: bytes, size: int) -> None:
    there = len(line.split()) - 1
    if there < 1:
        raise UserError(f"model.vectors={path} is not a text file of word vectors: a line must be a word and numbers")
    _check_equal(path, there, size)


def _check_equal(path: str, there: int, size: int) -> None:
    if there != size:
        raise UserError(f"model.vectors={path} has vectors of {there} numbers; set model.embedding_size={there}")


def _numbers(numbers: Sequence[bytes], size: int, where: str) -> list[float]:
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    if len(values) != size or not all(map(math.isfinite, values)):
        raise UserError(f"{where} must be a word with {size} numbers; download the file again, or repair the line")
    return values


def _read_binary(path: str, wanted: dict[bytes, int], size: int) -> Found:
    try:
        with open_regular(Path(path).expanduser()) as file:
            if not file.peek(1):
                raise UserError(f"model.vectors={path} is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                is_fasttext = len(data) >= 8 and struct.unpack_from("<i", data)[0] == _FASTTEXT
                found = (_read_fasttext if is_fasttext else _read_word2vec)(data, path, wanted, size)
    except OSError as error:
        raise UserError(f"model.vectors={path} cannot be read: {error.strerror}") from error
    except (struct.error, ValueError, IndexError) as error:  # the file ends too early
        raise UserError(f"model.vectors={path} is damaged; download it again") from error
    for word, index in wanted.items():
        if index in found and not np.isfinite(found[index]).all():
            where = f"model.vectors={path}: the vector of {word.decode(errors='replace')!r}"
            raise UserError(f"{where} has NaN or infinity; download the file again")
    return found


def _read_word2vec(data: mmap.mmap, path: str, wanted: dict[bytes, int], size: int) -> Found:
    """Read the header ``words size``, and each word, a space and its numbers in float32."""
    header = data.readline()[:_LONGEST_HEADER].split()
    if len(header) != 2 or not all(part.isdigit() for part in header):
        raise UserError(
            f"model.vectors={path} is no binary file of fastText or word2vec; a text file must not end in .bin"
        )
    count, there = map(int, header)
    _check_equal(path, there, size)
    found: Found = {}
    position = data.tell()
    for _ in range(count):
        space = _find(data, b" ", position)
        index = wanted.get(data[position:space].lstrip(b"\n"))
        if index is not None and index not in found:
            found[index] = _row(data, space + 1, size)
        position = space + 1 + 4 * size
    if position > len(data):
        raise ValueError
    return found


def _find(data: mmap.mmap, byte: bytes, position: int) -> int:
    found = data.find(byte, position, position + _LONGEST_LINE)
    if found < 0:
        raise ValueError
    return found


def _row(data: mmap.mmap, position: int, size: int) -> NDArray[np.float32]:
    return np.frombuffer(data[position : position + 4 * size], "<f4", size).astype(np.float32)


def _read_fasttext(data: mmap.mmap, path: str, wanted: dict[bytes, int], size: int) -> Found:
    """Read a model file: options, dictionary, and the matrix of words and buckets of n-grams."""
    _, version, there, *_ = struct.unpack_from("<3i", data)
    kind, buckets, shortest, longest = struct.unpack_from("<4i", data, 8 + 4 * 7)
    if version == 11 and kind == _SUPERVISED:  # which has no n-grams of characters, whatever its options say
        longest = 0
    if version not in _VERSIONS:
        raise UserError(f"model.vectors={path} has version {version} of fastText's format; 11 and 12 can be read")
    _check_equal(path, there, size)
    entries, words, _, _, pruned = struct.unpack_from("<3i2q", data, 64)
    position, ids = 92, dict[bytes, int]()
    for entry in range(entries):
        end = _find(data, b"\0", position)
        if entry < words and data[position:end] in wanted:
            ids[data[position:end]] = entry
        position = end + 10  # count and kind
    if pruned >= 0 or data[position]:
        raise UserError(f"model.vectors={path} is quantised; use the model that it was made from")
    rows, columns = struct.unpack_from("<2q", data, position + 1)
    start = position + 17
    if columns != size or start + 4 * rows * columns > len(data):
        raise ValueError
    if rows != words + buckets:
        raise UserError(
            f"model.vectors={path} has {rows:,} rows, and its header {words:,} words and {buckets:,} buckets of"
            " n-grams, which must add up to the rows; download it again"
        )
    grams = _Ngrams(words, buckets, shortest, longest)
    found: Found = {}
    for word, index in wanted.items():
        parts = [ids[word]] if word in ids else []
        parts += [] if word == b"</s>" or (not parts and _is_special(word)) else grams.rows(word)
        if parts:
            vectors = [_row(data, start + 4 * size * part, size) for part in parts]
            found[index] = np.stack(vectors).astype(np.float64).sum(0) / len(parts)
    return found


def _is_special(word: bytes) -> bool:
    """Return whether a symbol is no text, such as ``<unk>``, so that its characters mean nothing."""
    return word.startswith(b"<") and word.endswith(b">")


@final
class _Ngrams(NamedTuple):
    """Rows of character n-grams in the matrix of a fastText model."""

    words: int
    buckets: int
    shortest: int
    longest: int

    def rows(self, word: bytes) -> list[int]:
        """Return the rows of the n-grams of ``<word>``, by fastText's hash of their bytes."""
        text = f"<{word.decode('utf-8', 'surrogatepass')}>"
        found = []
        for start in range(len(text) if self.buckets else 0):
            for length in range(max(1, self.shortest), min(self.longest, len(text) - start) + 1):
                if length > 1 or 0 < start < len(text) - 1:  # not the marks alone
                    gram = text[start : start + length].encode("utf-8", "surrogatepass")
                    found.append(self.words + _hash(gram) % self.buckets)
        return found


def _hash(data: bytes) -> int:
    """Return FNV-1a of 32 bits, with bytes extended by their sign, as fastText computes it."""
    value = 2_166_136_261
    for byte in data:
        value = ((value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16_777_619) & 0xFFFFFFFF
    return value
