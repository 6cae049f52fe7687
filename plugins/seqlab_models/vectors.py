"""Word vectors that others have trained, from a text file."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seqlab import UserError
from seqlab.io.safe_io import open_regular

_LONGEST_LINE = 2**20


@final
class Vectors(NamedTuple):
    """The vectors of the symbols that a file knows.

    Attributes:
        ids: of these symbols, ``[found]``.
        values: their vectors, ``[found, size]``.
    """

    ids: Int[Tensor, " found"]
    values: Float[Tensor, "found size"]


def read_vectors(path: str, symbols: Sequence[str], size: int) -> Vectors:
    """Read the vectors of some symbols from a file in the text format of word2vec or GloVe.

    A line is a word and its numbers, with blanks between them; a first line of two whole numbers, as word2vec and
    fastText write it, is taken for the header. A word is a symbol's only if they are equal, capitals included; where
    it is there several times, the first counts. The file is read line by line, and other words are passed over.

    Args:
        path: the file, in UTF-8.
        symbols: what each id stands for; id 0, the padding, has no vector.
        size: numbers of a vector.

    Raises:
        UserError: the file cannot be read, its vectors have another size, a line is damaged, or it has no symbol.
    """
    wanted = {symbol.encode("utf-8", "surrogatepass"): index for index, symbol in enumerate(symbols) if index}
    found: dict[int, list[float]] = {}
    empty = True
    for number, line in _lines(path):
        if empty:
            _check_size(path, line, size)
            empty = False
        word, *numbers = line.rsplit(b" ", size)
        index = wanted.get(word)
        if index is not None and index not in found:
            found[index] = _numbers(numbers, size, f"model.vectors={path}, line {number:,}")
    if empty:
        raise UserError(f"model.vectors={path} is empty")
    if not found:
        raise UserError(f"model.vectors={path} has none of the {len(wanted):,} symbols of the vocabulary")
    return Vectors(torch.tensor(list(found)), torch.tensor(list(found.values())))


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Give the lines with words, and their numbers; a header is left out."""
    try:
        with open_regular(Path(path).expanduser()) as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
                if len(line) == _LONGEST_LINE:
                    raise UserError(f"model.vectors={path}, line {number:,} has more than {_LONGEST_LINE:,} bytes")
                stripped = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).rstrip()
                header = number == 1 and len(parts := stripped.split()) == 2 and all(part.isdigit() for part in parts)
                if stripped and not header:
                    yield number, stripped
    except OSError as error:
        raise UserError(f"model.vectors={path} cannot be read: {error.strerror}") from error


def _check_size(path: str, line: bytes, size: int) -> None:
    there = len(line.split()) - 1
    if there < 1:
        raise UserError(f"model.vectors={path} is no text file of word vectors: a line must be a word and its numbers")
    if there != size:
        raise UserError(f"model.vectors={path} has vectors of {there} numbers; set model.embedding_size={there}")


def _numbers(numbers: Sequence[bytes], size: int, where: str) -> list[float]:
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    if len(values) != size or not all(map(math.isfinite, values)):
        raise UserError(f"{where} is no word with {size} numbers; fetch the file anew, or mend that line")
    return values
