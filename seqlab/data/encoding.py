"""Encoding of texts as token ids, and of a task's symbols."""

import difflib
import hashlib
import re
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from seqlab.contracts import Examples, InputSpec, Preprocessor, Ragged, UserError
from seqlab.io.cache import cached_arrays, cached_json

_CACHED_FROM = 10**6
"""Number of characters from which on the result of preprocessing is cached."""
_LONGEST_EXAMPLE = 200
"""Characters of a sequence of symbols that is shown as an example."""


def texts_of(examples: Examples) -> list[str]:
    """Return the texts of examples.

    Raises:
        UserError: they are tensors.
    """
    if isinstance(examples.inputs, Ragged):
        raise UserError("this task's inputs are tensors, which no preprocessing can encode; set preprocessing=null")
    return list(examples.inputs)


def encode_texts(texts: list[str], preprocessor: Preprocessor, pipeline: Any) -> Ragged:
    """Encode texts, or read them from the cache.

    Args:
        texts: any number of them.
        preprocessor: fitted.
        pipeline: its node in the config, part of the cache key.
    """
    if _characters(texts) < _CACHED_FROM:
        return preprocessor.encode(texts)

    def encode() -> dict[str, NDArray[Any]]:
        encoded = preprocessor.encode(texts)
        return {"values": encoded.values.numpy(), "lengths": encoded.lengths.numpy()}

    arrays = cached_arrays("encoded", [_digest(texts), pipeline, preprocessor.state_dict()], encode)
    return Ragged(torch.from_numpy(arrays["values"]), torch.from_numpy(arrays["lengths"]))


def dropped_texts(texts: list[str], preprocessor: Preprocessor, pipeline: Any) -> dict[int, str]:
    """Return the reason for each training text that the preprocessing drops, computed or read from the cache."""

    def find() -> list[list[Any]]:
        return [[index, reason] for index, reason in preprocessor.dropped(texts).items()]

    is_large = _characters(texts) >= _CACHED_FROM
    found = cached_json("dropped", [_digest(texts), pipeline], find, list) if is_large else find()
    return {int(index): str(reason) for index, reason in found}


def _characters(texts: list[str]) -> int:
    return sum(map(len, texts))


def _digest(texts: list[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def truncate(inputs: Ragged, limit: int | None) -> Ragged:
    """Return the first ``limit`` steps of each sequence; all for ``None``."""
    if limit is None or not bool((inputs.lengths > limit).any()):
        return inputs
    position = torch.arange(len(inputs.values)) - inputs.starts.repeat_interleave(inputs.lengths)
    return Ragged(inputs.values[position < limit], inputs.lengths.clamp(max=limit))


def symbols_of(inputs: InputSpec | None) -> tuple[str, ...] | None:
    """Return the symbols of a task's token ids, the empty one of padding first; ``None`` where none are known."""
    return None if inputs is None or inputs.kind != "tokens" else inputs.symbols


def first_sequences(inputs: Ragged, count: int, every: int = 1) -> list[Tensor]:
    """Return ``count`` sequences, or fewer if there are not as many: the first of each ``every``."""
    rows = range(0, len(inputs), every)[:count]
    return [inputs.values[inputs.starts[row] :][: inputs.lengths[row]] for row in rows]


def format_symbols(ids: Sequence[int], symbols: Sequence[str]) -> str:
    """Join the symbols of token ids with spaces, without padding."""
    return " ".join(symbols[index] for index in ids if index)


def example_symbols(inputs: Ragged, symbols: Sequence[str] | None) -> list[str]:
    """Format the first two sequences, unless they are long: a part of a sequence is no example of a task of symbols."""
    if symbols is None:
        return []
    texts = [format_symbols(ids.tolist(), symbols) for ids in first_sequences(inputs, 2)]
    return [text for text in texts if len(text) <= _LONGEST_EXAMPLE]


def parse_symbols(texts: Sequence[str], symbols: Sequence[str]) -> Ragged:
    """Encode texts of symbols: the inverse of :func:`format_symbols`.

    Spaces separate symbols; a word that is no symbol is split at punctuation. A capital stands for the lower-case
    letter where no symbol has the capital.

    Args:
        texts: any number of them.
        symbols: by token id, that of padding first.

    Raises:
        UserError: a word of a text is no symbol.
    """
    ids = {symbol: index for index, symbol in enumerate(symbols) if symbol}
    return Ragged.of([torch.tensor(_parse(text, ids), dtype=torch.int64) for text in texts])


def _parse(text: str, ids: dict[str, int]) -> list[int]:
    found: list[int] = []
    for word in text.split():
        pieces = [word] if _lookup(word, ids) else re.findall(r"\w+|[^\w\s]", word)
        for piece in pieces:
            index = _lookup(piece, ids)
            if index is None:
                raise UserError(_unknown_symbol(piece, text, ids))
            found.append(index)
    return found


def _lookup(word: str, ids: dict[str, int]) -> int | None:
    return ids.get(word, ids.get(word.casefold()))


def _unknown_symbol(word: str, text: str, ids: dict[str, int]) -> str:
    shortened = text if len(text) <= 60 else f"{text[:60]}..."
    line = f"{word!r} in {shortened!r} is none of the {len(ids)} symbols of this task"
    if close := difflib.get_close_matches(word.casefold(), ids, n=3):
        return f"{line}; did you mean {', '.join(close)}?"
    return f"{line}, such as {', '.join(list(ids)[:8])}"
