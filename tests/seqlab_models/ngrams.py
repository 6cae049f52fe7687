"""N-gram models, texts for them, and the formulas in plain Python."""

from collections import Counter, defaultdict

import torch

from seqlab import Batch, InputSpec, Ragged
from seqlab_models.ngram import NGram

SIZE = 8
EOS = 2
SYMBOLS = ("<pad>", "<unk>", "<eos>", "a", "b", "c", "d", "e")


class Oracle:
    """The formulas in plain Python, one probability at a time."""

    def __init__(self, texts, order, smoothing, reset, size=SIZE):
        self.order, self.smoothing, self.size = order, smoothing, size
        self.reset = EOS if reset else None
        self.seen = [Counter() for _ in range(order + 1)]
        for text in texts:
            for n in range(1, order + 1):
                grams = (tuple(text[i : i + n]) for i in range(len(text) - n + 1))
                self.seen[n].update(gram for gram in grams if self.reset not in gram[1:-1])
        self.before = defaultdict(set)
        for n in range(2, order + 1):
            for gram in self.seen[n]:
                self.before[gram[1:]].add(gram[0])
        self.after = defaultdict(list)
        for n in range(1, order + 1):
            for gram in self.seen[n]:
                self.after[gram[:-1]].append(gram)
        self.discounts = [None] + [self.discounts_of(n) for n in range(1, order + 1)]

    def count(self, gram):
        raw = self.seen[len(gram)][gram]
        if self.smoothing == "none" or len(gram) == self.order or (len(gram) > 1 and gram[0] == self.reset):
            return raw
        return max(1, len(self.before[gram]))

    def discounts_of(self, n):
        if self.smoothing == "none":
            return [0, 0, 0, 0]
        n1, n2, n3, n4 = (sum(self.count(gram) == r for gram in self.seen[n]) for r in (1, 2, 3, 4))
        if 0 not in (n1, n2, n3, n4):
            y = n1 / (n1 + 2 * n2)
            found = [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            if all(0 < found[r] <= r for r in (1, 2, 3)):
                return found
        return [0, 0.5, 1.0, 1.5]

    def probability(self, token, context):
        """P(token | context), the context no longer than the order allows."""
        followers = self.after[context]
        if not followers:
            return self.probability(token, context[1:])
        total = sum(self.count(gram) for gram in followers)
        taken = {gram: self.discounts[len(gram)][min(3, self.count(gram))] for gram in followers}
        gram = (*context, token)
        own = self.count(gram) - taken[gram] if gram in taken else 0
        shorter = self.probability(token, context[1:]) if context else 1 / (self.size - 1)
        return own / total + sum(taken.values()) / total * shorter


def text(seed, length, size=SIZE):
    """Tokens of uneven frequency that depend on the token before."""
    generator = torch.Generator().manual_seed(seed)
    draws = (torch.rand(length, generator=generator) ** 2 * (size - 2)).long().tolist()
    made = [1]
    for draw in draws:
        made.append(1 + (draw + (made[-1] if draw % 2 else 0)) % (size - 2))
    return made[1:]  # the last id never occurs


def ragged(texts):
    return Ragged.of([torch.tensor(text, dtype=torch.int64) for text in texts])


def ngram(texts=None, size=SIZE, **options):
    symbols = SYMBOLS if size == SIZE else None
    made = NGram(InputSpec("tokens", size, symbols), size, True, **options).double()
    if texts is not None:
        made.prepare(lambda: ragged(texts))
    return made


def batch(inputs, lengths=None):
    inputs = torch.as_tensor(inputs)
    return Batch(inputs, None if lengths is None else torch.tensor(lengths), inputs)
