"""N-grams of characters inside tokens."""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def grams_of(symbol: str, order: int) -> list[str]:
    """Return the n-grams of ``<symbol>`` of 2 to ``order`` characters; none of padding and symbols like ``<unk>``."""
    if not symbol or (len(symbol) > 2 and symbol[0] == "<" and symbol[-1] == ">"):
        return []
    text = f"<{symbol}>"
    return [text[start : start + n] for n in range(2, order + 1) for start in range(len(text) - n + 1)]


@final
class Subwords(nn.Module):
    """Table of the n-grams of characters inside each token, and their IDF.

    Args:
        symbols: text of each token id.
        order: longest n-grams.
    """

    idf: Tensor
    items: Tensor
    counts: Tensor

    def __init__(self, symbols: Sequence[str], order: int) -> None:
        super().__init__()
        lists = [grams_of(symbol, order) for symbol in symbols]
        index = {gram: place for place, gram in enumerate(sorted({gram for grams in lists for gram in grams}))}
        items = [index[gram] for grams in lists for gram in grams]
        self.register_buffer("idf", torch.zeros(len(index)))
        # Both follow from the vocabulary.
        self.register_buffer("items", torch.tensor(items, dtype=torch.int64), persistent=False)
        self.register_buffer("counts", torch.tensor(list(map(len, lists)), dtype=torch.int64), persistent=False)

    def __len__(self) -> int:
        """Return the number of n-grams."""
        return len(self.idf)

    def prepare(self, values: Int[Tensor, " total"], lengths: Int[Tensor, " rows"], min_count: int) -> None:
        """Compute the IDF; n-grams in fewer than ``min_count`` sequences have none, and so no weight."""
        _, index, _ = self.count(values, lengths)
        found = torch.bincount(index, minlength=len(self)).double()
        idf = ((1 + len(lengths)) / (1 + found)).log() + 1
        self.idf.copy_(torch.where(found >= min_count, idf, 0))

    def count(
        self, values: Int[Tensor, " total"], lengths: Int[Tensor, " rows"]
    ) -> tuple[Int[Tensor, " entries"], Int[Tensor, " entries"], Int[Tensor, " entries"]]:
        """Count the n-grams of each of some concatenated sequences.

        Returns:
            For each n-gram of each sequence, ordered by sequence, then n-gram: the sequence, the n-gram and its count.
        """
        numbers = torch.arange(len(lengths), device=values.device).repeat_interleave(lengths)
        sizes = self.counts[values]
        begins = (self.counts.cumsum(0) - self.counts)[values]
        within = torch.arange(int(sizes.sum()), device=values.device)
        within -= (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        items = self.items[begins.repeat_interleave(sizes) + within]
        pairs = numbers.repeat_interleave(sizes) * max(1, len(self)) + items
        entries, times = torch.unique(pairs, return_counts=True)
        return entries // max(1, len(self)), entries % max(1, len(self)), times

    def padded(self) -> Int[Tensor, "ids most"]:
        """Return the n-grams of each token id, -1 where it has no more."""
        most = int(self.counts.max()) if len(self.counts) else 0
        rows = [*torch.split(self.items, self.counts.tolist()), self.items.new_zeros(most)]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)[:-1]


def normalised(
    rows: Int[Tensor, " entries"], weights: Float[Tensor, " entries"], count: int
) -> Float[Tensor, " entries"]:
    """Divide the weights of each of ``count`` rows, which are in order, by their Euclidean norm."""
    sizes = torch.bincount(rows, minlength=count)
    # A sum over segments is deterministic on every device, unlike adding at an index.
    norms = torch.segment_reduce(weights.square(), "sum", lengths=sizes, unsafe=True).sqrt()
    return weights / norms[rows].clamp(min=torch.finfo(weights.dtype).tiny)
