"""Token ids as their symbols, for tasks of tensors that say what each id stands for."""

import difflib
import re
from collections.abc import Sequence

import torch

from seqlab.contracts import InputSpec, Ragged, UserError

_SHORT = 200
"""Characters of a sequence that is shown as an example."""


def symbols_of(inputs: InputSpec | None) -> tuple[str, ...] | None:
    """Give the symbols of a task's token ids, the padding's (nothing) first; ``None`` where none are known."""
    return None if inputs is None or inputs.kind != "tokens" else inputs.symbols


def spell(ids: Sequence[int], symbols: Sequence[str]) -> str:
    """Write token ids as symbols with blanks between them; padding is left out."""
    return " ".join(symbols[index] for index in ids if index)


def examples_of(inputs: Ragged, symbols: Sequence[str] | None) -> list[str]:
    """Write the first two sequences, but for those that are long: none of a sequence's symbols can be left out."""
    if symbols is None:
        return []
    rows = (inputs.values[inputs.starts[row] :][: inputs.lengths[row]] for row in range(min(2, len(inputs))))
    texts = (spell(row.tolist(), symbols) for row in rows)
    return [text for text in texts if len(text) <= _SHORT]


def read(texts: Sequence[str], symbols: Sequence[str]) -> Ragged:
    """Read texts of such symbols: the inverse of :func:`spell`.

    Blanks part symbols, and where they do not make one, punctuation does. A capital is taken for a small letter where
    no symbol has it.

    Args:
        texts: any number of them.
        symbols: by token id, the padding's first.

    Raises:
        UserError: something in a text is no symbol.
    """
    ids = {symbol: index for index, symbol in enumerate(symbols) if symbol}
    return Ragged.of([torch.tensor(_ids(text, ids), dtype=torch.int64) for text in texts])


def _ids(text: str, ids: dict[str, int]) -> list[int]:
    found: list[int] = []
    for word in text.split():
        pieces = [word] if _known(word, ids) else re.findall(r"\w+|[^\w\s]", word)
        for piece in pieces:
            index = _known(piece, ids)
            if index is None:
                raise UserError(_unknown(piece, text, ids))
            found.append(index)
    return found


def _known(word: str, ids: dict[str, int]) -> int | None:
    return ids.get(word, ids.get(word.casefold()))


def _unknown(word: str, text: str, ids: dict[str, int]) -> str:
    shown = text if len(text) <= 60 else f"{text[:60]}..."
    line = f"{word!r} in {shown!r} is none of the {len(ids)} symbols of this task"
    if close := difflib.get_close_matches(word.casefold(), ids, n=3):
        return f"{line}; near it are {', '.join(close)}"
    return f"{line}, such as {', '.join(list(ids)[:8])}"
