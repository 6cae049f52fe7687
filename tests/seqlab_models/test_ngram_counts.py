"""The trie holds each n-gram once, with its count."""

from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab import Ragged
from seqlab_models.ngram_counts import count

SIZE = 6
texts = st.lists(st.lists(st.integers(0, SIZE - 1), max_size=30), min_size=1, max_size=4).filter(
    lambda given: any(map(any, given))
)


def spelled(trie, order):
    """The n-grams of an order, in the order of their nodes."""
    if order == 0:
        return [()]
    shorter = spelled(trie, order - 1)
    places = trie.parents(order).tolist()
    return [(*shorter[place], token) for place, token in zip(places, trie.last_tokens(order).tolist(), strict=True)]


def grams(given, order, reset=None):
    """Those that hold no padding, and the token that begins contexts anew at their ends only."""
    found = Counter(tuple(text[i : i + order]) for text in given for i in range(len(text) - order + 1))
    return {gram: n for gram, n in found.items() if 0 not in gram and reset not in gram[1:-1]}


@given(given_texts=texts, order=st.integers(1, 6), reset=st.sampled_from([None, 2]))
def test_counts_are_those_of_a_counter(given_texts, order, reset):
    ragged = Ragged.of([torch.tensor(text, dtype=torch.int64) for text in given_texts])
    trie, counts = count(ragged, SIZE, order, reset)
    for n in range(1, order + 1):
        found = spelled(trie, n)
        assert dict(zip(found, counts[n - 1].tolist(), strict=True)) == grams(given_texts, n, reset)
        assert found == sorted(found)
    assert bool((np.diff(np.concatenate(trie.keys)) > 0).all())


@given(given_texts=texts)
def test_suffixes_lack_the_first_token(given_texts):
    trie, _ = count(Ragged.of([torch.tensor(text, dtype=torch.int64) for text in given_texts]), SIZE, 4)
    for order, places in enumerate(trie.suffixes(), start=2):
        shorter = spelled(trie, order - 1)
        assert [shorter[place] for place in places] == [gram[1:] for gram in spelled(trie, order)]
