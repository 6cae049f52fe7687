"""The n-gram model against formulas in plain Python, published figures, and other divisions into windows and chunks."""

import math
import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seqlab import Batch, InputSpec, Ragged
from seqlab_models import kneser_ney
from seqlab_models.kneser_ney import count
from seqlab_models.ngram import TINY, NGram

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


orders = st.integers(1, 6)
smoothings = st.sampled_from(["kneser-ney", "none"])
resets = st.sampled_from(["", "<eos>"])


@given(
    seed=st.integers(0, 2**32),
    lengths=st.lists(st.integers(0, 120), min_size=1, max_size=3).filter(any),
    order=orders,
    smoothing=smoothings,
    reset=resets,
)
def test_the_probabilities_of_the_formulas(seed, lengths, order, smoothing, reset):
    """Every probability after every context of a text that was not counted, from its first token on."""
    texts = [text(seed + i, length) for i, length in enumerate(lengths)]
    oracle = Oracle(texts, order, smoothing, reset)
    model = ngram(texts, order=order, smoothing=smoothing, reset=reset)
    fresh = [*text(seed + 9, 20), SIZE - 1, *text(seed + 10, 9)]
    outputs, _ = model(batch([fresh]))
    found = outputs[0].exp()
    contexts = [tuple(fresh[: t + 1][-(order - 1) :]) if order > 1 else () for t in range(len(fresh))]
    expected = [[0.0] + [oracle.probability(w, context) for w in range(1, SIZE)] for context in contexts]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-30)
    torch.testing.assert_close(found.sum(1), torch.ones(len(fresh)).double(), rtol=0, atol=1e-9)
    assert bool(outputs.isfinite().all())


def test_discounts_by_hand():
    """n1 to n4 are 4, 2, 1, 1: Y = 4/8, and 1 - 2 Y 2/4, 2 - 3 Y 1/2, 3 - 4 Y 1/1."""
    counts = torch.tensor([1, 1, 1, 1, 2, 2, 3, 4, 9]).numpy()
    assert kneser_ney.discounts(counts) == (0.5, 1.25, 1.0)


@pytest.mark.parametrize("counts", [[], [1, 1, 2, 3], [7, 8], [1] * 9 + [2, 3, 3, 3, 4], [1, 1, 2, 2, 3, 4, 4, 4, 4]])
def test_discounts_that_the_counts_do_not_give(counts):
    """A count of counts is zero, or a discount would be negative."""
    assert kneser_ney.discounts(torch.tensor(counts, dtype=torch.int64).numpy()) == (0.5, 1.0, 1.5)


def test_relative_frequencies_by_hand():
    """After 3 came 4 twice and 5 once; ``5 5`` was never seen, and after 5 came 3; 7 was never seen."""
    model = ngram([[3, 4, 3, 5, 3, 4]], order=3, smoothing="none")
    after_3, after_3_5, after_5_5, after_7 = model(batch([[3, 5, 5, 7]]))[0][0].exp()
    torch.testing.assert_close(after_3, torch.tensor([0, 0, 0, 0, 2, 1, 0, 0]).double() / 3)
    torch.testing.assert_close(after_3_5, torch.tensor([0, 0, 0, 1, 0, 0, 0, 0]).double())
    torch.testing.assert_close(after_5_5, after_3_5)
    torch.testing.assert_close(after_7, torch.tensor([0, 0, 0, 3, 2, 1, 0, 0]).double() / 6)


def test_a_follower_is_needed():
    """The text ends in ``3 5``, so that nothing follows; the shorter context ``5`` has followers."""
    model = ngram([[5, 4, 3, 5]], order=3, smoothing="none")
    assert model(batch([[3, 5]]))[0][0, 1].exp()[4] == 1


@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    rows=st.integers(1, 3),
    order=orders,
    smoothing=smoothings,
)
def test_windows_do_not_matter(seed, sizes, rows, order, smoothing):
    model = ngram([text(seed, 200)], order=order, smoothing=smoothing)
    stream = torch.tensor([text(seed + 1 + row, sum(sizes)) for row in range(rows)])
    whole, end = model(batch(stream))
    parts, state = [], None
    for part in stream.split(sizes, dim=1):
        outputs, state = model(batch(part), state)
        parts.append(outputs)
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert torch.equal(state[0], end[0])
    assert state[0].shape == (rows, model.state_size())
    for row in range(rows):
        assert torch.equal(model(batch(stream[row : row + 1]))[0][0], whole[row])


@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), order=orders)
def test_padding_is_ignored(lengths, order):
    """Rows that end early go on where they ended, whatever stood in their padding."""
    model = ngram([text(0, 200)], order=order)
    first = torch.tensor([text(row, 6) for row in range(len(lengths))])
    more = torch.tensor([text(row + 50, 5) for row in range(len(lengths))])
    outputs, state = model(batch(first, lengths))
    after, _ = model(batch(more), state)
    assert bool(outputs.isfinite().all())
    for row, length in enumerate(lengths):
        alone, _ = model(batch(torch.cat([first[row, :length], more[row]]).unsqueeze(0)))
        assert torch.equal(outputs[row, :length], alone[0, :length])
        assert torch.equal(after[row], alone[0, length:])


@given(order=orders, smoothing=smoothings)
def test_a_fresh_model_loads_the_tables(order, smoothing):
    texts = [text(1, 300), text(2, 40)]
    counted = ngram(texts, order=order, smoothing=smoothing)
    stream = batch([text(3, 50)])
    for fresh in (ngram(order=order, smoothing=smoothing), ngram([text(4, 20)], order=order, smoothing=smoothing)):
        fresh.load_state_dict(counted.state_dict())
        assert torch.equal(fresh(stream)[0], counted(stream)[0])
    wrapped = nn.ModuleDict({"model": ngram(order=order, smoothing=smoothing)})
    wrapped.load_state_dict({f"model.{name}": tensor for name, tensor in counted.state_dict().items()})
    assert torch.equal(wrapped["model"](stream)[0], counted(stream)[0])
    assert list(counted.parameters()) == []


@given(chunk=st.integers(1, 40), order=orders, reset=resets)
def test_chunks_do_not_matter(chunk, order, reset):
    """N-grams that reach from a chunk into the next are counted once."""
    texts = [text(1, 150), text(2, 1), [], text(3, 30)]
    whole = ngram(texts, order=order, reset=reset).state_dict()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kneser_ney, "CHUNK", chunk)
        parts = ngram(texts, order=order, reset=reset).state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32])
def test_any_integers_and_a_file(dtype, tmp_path):
    """A text as small integers, mapped into memory from a file."""
    tokens = text(1, 500)
    expected = ngram([tokens]).state_dict()
    file = tmp_path / "tokens"
    file.write_bytes(torch.tensor(tokens).to(dtype).numpy().tobytes())
    mapped = torch.from_file(str(file), size=len(tokens), dtype=dtype)
    model = ngram()
    model.prepare(lambda: Ragged(mapped, torch.tensor([len(tokens)])))
    assert all(torch.equal(expected[name], table) for name, table in model.state_dict().items())


def test_padding_in_the_text_is_a_gap():
    gap = ngram([[3, 4, 5, 0, 4, 3]]).state_dict()
    apart = ngram([[3, 4, 5], [4, 3]]).state_dict()
    assert all(torch.equal(apart[name], table) for name, table in gap.items())


def test_single_precision_is_near():
    texts, stream = [text(1, 400)], batch([text(2, 100)])
    single = NGram(InputSpec("tokens", SIZE), SIZE, True)
    single.prepare(lambda: ragged(texts))
    outputs, _ = single(stream)
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs[..., 1:].double(), ngram(texts)(stream)[0][..., 1:], rtol=1e-5, atol=1e-5)
    assert outputs[0, 0, 0] == pytest.approx(math.log(TINY))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("keys", lambda keys: keys.flip(0), "keys must be an ascending list of torch.int64, got torch.int64"),
        ("keys", lambda keys: keys.double(), "keys must be an ascending list of torch.int64, got torch.float64"),
        ("keys", lambda keys: keys[:0], "keys must be an ascending list of torch.int64, got torch.int64 [0]"),
        ("keys", lambda keys: keys[:-1], "alpha must have the shape"),
        ("alpha", lambda alpha: alpha.long(), "alpha must be floating point, got torch.int64"),
        ("gamma", lambda gamma: gamma[:2], "gamma must have the shape"),
        ("unigram", lambda unigram: unigram[1:], "unigram must have the shape [8], got [7]"),
    ],
)
def test_tables_that_do_not_fit(name, change, message):
    state = ngram([text(1, 50)]).state_dict()
    with pytest.raises(ValueError, match=name if name != "keys" else "keys|alpha") as caught:
        ngram().load_state_dict({**state, name: change(state[name])})
    assert str(caught.value).startswith(message)


def test_tables_with_a_gap():
    state = ngram([text(1, 50)]).state_dict()
    del state["gamma"]
    with pytest.raises(RuntimeError, match="gamma"):
        ngram().load_state_dict(state)


def test_needs_preparation():
    with pytest.raises(ValueError, match="until prepare or load_state_dict has run"):
        ngram()(batch([[1]]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "no tokens to count"),
        ([0, 0], "no tokens to count"),
        ([1, SIZE], "token ids must be >= 0 and <= 7, got 1 to 8"),
    ],
)
def test_texts_that_cannot_be_counted(values, message):
    with pytest.raises(ValueError, match=message):
        ngram([values])


def test_state_of_another_batch():
    model = ngram([text(1, 50)], order=4)
    _, state = model(batch([[3, 4], [4, 5]]))
    with pytest.raises(ValueError, match=r"the state must be \[1, 2\] .*, got \[2, 2\]"):
        model(batch([[3, 4]]), state)
    model.carries_state = False
    assert model(batch([[3, 4]]))[1] is None


IDS = 6
texts = st.lists(st.lists(st.integers(0, IDS - 1), max_size=30), min_size=1, max_size=4).filter(
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
    trie, counts = count(ragged, IDS, order, reset)
    for n in range(1, order + 1):
        found = spelled(trie, n)
        assert dict(zip(found, counts[n - 1].tolist(), strict=True)) == grams(given_texts, n, reset)
        assert found == sorted(found)
    assert bool((np.diff(np.concatenate(trie.keys)) > 0).all())


@given(given_texts=texts)
def test_suffixes_lack_the_first_token(given_texts):
    trie, _ = count(Ragged.of([torch.tensor(text, dtype=torch.int64) for text in given_texts]), IDS, 4)
    for order, places in enumerate(trie.suffixes(), start=2):
        shorter = spelled(trie, order - 1)
        assert [shorter[place] for place in places] == [gram[1:] for gram in spelled(trie, order)]


@pytest.fixture(scope="module")
def data():
    if "SEQLAB_DATA" not in os.environ:
        pytest.skip("SEQLAB_DATA names no folder of real data")
    return Path(os.environ["SEQLAB_DATA"])


def bits(train, test, size, before=None, symbols=None, **options):
    """Bits per token of a test text, of which ``before`` is the token before the first, read in windows."""
    model = NGram(InputSpec("tokens", size, symbols), size, True, **options)
    model.prepare(lambda: Ragged(train, torch.tensor([len(train)])))
    total, state = 0.0, None
    for window in torch.cat([torch.tensor([before]), test]).unfold(0, 2, 1).split(500):
        outputs, state = model(batch(window[:, :1].t()), state)
        total += nn.functional.cross_entropy(outputs[0], window[:, 1], reduction="sum").item()
    return total / len(test) / math.log(2)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("reset", "known"), [("", 141.2), pytest.param("<eos>", 141.2, marks=pytest.mark.long)])
def test_penn_treebank(data, reset, known):
    """Mikolov's 141.2 (SRILM, 5-gram, modified Kneser-Ney)."""
    words = {}
    for split in ("train", "test"):
        lines = (data / "ptb" / f"ptb.{split}.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
        words[split] = [word for line in lines for word in [*line.split(), "<eos>"]]
    symbols = ("<pad>", "<unk>", *sorted({*words["train"]} - {"<unk>"}))
    number = {symbol: i for i, symbol in enumerate(symbols)}
    train, test = (torch.tensor([number[word] for word in words[split]]) for split in ("train", "test"))
    assert (len(train), len(test), len(symbols)) == (929_589, 82_430, 10_001)
    found = bits(train, test, len(symbols), number["<eos>"], symbols, order=5, reset=reset)
    assert 2**found == pytest.approx(known, abs=0.3)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("order", "known"), [(5, 2.366), (6, 2.344)])
def test_tiny_shakespeare(data, order, known):
    """Bits per character on the last 5 % after the first 90 %: not above those of one discount an order."""
    characters = (data / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    number = {symbol: i for i, symbol in enumerate(sorted(set(characters)), start=2)}
    ids = torch.tensor([number[symbol] for symbol in characters])
    train, test = ids[: len(ids) * 9 // 10], ids[len(ids) - len(ids) // 20 :]
    before = int(ids[len(ids) - len(ids) // 20 - 1])
    found = bits(train, test, len(number) + 2, before, order=order)
    assert found <= known
    assert found == pytest.approx({5: 2.337, 6: 2.286}[order], abs=0.002)
