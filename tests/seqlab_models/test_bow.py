"""The bag of n-grams has the features of scikit-learn, for any tokens."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import nn

from seqlab import Batch, Examples, InputSpec, Ragged
from seqlab_models.bow import BagOfNgrams

OUTPUTS = 3
sequences = st.lists(st.lists(st.integers(1, 6), max_size=9), min_size=1, max_size=8)


def ragged(rows):
    return Ragged.of([torch.tensor(row, dtype=torch.int64) for row in rows])


def batch(rows):
    inputs, lengths = ragged(rows).padded(torch.arange(len(rows)))
    return Batch(inputs, lengths, torch.empty(len(rows)))


def bow(size, train=None, **options):
    options = {"sublinear": False, "solver": "optimizer"} | options
    made = BagOfNgrams(InputSpec("tokens", size), OUTPUTS, False, **options).double()
    if train is not None:
        made.prepare(lambda: ragged(train))
    return made


def dense(model, rows):
    """The feature matrix ``[rows, n-grams]``."""
    index, weights, sizes = model.features(batch(rows))
    made = torch.zeros(len(rows), len(model.keys), dtype=weights.dtype)
    made[torch.arange(len(rows)).repeat_interleave(sizes), index] = weights
    return made


def grams(row, max_order, markers=True):
    marked = ("begin", *row, "end") if markers else tuple(row)
    return [marked[i : i + n] for n in range(1, max_order + 1) for i in range(len(marked) - n + 1)]


def reference(train, rows, max_order, min_count=1, markers=True):
    """TF-IDF in plain Python: for each row, its n-grams and their weights."""
    seen = Counter(gram for row in train for gram in set(grams(row, max_order, markers)))
    idf = {gram: math.log((1 + len(train)) / (1 + n)) + 1 for gram, n in seen.items() if n >= min_count}
    made = []
    for row in rows:
        raw = {gram: n * idf[gram] for gram, n in Counter(grams(row, max_order, markers)).items() if gram in idf}
        norm = math.sqrt(sum(weight**2 for weight in raw.values())) or 1.0
        made.append({gram: weight / norm for gram, weight in raw.items()})
    return idf, made


def assert_same_features(model, train, rows):
    """One column of the matrix for each n-gram of the reference, in whatever order, with the same weights."""
    idf, expected = reference(train, [*train, *rows], model.max_order, model.min_count, model.markers)
    assert len(model.keys) == len(idf)
    matrix = dense(model, [*train, *rows])
    theirs = torch.tensor([[row.get(gram, 0.0) for gram in idf] for row in expected], dtype=torch.float64)
    torch.testing.assert_close(_sorted_columns(matrix), _sorted_columns(theirs), rtol=0, atol=1e-12)


def _sorted_columns(matrix):
    return torch.tensor(sorted(matrix.mul(1e10).round().div(1e10).t().tolist())).t()


@given(train=sequences, rows=sequences, max_order=st.integers(1, 5), min_count=st.integers(1, 3), markers=st.booleans())
def test_features_are_the_slow_ones(train, rows, max_order, min_count, markers):
    """Against counting n-gram by n-gram, with unseen n-grams and empty rows."""
    if not reference(train, [], max_order, min_count, markers)[0]:
        with pytest.raises(ValueError, match=f"min_count={min_count} leaves no n-gram"):
            bow(7, train, max_order=max_order, min_count=min_count, markers=markers)
        return
    model = bow(7, train, max_order=max_order, min_count=min_count, markers=markers)
    assert_same_features(model, train, rows)


@pytest.mark.parametrize("sublinear", [False, True])
def test_features_are_those_of_scikit_learn(sublinear):
    names = ["Aalto", "Anna", "Banana", "Ann", "Nanna", "Otto", "Toto", "Abba"]
    letters = sorted(set("".join(names)))
    vectoriser = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), lowercase=False, sublinear_tf=sublinear)
    vectoriser.fit([f"<{name}>" for name in names[:6]])
    theirs = torch.from_numpy(vectoriser.transform([f"<{name}>" for name in names]).toarray())
    rows = [[letters.index(letter) + 1 for letter in name] for name in names]
    mine = dense(bow(len(letters) + 1, rows[:6], sublinear=sublinear), rows)
    torch.testing.assert_close(_sorted_columns(mine), _sorted_columns(theirs), rtol=0, atol=1e-12)


def test_a_state_without_damping_is_of_an_older_version():
    rows = [[1, 1, 1, 2], [3]]
    old = bow(7, rows, sublinear=False)
    nn.init.normal_(old.weight)
    state = {name: value for name, value in old.state_dict().items() if name != "sublinear"}
    new = bow(7, sublinear=True)
    new.load_state_dict(state)
    assert torch.equal(new(batch(rows))[0], old(batch(rows))[0])


@pytest.mark.parametrize(("symbols", "order"), [(("", "?", "a", "b"), 4), (("", "<unk>", "the", "a"), 2), (None, 4)])
def test_the_default_order_depends_on_the_tokens(symbols, order):
    model = BagOfNgrams(InputSpec("tokens", 4, symbols), OUTPUTS, False)
    assert model.max_order == order
    assert model.markers == (order == 4)


def test_a_fit_without_markers_on_phrases():
    """The label is that of the phrase's word, which occurs alone in training, and among others in the test."""
    rows, labels = [[word] for word in range(1, 7)] * 3, torch.tensor([0, 1, 2] * 6)
    model = bow(9, rows, solver="lbfgs", markers=False, max_order=2)
    model.fit(Examples(ragged(rows), labels), Examples(ragged(rows), labels))
    assert len(model.keys) == 6
    assert model(batch([[8, word, 8] for word in range(1, 7)]))[0].argmax(1).equal(labels[:6])


def test_a_fit_needs_one_label_per_sequence():
    model = bow(7, [[1], [2]], solver="lbfgs")
    examples = Examples(ragged([[1], [2]]), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"set model\.solver=optimizer"):
        model.fit(examples, examples)


def test_a_fitted_model_predicts_its_labels():
    """No parameter is left to an optimiser, and the scale does not change the outputs."""
    rows, labels = [[1, 2], [1, 3], [4, 5], [4, 6], [5]] * 4, torch.tensor([0, 0, 2, 2, 2] * 4)
    examples = Examples(ragged(rows), labels)
    outputs = []
    for scale in (1.0, 10.0):
        model = bow(7, rows, solver="lbfgs", scale=scale)
        model.fit(examples, examples)
        assert not any(parameter.requires_grad for parameter in model.parameters())
        outputs.append(model(batch(rows))[0])
    assert outputs[0].argmax(1).equal(labels)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-4)


def test_words_by_the_ten_thousand():
    """Ids of a large vocabulary, whose 6-grams read as one number would not fit into 64 bits."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(1, 10_000, (40, 12), generator=generator).tolist()
    rows += [[*row[:6], *row[5:]] for row in rows[:10]]
    assert 10_000**6 > 2**63
    assert_same_features(bow(10_000, rows[:45], max_order=6), rows[:45], rows[45:])


def test_unseen_ngrams_are_ignored():
    model = bow(9, [[1, 2], [2, 3]])
    nn.init.normal_(model.weight)
    assert not dense(model, [[8, 8, 8]])[:, model.idf > 1].any()
    only_markers, _ = model(batch([[8, 8, 8]]))
    torch.testing.assert_close(only_markers, model(batch([[7, 6]]))[0])


def test_a_row_without_any_known_ngram():
    """Without features, such as in a table without markers, the output is the bias."""
    model = bow(9, [[1, 2], [2, 3]], max_order=1)
    state = {**model.state_dict(), "keys": model.keys[:2], "idf": model.idf[:2], "weight": torch.ones(2, OUTPUTS)}
    model.load_state_dict(state)
    outputs, _ = model(batch([[8, 8], [1], []]))
    assert outputs.tolist() == [[0.0] * OUTPUTS, [10.0] * OUTPUTS, [0.0] * OUTPUTS]


def test_outputs_are_linear_in_the_features():
    """Outputs and the weights' gradient against the dense matrix product."""
    rows = [[1, 2, 1, 2], [3], [], [2, 2, 2, 5, 6]]
    model = bow(7, rows, scale=3.0)
    nn.init.normal_(model.weight)
    nn.init.normal_(model.bias)
    outputs, state = model(batch(rows))
    matrix = 3 * dense(model, rows)
    assert state is None
    torch.testing.assert_close(outputs, matrix @ model.weight + model.bias, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(outputs.square().sum(), model.weight)
    torch.testing.assert_close(gradient, matrix.t() @ (2 * outputs), rtol=0, atol=1e-11)


def test_padding_is_ignored():
    rows = [[1, 2, 3], [4], [], [2, 2, 2, 5, 6]]
    model = bow(7, rows)
    nn.init.normal_(model.weight)
    clean = batch(rows)
    padding = torch.arange(clean.inputs.shape[1]) >= clean.lengths.unsqueeze(1)
    noisy = clean._replace(inputs=clean.inputs.masked_fill(padding, 5))
    assert torch.equal(model(clean)[0], model(noisy)[0])
    for row, output in zip(rows, model(clean)[0], strict=True):
        torch.testing.assert_close(model(batch([row]))[0][0], output, rtol=0, atol=1e-12)
    assert model(batch([]))[0].shape == (0, OUTPUTS)


def train_a_little(rows, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = BagOfNgrams(InputSpec("tokens", 7), OUTPUTS, False, solver="optimizer")
        model.prepare(lambda: ragged(rows))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        targets = torch.arange(len(rows)) % OUTPUTS
        losses = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch(rows))[0], targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, model.state_dict()
    finally:
        torch.set_num_threads(before)


def test_training_is_bit_identical():
    """Twice, and with another number of threads; from equal outputs downwards."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(1, 7, (5 + i % 7,), generator=generator).tolist() for i in range(60)]
    losses, state = train_a_little(rows, 1)
    assert losses[0] == pytest.approx(math.log(OUTPUTS))
    assert losses[-1] < 0.5 * losses[0]
    for threads in (1, 2):
        again, other = train_a_little(rows, threads)
        assert again == losses
        assert all(torch.equal(state[name], other[name]) for name in state)


def test_a_fresh_model_takes_its_size_from_the_state():
    rows = [[1, 2, 3], [4], [2, 2, 2, 5, 6]]
    trained = bow(7, rows)
    nn.init.normal_(trained.weight)
    fresh = bow(7)
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(batch(rows))[0], trained(batch(rows))[0])
    wrapped = nn.ModuleDict({"model": bow(7, [[1]])})
    wrapped.load_state_dict({f"model.{name}": tensor for name, tensor in trained.state_dict().items()})
    assert torch.equal(wrapped["model"](batch(rows))[0], trained(batch(rows))[0])


def test_loading_what_fits_keeps_the_parameter():
    """An optimiser made before a checkpoint is loaded still holds the weights that are trained."""
    model = bow(7, [[1, 2, 3]])
    weight = model.weight
    model.load_state_dict({**model.state_dict(), "weight": torch.ones_like(weight)})
    assert model.weight is weight
    assert bool((weight == 1).all())


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("keys", lambda keys: keys.flip(0), "keys must be an ascending list of torch.int64, got torch.int64"),
        ("keys", lambda keys: keys.double(), "keys must be an ascending list of torch.int64, got torch.float64"),
        ("keys", lambda keys: keys.unsqueeze(0), "keys must be an ascending list of torch.int64, got torch.int64"),
        ("keys", lambda keys: keys[:-1], "idf must have the shape"),
        ("idf", lambda idf: idf.long(), "idf must be floating point, got torch.int64"),
        ("weight", lambda weight: weight[:, :2], "weight must have the shape"),
        ("bias", lambda bias: bias[:2], "bias must have the shape [3], got [2]"),
    ],
)
def test_a_state_that_does_not_fit(name, change, message):
    state = bow(7, [[1, 2, 3]]).state_dict()
    with pytest.raises(ValueError, match=name if name != "keys" else "keys|idf") as caught:
        bow(7).load_state_dict({**state, name: change(state[name])})
    assert str(caught.value).startswith(message)


def test_a_state_with_a_gap():
    state = bow(7, [[1, 2, 3]]).state_dict()
    del state["idf"]
    with pytest.raises(RuntimeError, match="idf"):
        bow(7).load_state_dict(state)


def test_needs_preparation():
    with pytest.raises(ValueError, match="until prepare or load_state_dict has run"):
        bow(7)(batch([[1]]))


WORDS = ("", "<unk>", "banana", "ananas", "an", "dở", "x")


@pytest.mark.parametrize("sublinear", [False, True])
def test_subwords_are_features_of_scikit_learn(sublinear):
    """A union of two vectorisers, each with rows of norm 1; unknown words have no characters."""
    train = [[2, 3, 4], [4, 4, 2], [5, 6], [3, 2]]
    rows = [*train, [1, 2, 2], [1], [6, 6, 6]]
    text = {index: f"w{index}" for index in range(len(WORDS))}

    def inside(row):
        marked = [f"<{WORDS[index]}>" for index in row if index > 1]
        return [word[i : i + n] for word in marked for n in (2, 3) for i in range(len(word) - n + 1)]

    words = TfidfVectorizer(analyzer=lambda row: ["begin", *map(text.get, row), "end"], sublinear_tf=sublinear)
    parts = [vectoriser.fit(train).transform(rows).toarray() for vectoriser in (
        words, TfidfVectorizer(analyzer=inside, sublinear_tf=sublinear)
    )]  # fmt: skip
    theirs = torch.from_numpy(np.concatenate(parts, axis=1))
    spec = InputSpec("tokens", len(WORDS), WORDS)
    model = BagOfNgrams(spec, OUTPUTS, False, max_order=1, sublinear=sublinear, subword_order=3, markers=True).double()
    model.prepare(lambda: ragged(train))
    index, weights, sizes = model.features(batch(rows))
    mine = torch.zeros(len(rows), len(model.weight), dtype=torch.float64)
    mine[torch.arange(len(rows)).repeat_interleave(sizes), index] = weights
    torch.testing.assert_close(_sorted_columns(mine), _sorted_columns(theirs), rtol=0, atol=1e-12)


def test_subwords_are_fitted_and_loaded():
    spec, rows = InputSpec("tokens", len(WORDS), WORDS), [[2, 3], [3, 2], [4, 5], [6, 5]] * 3
    examples = Examples(ragged(rows), torch.tensor([0, 0, 2, 2] * 3))
    model = BagOfNgrams(spec, OUTPUTS, False, subword_order=4, min_count=2)
    model.prepare(lambda: ragged(rows))
    model.fit(examples, examples)
    assert model(batch(rows))[0].argmax(1).equal(examples.targets)
    again = BagOfNgrams(spec, OUTPUTS, False, subword_order=4, min_count=2)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(batch(rows))[0], model(batch(rows))[0])
    with pytest.raises(ValueError, match="weight must have the shape"):
        BagOfNgrams(spec, OUTPUTS, False).load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="subword_order=3 needs tokens with names"):
        BagOfNgrams(InputSpec("tokens", 7), OUTPUTS, False, subword_order=3)
    with pytest.raises(ValueError, match="subword_order must be >= 2"):
        BagOfNgrams(spec, OUTPUTS, False, subword_order=1)
