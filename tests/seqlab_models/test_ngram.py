"""The n-gram model has the probabilities of the textbook, and how a stream is cut into windows does not matter."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seqlab import InputSpec, Ragged
from seqlab_models import kneser_ney, ngram_counts
from seqlab_models.ngram import TINY, NGram

from .ngrams import SIZE, SYMBOLS, Oracle, batch, ngram, ragged, text

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
def test_padding_cannot_be_seen(lengths, order):
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
        patch.setattr(ngram_counts, "CHUNK", chunk)
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
        ("keys", lambda keys: keys.flip(0), "keys is torch.int64"),
        ("keys", lambda keys: keys.double(), "keys is torch.float64"),
        ("keys", lambda keys: keys[:0], "keys is torch.int64 [0]"),
        ("keys", lambda keys: keys[:-1], "alpha is"),
        ("alpha", lambda alpha: alpha.long(), "alpha is torch.int64; it must be floating point"),
        ("gamma", lambda gamma: gamma[:2], "gamma is [2]"),
        ("unigram", lambda unigram: unigram[1:], "unigram is [7]; it must be [8]"),
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


def test_needs_counts_before_it_predicts():
    with pytest.raises(ValueError, match="before prepare or load_state_dict ran"):
        ngram()(batch([[1]]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "no tokens to count"),
        ([0, 0], "no tokens to count"),
        ([1, SIZE], "token ids are 1 to 8; they must be 0 to 7"),
    ],
)
def test_texts_that_cannot_be_counted(values, message):
    with pytest.raises(ValueError, match=message):
        ngram([values])


def test_state_of_another_batch():
    model = ngram([text(1, 50)], order=4)
    _, state = model(batch([[3, 4], [4, 5]]))
    with pytest.raises(ValueError, match=r"the state is \[2, 2\]; it must be \[1, 2\]"):
        model(batch([[3, 4]]), state)
    model.carries_state = False
    assert model(batch([[3, 4]]))[1] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, "order must be >= 1, got 0"),
        ({"smoothing": "katz"}, "smoothing is katz; it must be one of kneser-ney, none"),
        ({"per_step": False}, "an n-gram model predicts the token after each time step"),
        ({"inputs": InputSpec("features", 3)}, "an n-gram model counts tokens"),
        ({"outputs": 3}, "an n-gram model has one output a token id, 8, and this task has 3 outputs"),
        ({"reset": "<s>"}, "reset is '<s>', which is no symbol of the vocabulary"),
        ({"reset": "<s>", "inputs": InputSpec("tokens", SIZE)}, "reset is '<s>', and this preprocessing does not say"),
    ],
)
def test_what_it_cannot_do(options, message):
    arguments = {"inputs": InputSpec("tokens", SIZE, SYMBOLS), "outputs": SIZE, "per_step": True, **options}
    with pytest.raises(ValueError, match=message):
        NGram(**arguments)
