"""Encoding of examples: texts as token ids, lengths, and symbols of token ids."""

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from seqlab.contracts import Examples, InputSpec, Preprocessor, Ragged, UserError
from seqlab.io.cache import cached_arrays, cached_json

_WORTH_KEEPING = 10**6
"""Characters from which on encoded texts are kept in the cache."""


def texts_of(examples: Examples) -> list[str]:
    """Give the texts of examples.

    Raises:
        UserError: they are tensors.
    """
    if isinstance(examples.inputs, Ragged):
        raise UserError("this task's inputs are tensors, which no preprocessing can encode; set preprocessing=null")
    return list(examples.inputs)


def encode_texts(texts: list[str], preprocessor: Preprocessor, pipeline: Any) -> Ragged:
    """Encode texts, or find them in the cache.

    Args:
        texts: to be encoded.
        preprocessor: fitted.
        pipeline: its node in the config, by which what it made is found again.
    """
    if sum(map(len, texts)) < _WORTH_KEEPING:
        return preprocessor.encode(texts)
    key = [_digest(texts), pipeline, preprocessor.state_dict()]
    found = cached_arrays("encoded", key, partial(_arrays, preprocessor, texts))
    return Ragged(torch.from_numpy(found["values"]), torch.from_numpy(found["lengths"]))


def dropped_texts(texts: list[str], preprocessor: Preprocessor, pipeline: Any) -> dict[int, str]:
    """Say which training texts the preprocessing drops and why, or find that in the cache."""
    make = partial(_reasons, preprocessor, texts)
    large = sum(map(len, texts)) >= _WORTH_KEEPING
    found = cached_json("dropped", [_digest(texts), pipeline], make, list) if large else make()
    return {int(index): str(reason) for index, reason in found}


def _reasons(preprocessor: Preprocessor, texts: list[str]) -> list[list[Any]]:
    return [[index, reason] for index, reason in preprocessor.dropped(texts).items()]


def _arrays(preprocessor: Preprocessor, texts: list[str]) -> dict[str, NDArray[Any]]:
    encoded = preprocessor.encode(texts)
    return {"values": encoded.values.numpy(), "lengths": encoded.lengths.numpy()}


def _digest(texts: list[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def truncate(inputs: Ragged, limit: int | None) -> Ragged:
    """Keep the first ``limit`` steps of each sequence; ``None`` keeps all."""
    if limit is None or not bool((inputs.lengths > limit).any()):
        return inputs
    position = torch.arange(len(inputs.values)) - inputs.starts.repeat_interleave(inputs.lengths)
    return Ragged(inputs.values[position < limit], inputs.lengths.clamp(max=limit))


def length_statistics(lengths: Tensor) -> dict[str, Any]:
    """Describe the lengths of a split: how many examples and steps, and the quantiles of the lengths."""
    quantiles = torch.quantile(lengths.double(), torch.tensor([0.0, 0.05, 0.5, 0.95, 1.0], dtype=torch.float64))
    names = ("shortest", "5 %", "median", "95 %", "longest")
    return {
        "examples": len(lengths),
        "steps": int(lengths.sum()),
        "length": {name: round(value) for name, value in zip(names, quantiles.tolist(), strict=True)},
    }


def split_lengths(inputs: Ragged, limit: int | None, unknown_id: int | None) -> dict[str, Any]:
    """Describe a split before it is cut: lengths, the share that ``limit`` cuts, the share of unknown tokens.

    Args:
        inputs: all sequences of the split, whole.
        limit: steps of a sequence that are read, at most; ``None`` reads all.
        unknown_id: the token id of what training did not show; ``None`` where there is none.
    """
    truncated = 0.0 if limit is None else (inputs.lengths > limit).float().mean().item()
    facts = length_statistics(inputs.lengths) | {"share_truncated": truncated}
    if unknown_id is not None:
        facts["share_unknown"] = (inputs.values == unknown_id).float().mean().item() if len(inputs.values) else 0.0
    return facts


def describe_lengths(statistics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Put the statistics into a line for each split."""
    lines = []
    for split, row in statistics.items():
        if "tokens" in row:
            share = f"{row['share_unknown']:.2%}"
            lines.append(f"{split}: {row['tokens']:,} tokens of {row['bytes']:,} bytes; unknown {share}")
            continue
        length = row["length"]
        line = f"{split}: {row['examples']:,} examples, {row['steps']:,} steps; length " + ", ".join(
            f"{name} {value}" for name, value in length.items()
        )
        line += f"; truncated {row['share_truncated']:.1%}"
        if "share_unknown" in row:
            line += f"; unknown {row['share_unknown']:.2%}"
        if "dropped" in row:
            line += "; dropped " + ", ".join(f"{count:,} ({reason})" for reason, count in row["dropped"].items())
        lines.append(line)
    return lines


_SHORT = 200
"""Characters of a sequence that is shown as an example."""


def symbols_of(inputs: InputSpec | None) -> tuple[str, ...] | None:
    """Give the symbols of a task's token ids, the padding's (nothing) first; ``None`` where none are known."""
    return None if inputs is None or inputs.kind != "tokens" else inputs.symbols


def format_symbols(ids: Sequence[int], symbols: Sequence[str]) -> str:
    """Write token ids as symbols with blanks between them; padding is left out."""
    return " ".join(symbols[index] for index in ids if index)


def example_symbols(inputs: Ragged, symbols: Sequence[str] | None) -> list[str]:
    """Write the first two sequences, but for those that are long: none of a sequence's symbols can be left out."""
    if symbols is None:
        return []
    rows = (inputs.values[inputs.starts[row] :][: inputs.lengths[row]] for row in range(min(2, len(inputs))))
    texts = (format_symbols(row.tolist(), symbols) for row in rows)
    return [text for text in texts if len(text) <= _SHORT]


def parse_symbols(texts: Sequence[str], symbols: Sequence[str]) -> Ragged:
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
