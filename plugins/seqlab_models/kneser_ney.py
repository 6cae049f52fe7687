r"""From counts to discounted probabilities and back-off weights.

Both ways of smoothing give one form, with :math:`h'` the context :math:`h` without its first token:

.. math:: P(w | h) = α(hw) + γ(h) P(w | h'),

where :math:`α(hw) = 0` and :math:`γ(h) = 1` for a context that nothing was seen to follow.
"""

from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from seqlab_models.ngram_counts import Ints, Trie

Floats: TypeAlias = NDArray[np.float64]
FALLBACK = (0.5, 1.0, 1.5)
"""The discounts where the counts of counts give none."""


@final
@dataclass(frozen=True)
class Tables:
    """What predicts.

    Attributes:
        keys: the trie's keys, all orders.
        alpha: the discounted probability of each node's last token after those before it.
        gamma: for each node but those of the last order, the weight of the shorter context.
        unigram: the probability of each token id without any context.
    """

    keys: Ints
    alpha: Floats
    gamma: Floats
    unigram: Floats


def discounts(counts: Ints) -> tuple[float, float, float]:
    r"""Compute the discounts of counts 1, 2, and 3 or more (Chen & Goodman 1999, equation 26).

    With :math:`n_r` how many n-grams have the count :math:`r`,

    .. math:: Y = \frac{n_1}{n_1 + 2 n_2}, \quad D_r = r - (r + 1) Y \frac{n_{r+1}}{n_r}.

    Where one of :math:`n_1, …, n_4` is zero or a discount falls outside :math:`0 < D_r ≤ r`, as happens in small or
    unusual texts, all three are :data:`FALLBACK`.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].tolist()
    if min(n) == 0:
        return FALLBACK
    y = n[0] / (n[0] + 2 * n[1])
    one, two, three = (r - (r + 1) * y * n[r] / n[r - 1] for r in (1, 2, 3))
    return (one, two, three) if 0 < one <= 1 and 0 < two <= 2 and 0 < three <= 3 else FALLBACK


def adjusted(trie: Trie, counts: list[Ints], reset: int | None = None) -> list[Ints]:
    r"""Replace the counts of all orders but the last by the number of distinct tokens before the n-gram.

    An n-gram that has none, at the beginning of a text, counts 1. One of two or more tokens that begins with ``reset``
    keeps its count, since nothing is looked at before that token.
    """
    made = []
    for order, suffix in enumerate(trie.suffixes(), start=1):
        continuations = np.maximum(np.bincount(suffix, minlength=len(counts[order - 1])), 1)
        if reset is not None and order > 1:
            begins = _first_tokens(trie, order) == reset
            continuations = np.where(begins, counts[order - 1], continuations)
        made.append(continuations)
    return [*made, counts[-1]]


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

    what tokens without a context are interpolated with is uniform over all ids but the padding.
    """
    alphas, gammas = [], []
    for order, count in enumerate(adjusted(trie, counts, reset), start=1):
        taken = np.array([0.0, *discounts(count)])[np.minimum(count, 3)]
        alpha, gamma = _level(trie, order, count, taken)
        alphas.append(alpha)
        gammas.append(gamma)
    unigram = np.full(trie.size, gammas[0][0] / (trie.size - 1))
    unigram[0] = 0
    unigram[trie.last_tokens(1)] += alphas[0]
    return Tables(np.concatenate(trie.keys), np.concatenate(alphas), np.concatenate([*gammas[1:], []]), unigram)


def relative(trie: Trie, counts: list[Ints]) -> Tables:
    """Relative frequencies: the weight of the shorter context is 0 wherever the longer one has a follower."""
    levels = [_level(trie, order, count, np.zeros(len(count))) for order, count in enumerate(counts, start=1)]
    unigram = np.zeros(trie.size)
    unigram[trie.last_tokens(1)] = levels[0][0]
    gammas = [gamma for _, gamma in levels[1:]]
    return Tables(
        np.concatenate(trie.keys),
        np.concatenate([alpha for alpha, _ in levels]),
        np.concatenate([*gammas, []]),
        unigram,
    )


def _level(trie: Trie, order: int, counts: Ints, taken: Floats) -> tuple[Floats, Floats]:
    """Give the probabilities of an order's n-grams and the weights of what stands behind their contexts."""
    parents = trie.parents(order)
    contexts = len(trie.keys[order - 2]) if order > 1 else 1
    totals = np.bincount(parents, weights=counts, minlength=contexts)
    weights = np.bincount(parents, weights=taken, minlength=contexts)
    with np.errstate(invalid="ignore"):
        gamma = np.where(totals > 0, weights / totals, 1.0)
    return (counts - taken) / totals[parents], gamma
