"""Input encodings of models: token ids and features to vectors, pretrained word vectors, and token history."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from seqlab import Batch, InputSpec, UserError
from seqlab.io.safe_io import open_regular
from seqlab_models.pooling import last

_LONGEST_LINE = 2**20


@final
class OneHot(nn.Module):
    """Unit vectors: id ``i`` becomes ``e_i``, in the model's dtype and on its device.

    Args:
        size: number of ids, and of features.
    """

    one: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("one", torch.ones(()), persistent=False)

    def forward(self, ids: Int[Tensor, "time batch"]) -> Float[Tensor, "time batch size"]:
        """Encode ids."""
        return self.one.new_zeros(*ids.shape, self.size).scatter_(-1, ids.unsqueeze(-1), 1)


@final
class StepEncoder(nn.Module):
    """Vectors of one size for each step: an embedding of token ids, or a linear map of features.

    Args:
        inputs: what a step is.
        size: features of a vector.
    """

    def __init__(self, inputs: InputSpec, size: int) -> None:
        super().__init__()
        tokens = inputs.kind == "tokens"
        self.encode = nn.Embedding(inputs.size, size, padding_idx=0) if tokens else nn.Linear(inputs.size, size)

    def forward(self, batch: Batch) -> Float[Tensor, "batch time size"]:
        """Encode a batch; padding becomes zero."""
        mask, steps = padding_mask(batch), batch.inputs
        if mask is not None:
            steps = steps.masked_fill(mask if steps.dim() == 2 else mask.unsqueeze(2), 0)
        x: Tensor = self.encode(steps)
        return x if mask is None else x.masked_fill(mask.unsqueeze(2), 0)


def padding_mask(batch: Batch) -> Bool[Tensor, "batch time"] | None:
    """Return which steps are padding; ``None`` if there is none."""
    if batch.lengths is None:
        return None
    return torch.arange(batch.inputs.shape[1], device=batch.inputs.device) >= batch.lengths.unsqueeze(1)


def head_inputs(features: Float[Tensor, "batch time size"], batch: Batch, per_step: bool) -> Tensor:
    """Return the features of every step, zero on padding, or of each row's last valid step (zero if it has none)."""
    mask = padding_mask(batch)
    if mask is not None:
        features = features.masked_fill(mask.unsqueeze(2), 0)
    return features if per_step else last(features.transpose(0, 1), batch.lengths, features.shape[2])


def with_history(
    batch: Batch, state: Any, size: int
) -> tuple[Int[Tensor, "batch size_and_time"], tuple[Int[Tensor, "batch size"]]]:
    """Prepend each row's last ``size`` tokens before the batch.

    Args:
        batch: token ids ``[batch, time]``; padding is ignored.
        state: what this function returned for the previous batch; ``None`` at the start.
        size: number of previous tokens.

    Returns:
        The token ids, 0 without history and in the padding; and the state: each row's last ``size`` tokens.

    Raises:
        ValueError: the state has another number of rows.
    """
    ids, lengths = batch.inputs, batch.lengths
    rows, time = ids.shape
    past = ids.new_zeros(rows, size) if state is None else state[0]
    if past.shape != (rows, size):
        raise ValueError(f"the state must be {[rows, size]} for a batch of {rows} rows, got {list(past.shape)}")
    if lengths is None:
        known = torch.cat([past, ids], dim=1)
        return known, (known[:, time:],)
    steps = torch.arange(time, device=ids.device)
    known = torch.cat([past, ids.masked_fill(steps >= lengths.unsqueeze(1), 0)], dim=1)
    last_tokens = lengths.unsqueeze(1) + torch.arange(size, device=ids.device)
    return known, (known.gather(1, last_tokens),)


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
    """Read the vectors of symbols from a file in the text format of word2vec or GloVe.

    A line is a word and its numbers, separated by spaces; a first line of two integers is the header of word2vec and
    fastText. Words must equal a symbol exactly, including capitals; the first of several lines counts. The file is read
    line by line.

    Args:
        path: the file, in UTF-8.
        symbols: of each id; id 0, the padding, has no vector.
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
    """Yield the lines with words, and their numbers, without a header."""
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
        raise UserError(f"model.vectors={path} is not a text file of word vectors: a line must be a word and numbers")
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
