r"""How often each n-gram of a text occurs, in memory that grows with the n-grams and not with the text.

The n-grams are the nodes of a trie: the root is node 0, a node's key is ``parent * size + token``, and the keys of one
order stand sorted behind those of the order before. The node at place ``i`` of all keys is ``i + 1``, so that the keys
are the whole trie: a child is found by one binary search, and the children of a node are neighbours.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from seqlab import Ragged

Ints: TypeAlias = NDArray[np.int64]
CHUNK = 1 << 20
"""Places that are counted at once; each takes some 50 bytes for as long as it is worked on."""


@final
class Trie:
    """N-grams of token ids, order after order.

    Attributes:
        size: number of token ids; id 0 is in no n-gram.
        keys: for each order the sorted keys of its nodes.
        first: for each order the number of its first node.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.keys: list[Ints] = []
        self.first: list[int] = []

    def add(self, keys: Ints) -> None:
        """Add the nodes of the next order, given their sorted keys."""
        self.first.append(self.first[-1] + len(self.keys[-1]) if self.keys else 1)
        self.keys.append(keys)

    def children(self, order: int, parents: Ints, tokens: Ints) -> Ints:
        """Find nodes of an order (counted from 1) by their parents and last tokens; -1 for one that is not there."""
        keys, wanted = self.keys[order - 1], parents * self.size + tokens
        if not len(keys):
            return np.full_like(wanted, -1)
        places = np.searchsorted(keys, wanted)
        np.minimum(places, len(keys) - 1, out=places)
        nodes: Ints = np.where((keys[places] == wanted) & (parents >= 0), places + self.first[order - 1], -1)
        return nodes

    def parents(self, order: int) -> Ints:
        """Give the place of each node's parent among the nodes one order below."""
        return self.keys[order - 1] // self.size - (self.first[order - 2] if order > 1 else 0)

    def last_tokens(self, order: int) -> Ints:
        """Give the last token of each n-gram of an order."""
        return self.keys[order - 1] % self.size

    def suffixes(self) -> Iterator[Ints]:
        """For each order from 2: the places, one order below, of its n-grams without their first token."""
        shorter = np.zeros(len(self.keys[0]), dtype=np.int64)  # the root
        for order in range(2, len(self.keys) + 1):
            shorter = self.children(order - 1, shorter[self.parents(order)], self.last_tokens(order))
            yield shorter - self.first[order - 2]


def count(text: Ragged, size: int, order: int, reset: int | None = None) -> tuple[Trie, list[Ints]]:
    """Count the n-grams of orders 1 to ``order``; none reaches from a sequence into the next.

    Args:
        text: token ids from 1 to ``size - 1`` of any integer type; id 0 is in no n-gram.
        size: number of token ids.
        order: the longest n-grams.
        reset: a token at which contexts begin anew: it is the first or the last token of the n-grams that it is in.

    Returns:
        The n-grams, and for each order how often each of them occurs. Orders that no sequence is long enough for hold
        none.

    Raises:
        ValueError: an id is out of its range, or there is none.
    """
    # No copy: what is mapped into memory from a file stays there until it is read.
    values = text.values.detach().cpu().numpy()
    ends = text.lengths.cumsum(0).cpu().numpy()
    trie, counts = Trie(size), []
    for n in range(1, order + 1):
        chunks = range(0, len(values), CHUNK)
        keys, times = _merged(_distinct(_keys(trie, values, ends, start, n, reset)) for start in chunks)
        if n == 1 and not len(keys):
            raise ValueError("the training split has no tokens to count")
        trie.add(keys)
        counts.append(times)
    return trie, counts


def _keys(trie: Trie, values: NDArray[Any], ends: Ints, start: int, n: int, reset: int | None) -> Ints:
    """Give the key of each n-gram that begins in the chunk at ``start``."""
    stop = min(start + CHUNK, len(values) - n + 1)
    if stop <= start:
        return np.empty(0, dtype=np.int64)
    tokens = values[start : stop + n - 1].astype(np.int64)
    if n == 1 and not (tokens.min() >= 0 and tokens.max() < trie.size):
        raise ValueError(f"token ids are {tokens.min()} to {tokens.max()}; they must be 0 to {trie.size - 1}")
    places = stop - start
    nodes = np.zeros(places, dtype=np.int64)
    for order in range(1, n):
        token = tokens[order - 1 : order - 1 + places]
        nodes = trie.children(order, nodes, token)
        if reset is not None and order > 1:
            nodes[token == reset] = -1
    last = tokens[n - 1 :]
    alive = (nodes >= 0) & (last > 0)
    if len(ends) > 1 and n > 1:
        begins = np.arange(start, stop)
        alive &= begins + n <= ends[np.searchsorted(ends, begins, side="right")]
    keys: Ints = (nodes * trie.size + last)[alive]
    return keys


def _distinct(keys: Ints) -> tuple[Ints, Ints]:
    found, times = np.unique(keys, return_counts=True)
    return found, times.astype(np.int64)


def _merged(parts: Iterable[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """Add up counted chunks as they come; each key is sorted again about as often as its table doubles."""
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
