"""Models of counted n-grams with operations whose sizes do not depend on the input, so that they can be exported.

They compute what :class:`.BagOfNgrams` and :class:`.NGram` do, on padded rows, by binary search in the same tables.
"""

from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqlab import Batch
from seqlab_models.inputs import with_history


def find(keys: Int[Tensor, " nodes"], key: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Return the index of each key in an ascending list that is not empty; -1 where it is not there."""
    wanted, end = key.flatten(), len(keys) - 1
    place = torch.zeros_like(wanted)
    for bit in reversed(range(end.bit_length())):
        further = (place + (1 << bit)).clamp(max=end)
        place = torch.where(keys.index_select(0, further) <= wanted, further, place)
    return torch.where(keys.index_select(0, place) == wanted, place, -1).view(key.shape)


def first_above(keys: Int[Tensor, " nodes"], key: Int[Tensor, " places"]) -> Int[Tensor, " places"]:
    """Return the number of keys below each key, which is the index of the first that is not."""
    place, end = torch.zeros_like(key), len(keys)
    for bit in reversed(range(end.bit_length())):
        further = (place + (1 << bit)).clamp(max=end)
        place = torch.where(keys.index_select(0, further - 1) < key, further, place)
    return place


@final
class ExportedBag(nn.Module):
    r""":class:`.BagOfNgrams` as a function of padded rows, each with at least one valid step.

    Args:
        tables: its tensors ``keys``, ``idf``, ``weight`` (times the scale) and ``bias``; and, if it has n-grams inside
            tokens, ``subwords`` (:meth:`.Subwords.padded`), ``subword_idf`` and ``subword_weight``.
        size: number of token ids.
        max_order: longest n-grams.
        sublinear: whether a count :math:`f` weighs :math:`1 + \ln f`.
    """

    keys: Tensor
    idf: Tensor
    weight: Tensor
    bias: Tensor
    subwords: Tensor
    subword_idf: Tensor
    subword_weight: Tensor

    def __init__(self, tables: dict[str, Tensor], size: int, max_order: int, sublinear: bool) -> None:
        super().__init__()
        self.size, self.max_order, self.sublinear = size, max_order, sublinear
        self.has_subwords = "subwords" in tables and tables["subwords"].numel() > 0
        for name, tensor in tables.items():
            self.register_buffer(name, tensor.detach())

    def forward(self, batch: Batch) -> tuple[Tensor, None]:
        """Return the outputs ``[batch, outputs]``."""
        outputs = self._product(self._grams(batch), self.idf, self.weight)
        if self.has_subwords:
            outputs = outputs + self._product(self._subwords(batch), self.subword_idf, self.subword_weight)
        return outputs + self.bias, None

    def _product(
        self,
        grams: Int[Tensor, "batch grams"],
        idf: Float[Tensor, " features"],
        weight: Float[Tensor, "features outputs"],
    ) -> Float[Tensor, "batch outputs"]:
        """Multiply the normalised TF-IDF of each row's n-grams, some of which are -1 for none, with the weights.

        Equal n-grams are made neighbours by sorting; the first of them carries the weight of all.
        """
        count = len(idf)
        grams = torch.where(grams < 0, count, grams).sort(dim=1).values
        is_first = torch.cat([torch.ones_like(grams[:, :1]), (grams[:, 1:] != grams[:, :-1]).long()], dim=1)
        run = is_first.cumsum(1) - 1
        times = torch.zeros_like(grams).scatter_add(1, run, torch.ones_like(grams)).gather(1, run).to(idf.dtype)
        valid = (is_first > 0) & (grams < count)
        index = grams.clamp(max=count - 1)
        weights = (1 + times.log()) if self.sublinear else times
        weights = torch.where(valid, weights * idf.index_select(0, index.flatten()).view(index.shape), 0)
        norms = weights.square().sum(1, keepdim=True).sqrt()
        weights = weights / norms.clamp(min=torch.finfo(weights.dtype).tiny)
        columns = weight.index_select(0, index.flatten()).view(*index.shape, weight.shape[1])
        return (weights.unsqueeze(1) @ columns).squeeze(1)

    def _subwords(self, batch: Batch) -> Int[Tensor, "batch grams"]:
        """Return the n-grams inside the tokens; id 0, the padding, has none."""
        ids, lengths = batch.inputs, batch.lengths
        assert lengths is not None
        valid = torch.arange(ids.shape[1], device=ids.device) < lengths.unsqueeze(1)
        tokens = torch.where(valid, ids, 0)
        found = self.subwords.index_select(0, tokens.flatten())
        return found.view(*tokens.shape, self.subwords.shape[1]).flatten(1)

    def _grams(self, batch: Batch) -> Int[Tensor, "batch grams"]:
        """Return the position in ``keys`` of the n-gram of each order at each place; -1 if it is not there."""
        ids, lengths = batch.inputs, batch.lengths
        assert lengths is not None
        rows, width = ids.shape[0], ids.shape[1] + 2
        steps, ends = torch.arange(ids.shape[1] + 1, device=ids.device), lengths.unsqueeze(1)
        tokens = nn.functional.pad(ids + 1, (0, 1))
        tokens = torch.where(steps < ends, tokens, torch.where(steps == ends, self.size + 2, 0))
        # The digits of seqlab_models.bow.mark: 0 is in no n-gram.
        digits = torch.cat([ids.new_full((rows, 1), self.size + 1), tokens], dim=1)
        digits = nn.functional.pad(digits, (0, self.max_order))
        nodes, found = torch.zeros_like(digits[:, :width]), []
        for order in range(self.max_order):
            place = find(self.keys, nodes * (self.size + 3) + digits[:, order : order + width])
            nodes = torch.where(place < 0, -1, place + 1)
            found.append(place)
        return torch.cat(found, dim=1)


@final
class ExportedNGram(nn.Module):
    """:class:`.NGram` as a function of padded rows, each from the start of a stream.

    The only size that depends on the input is the number of followers of all contexts of one order.

    Args:
        tables: its tensors ``keys``, ``alpha``, ``gamma`` and ``unigram``.
        order: longest n-grams.
        smallest: the least probability.
    """

    keys: Tensor
    alpha: Tensor
    gamma: Tensor
    unigram: Tensor

    def __init__(self, tables: dict[str, Tensor], order: int, smallest: float) -> None:
        super().__init__()
        self.order, self.smallest = order, smallest
        for name, tensor in tables.items():
            self.register_buffer(name, tensor.detach())

    def forward(self, batch: Batch) -> tuple[Tensor, None]:
        """Return the log-probabilities ``[batch, time, outputs]``."""
        rows, time = batch.inputs.shape
        size = len(self.unigram)
        contexts = self._contexts(batch)
        scale = self.unigram.new_ones(rows * time)
        terms = []
        for nodes in reversed(contexts):
            terms.append(self._followers(nodes, scale))
            weights = self.gamma.index_select(0, (nodes - 1).clamp(min=0, max=len(self.gamma) - 1))
            scale = torch.where(nodes > 0, scale * weights, scale)
        outputs = (scale.unsqueeze(1) * self.unigram).flatten()
        for index, values in reversed(terms):
            outputs = outputs.scatter_add(0, index, values)
        return outputs.clamp(min=self.smallest).log().view(rows, time, size), None

    def _contexts(self, batch: Batch) -> list[Int[Tensor, " places"]]:
        """Return the nodes of the last 1, 2, ... tokens of each step; -1 for unseen contexts."""
        time, past = batch.inputs.shape[1], max(0, self.order - 2)
        known, _ = with_history(batch, None, past)
        nodes, found = torch.zeros_like(known), []
        for order in range(self.order - 1):
            before = nodes if not order else nn.functional.pad(nodes, (1, 0), value=-1)[:, :-1]
            place = find(self.keys, before.clamp(min=0) * len(self.unigram) + known)
            nodes = torch.where((place >= 0) & (before >= 0), place + 1, -1)
            found.append(nodes[:, past : past + time].flatten())
        return found

    def _followers(
        self, nodes: Int[Tensor, " places"], scale: Float[Tensor, " places"]
    ) -> tuple[Int[Tensor, " followers"], Float[Tensor, " followers"]]:
        """Return the places in the flat outputs of the followers of all contexts, and what they add."""
        size = len(self.unigram)
        low, high = (first_above(self.keys, one * size) for one in (nodes, nodes + 1))
        counts = torch.where(nodes < 0, 0, high - low)
        starts = counts.cumsum(0) - counts
        total: Any = counts.sum().item()  # a symbol while it is traced
        torch._check(total >= 0)  # type: ignore[no-untyped-call]  # torch's own
        slots = torch.arange(total, device=nodes.device)
        # The context of a slot is the last one that starts at or before it.
        marks = torch.zeros_like(slots, dtype=torch.int64)
        marks = nn.functional.pad(marks, (0, 1)).scatter_add(0, starts, torch.ones_like(starts))
        place = marks.cumsum(0)[:-1] - 1
        child = (low - starts).index_select(0, place) + slots
        # A key without its context is a token.
        tokens = self.keys.index_select(0, child) - (nodes * size).index_select(0, place)
        return place * size + tokens, scale.index_select(0, place) * self.alpha.index_select(0, child)
