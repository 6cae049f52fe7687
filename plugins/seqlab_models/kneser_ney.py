r"""N-gram counts and interpolated Kneser-Ney smoothing.

The n-grams are the nodes of a trie: the root is node 0, a node's key is ``parent * size + token``, and the sorted keys
of one order follow those of the order before. The node at position ``i`` of all keys is ``i + 1``: a child is found by
binary search, and the children of a node are adjacent. Memory grows with the n-grams, not with the text.

Both kinds of smoothing have one form, with :math:`h'` the context :math:`h` without its first token:

.. math:: P(w | h) = α(hw) + γ(h) P(w | h'),

where :math:`α(hw) = 0` and :math:`γ(h) = 1` for a context without a follower.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from seqlab import Ragged

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
CHUNK = 1 << 20
"""Positions counted at once; each takes about 50 bytes."""
FALLBACK = (0.5, 1.0, 1.5)
"""Discounts if the counts of counts give none."""


@final
class Trie:
    """N-grams of token ids by order.

    Attributes:
        size: number of token ids; id 0 is in no n-gram.
        keys: for each order, the sorted keys of its nodes.
        first: for each order, its first node.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.keys: list[Ints] = []
        self.first: list[int] = []

    def add(self, keys: Ints) -> None:
        """Add the sorted keys of the next order."""
        self.first.append(self.first[-1] + len(self.keys[-1]) if self.keys else 1)
        self.keys.append(keys)

    def children(self, order: int, parents: Ints, tokens: Ints) -> Ints:
        """Return the nodes of an order (from 1) by their parents and last tokens; -1 if missing."""
        keys, wanted = self.keys[order - 1], parents * self.size + tokens
        if not len(keys):
            return np.full_like(wanted, -1)
        places = np.searchsorted(keys, wanted)
        np.minimum(places, len(keys) - 1, out=places)
        nodes: Ints = np.where((keys[places] == wanted) & (parents >= 0), places + self.first[order - 1], -1)
        return nodes

    def parents(self, order: int) -> Ints:
        """Return the position of each node's parent among the nodes one order below."""
        return self.keys[order - 1] // self.size - (self.first[order - 2] if order > 1 else 0)

    def last_tokens(self, order: int) -> Ints:
        """Return the last token of each n-gram of an order."""
        return self.keys[order - 1] % self.size

    def suffixes(self) -> Iterator[Ints]:
        """Yield for each order from 2 the positions, one order below, of its n-grams without their first token."""
        shorter = np.zeros(len(self.keys[0]), dtype=np.int64)  # the root
        for order in range(2, len(self.keys) + 1):
            shorter = self.children(order - 1, shorter[self.parents(order)], self.last_tokens(order))
            yield shorter - self.first[order - 2]


def count(text: Ragged, size: int, order: int, reset: int | None = None) -> tuple[Trie, list[Ints]]:
    """Count the n-grams of orders 1 to ``order`` within each sequence.

    Args:
        text: token ids from 1 to ``size - 1`` of any integer type; id 0 is in no n-gram.
        size: number of token ids.
        order: the longest n-grams.
        reset: a token that resets the context: it is the first or last token of its n-grams.

    Returns:
        The n-grams, and for each order their counts. Orders longer than every sequence are empty.

    Raises:
        ValueError: an id is out of range, or there are none.
    """
    # No copy: memory-mapped files stay on the disk until they are read.
    values = text.values.detach().cpu().numpy()
    ends = text.lengths.cumsum(0).cpu().numpy()
    trie, counts = Trie(size), []
    for n in range(1, order + 1):
        chunks = range(0, len(values), CHUNK)
        keys, times = _merged(
            np.unique(_keys(trie, values, ends, start, n, reset), return_counts=True) for start in chunks
        )
        if n == 1 and not len(keys):
            raise ValueError("the training split has no tokens to count")
        trie.add(keys)
        counts.append(times)
    return trie, counts


def _keys(trie: Trie, values: NDArray[Any], ends: Ints, start: int, n: int, reset: int | None) -> Ints:
    """Return the key of each n-gram that starts in the chunk at ``start``."""
    stop = min(start + CHUNK, len(values) - n + 1)
    if stop <= start:
        return np.empty(0, dtype=np.int64)
    tokens = values[start : stop + n - 1].astype(np.int64)
    if n == 1 and not (tokens.min() >= 0 and tokens.max() < trie.size):
        raise ValueError(f"token ids must be >= 0 and <= {trie.size - 1}, got {tokens.min()} to {tokens.max()}")
    places = stop - start
    nodes = np.zeros(places, dtype=np.int64)
    for order in range(1, n):
        token = tokens[order - 1 : order - 1 + places]
        nodes = trie.children(order, nodes, token)
        if reset is not None and order > 1:
            nodes[token == reset] = -1
    last = tokens[n - 1 :]
    valid = (nodes >= 0) & (last > 0)
    if len(ends) > 1 and n > 1:
        begins = np.arange(start, stop)
        valid &= begins + n <= ends[np.searchsorted(ends, begins, side="right")]
    keys: Ints = (nodes * trie.size + last)[valid]
    return keys


def _merged(parts: Iterable[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """Add up counted chunks; each key is sorted again about as often as its table doubles."""
    tables = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))]
    for part in parts:
        tables.append(part)
        while len(tables) > 1 and len(tables[-2][0]) < 2 * len(tables[-1][0]):
            tables.append(_added(tables.pop(), tables.pop()))
    while len(tables) > 1:
        tables.append(_added(tables.pop(), tables.pop()))
    return tables[0]


def _added(one: tuple[Ints, Ints], other: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    keys, which = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
    times = np.zeros(len(keys), dtype=np.int64)
    times[which[: len(one[0])]] = one[1]
    times[which[len(one[0]) :]] += other[1]
    return keys, times


@final
@dataclass(frozen=True)
class Tables:
    """Probabilities and back-off weights.

    Attributes:
        keys: the trie's keys, all orders.
        alpha: the discounted probability of each node's last token after those before it.
        gamma: for each node below the last order, the weight of the shorter context.
        unigram: the probability of each token id without any context.
    """

    keys: Ints
    alpha: Floats
    gamma: Floats
    unigram: Floats


def discounts(counts: Ints) -> tuple[float, float, float]:
    r"""Return the discounts of counts 1, 2, and 3 or more (Chen & Goodman 1999, equation 26).

    With :math:`n_r` n-grams of count :math:`r`,

    .. math:: Y = \frac{n_1}{n_1 + 2 n_2}, \quad D_r = r - (r + 1) Y \frac{n_{r+1}}{n_r}.

    If one of :math:`n_1, …, n_4` is zero, or a discount is outside :math:`0 < D_r ≤ r`, as in small or unusual texts,
    they are :data:`FALLBACK`.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].tolist()
    if min(n) == 0:
        return FALLBACK
    y = n[0] / (n[0] + 2 * n[1])
    one, two, three = (r - (r + 1) * y * n[r] / n[r - 1] for r in (1, 2, 3))
    return (one, two, three) if 0 < one <= 1 and 0 < two <= 2 and 0 < three <= 3 else FALLBACK


def adjusted(trie: Trie, counts: list[Ints], reset: int | None = None) -> list[Ints]:
    r"""Replace the counts of all orders except the last by the number of distinct tokens before the n-gram.

    An n-gram at the start of a text, without any, counts 1. One of two or more tokens that starts with ``reset`` keeps
    its count, since the context ends there.
    """
    found = []
    for order, suffix in enumerate(trie.suffixes(), start=1):
        continuations = np.maximum(np.bincount(suffix, minlength=len(counts[order - 1])), 1)
        if reset is not None and order > 1:
            begins = _first_tokens(trie, order) == reset
            continuations = np.where(begins, counts[order - 1], continuations)
        found.append(continuations)
    return [*found, counts[-1]]


def _first_tokens(trie: Trie, order: int) -> Ints:
    places = np.arange(len(trie.keys[order - 1]))
    for shorter in range(order, 1, -1):
        places = trie.parents(shorter)[places]
    return trie.last_tokens(1)[places]


def smoothed(trie: Trie, counts: list[Ints], reset: int | None = None) -> Tables:
    r"""Interpolated Kneser-Ney with three discounts an order (Chen & Goodman 1999, section 3).

    With the counts :math:`a` of :func:`adjusted` and the discounts :math:`D` of each order,

    .. math::
        α(hw) = \frac{\max(a(hw) - D(a(hw)), 0)}{\sum_v a(hv)}, \quad
        γ(h) = \frac{\sum_v \min(D(a(hv)), a(hv))}{\sum_v a(hv)};

    tokens without a context are interpolated with the uniform distribution over all ids except the padding.
    """
    return _tables(trie, adjusted(trie, counts, reset), discounts)


def relative(trie: Trie, counts: list[Ints]) -> Tables:
    """Relative frequencies: the weight of the shorter context is 0 if the longer one has a follower."""
    return _tables(trie, counts, lambda _: (0.0, 0.0, 0.0))


def _tables(trie: Trie, counts: list[Ints], discounted: Callable[[Ints], tuple[float, float, float]]) -> Tables:
    alphas, gammas = [], []
    for order, count in enumerate(counts, start=1):
        taken = np.array([0.0, *discounted(count)])[np.minimum(count, 3)]
        alpha, gamma = _level(trie, order, count, taken)
        alphas.append(alpha)
        gammas.append(gamma)
    unigram = np.full(trie.size, gammas[0][0] / (trie.size - 1))
    unigram[0] = 0
    unigram[trie.last_tokens(1)] += alphas[0]
    return Tables(np.concatenate(trie.keys), np.concatenate(alphas), np.concatenate([*gammas[1:], []]), unigram)


def _level(trie: Trie, order: int, counts: Ints, taken: Floats) -> tuple[Floats, Floats]:
    """Return the probabilities of an order's n-grams, and the back-off weights of their contexts."""
    parents = trie.parents(order)
    contexts = len(trie.keys[order - 2]) if order > 1 else 1
    totals = np.bincount(parents, weights=counts, minlength=contexts)
    weights = np.bincount(parents, weights=taken, minlength=contexts)
    with np.errstate(invalid="ignore"):
        gamma = np.where(totals > 0, weights / totals, 1.0)
    return (counts - taken) / totals[parents], gamma
