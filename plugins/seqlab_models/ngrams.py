r"""N-grams of token ids, found exactly and without a Python loop over items.

The n-grams of a vocabulary are the nodes of a trie: a node's key is ``parent * radix + digit``, the root is node 0, and
the node at place ``i`` of the sorted keys is ``i + 1``. Children follow their parents, order after order, so the keys
of all orders are one sorted table that needs no pointers; an n-gram is found by one binary search for each of its
tokens. Keys stay below nodes x radix, so 64 bits hold any vocabulary without hashing.

Sequences are laid end to end as one stream of digits: ``begin, tokens..., end, gap``. A gap's digit is 0, which no
n-gram has, so that none reaches from a sequence into the next.
"""

from typing import NamedTuple, final

import torch
from jaxtyping import Int
from torch import Tensor


@final
class Stream(NamedTuple):
    """Sequences end to end.

    Attributes:
        digits: what stands at each place ``[places]``: token id + 1, a marker, or 0 for a gap.
        rows: the sequence each place belongs to ``[places]``.
    """

    digits: Int[Tensor, " places"]
    rows: Int[Tensor, " places"]


def radix(size: int) -> int:
    """Count the digits of ``size`` token ids: they, the two markers and the gap."""
    return size + 3


def stream(values: Int[Tensor, " total"], lengths: Int[Tensor, " rows"], size: int) -> Stream:
    """Set markers around sequences and gaps between them.

    Args:
        values: the token ids of all sequences, each less than ``size``.
        lengths: steps of each sequence.
        size: number of token ids.
    """
    numbers = torch.arange(len(lengths), device=lengths.device)
    widths = lengths + 3
    starts = widths.cumsum(0) - widths
    digits = values.new_zeros(len(values) + 3 * len(lengths))
    # A sequence's tokens stand behind its begin marker and the three extra places of each sequence before it.
    places = torch.arange(len(values), device=values.device) + (3 * numbers + 1).repeat_interleave(lengths)
    digits[places] = values + 1
    digits[starts] = size + 1
    digits[starts + lengths + 1] = size + 2
    return Stream(digits, numbers.repeat_interleave(widths))


def learn(
    found: Stream, size: int, max_order: int, min_count: int
) -> tuple[Int[Tensor, " nodes"], Int[Tensor, " nodes"]]:
    """Gather the n-grams of orders 1 to ``max_order`` that occur in at least ``min_count`` sequences.

    Returns:
        The sorted keys of the trie's nodes, and in how many sequences each occurs.
    """
    digits, rows = found
    nodes = torch.zeros_like(digits)
    keys, counts, known = [], [], 0
    sequences = int(rows[-1]) + 1 if len(rows) else 0
    for order in range(1, max_order + 1):
        places = len(digits) - order + 1
        digit = digits[order - 1 :]
        alive = ((nodes[:places] >= 0) & (digit > 0)).nonzero().squeeze(1)
        new, which = torch.unique(nodes[alive] * radix(size) + digit[alive], return_inverse=True)
        # Each pair of n-gram and sequence once.
        count = torch.bincount(torch.unique(which * sequences + rows[alive]) // max(1, sequences), minlength=len(new))
        kept = count >= min_count
        if not bool(kept.any()):
            break
        nodes = torch.full_like(digit, -1)
        nodes[alive] = torch.where(kept, known + kept.cumsum(0), -1)[which]
        keys.append(new[kept])
        counts.append(count[kept])
        known += len(keys[-1])
    empty = digits.new_empty(0)
    return torch.cat([empty, *keys]), torch.cat([empty, *counts])


def count(
    keys: Int[Tensor, " nodes"], given: Stream, size: int, max_order: int
) -> tuple[Int[Tensor, " entries"], Int[Tensor, " entries"], Int[Tensor, " entries"]]:
    """Count the known n-grams of each sequence.

    Args:
        keys: what :func:`learn` gathered; not empty.
        given: the sequences.
        size: number of token ids.
        max_order: the longest n-grams.

    Returns:
        For each n-gram of each sequence, ordered by sequence and then by n-gram: the sequence, the n-gram's place in
        ``keys``, and how often it occurs there.
    """
    digits, rows = given
    nodes = torch.zeros_like(digits)
    pairs = [digits.new_empty(0)]
    for order in range(1, max_order + 1):
        places = len(digits) - order + 1
        if places < 1:
            break
        key = nodes[:places] * radix(size) + digits[order - 1 :]
        place = torch.searchsorted(keys, key).clamp_(max=len(keys) - 1)
        hit = keys[place] == key
        nodes = torch.where(hit, place + 1, -1)
        pairs.append((rows[:places] * len(keys) + place)[hit])
    entries, times = torch.unique(torch.cat(pairs), return_counts=True)
    return entries // len(keys), entries % len(keys), times
