"""The exported forms of models of counted n-grams equal the models, whatever the sizes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab import Batch, InputSpec, Ragged
from seqlab_models.bow import BagOfNgrams
from seqlab_models.exported import find, first_above
from seqlab_models.ngram import NGram

SIZE = 5
rows = st.lists(st.lists(st.integers(1, SIZE - 1), min_size=1, max_size=9), min_size=1, max_size=6)


def ragged(lists):
    return Ragged.of([torch.tensor(row) for row in lists])


def padded(lists, rubbish):
    """A batch with random values in the padding."""
    longest = max(map(len, lists))
    inputs = torch.tensor([row + [rubbish] * (longest - len(row)) for row in lists])
    return Batch(inputs, torch.tensor(list(map(len, lists))), torch.empty(0))


@given(values=st.lists(st.integers(-9, 9), min_size=1, unique=True), wanted=st.lists(st.integers(-12, 12), min_size=1))
def test_binary_search(values, wanted):
    values.sort()
    keys, key = torch.tensor(values), torch.tensor(wanted)
    assert find(keys, key).tolist() == [values.index(one) if one in values else -1 for one in wanted]
    assert first_above(keys, key).tolist() == torch.searchsorted(keys, key).tolist()


@given(
    train=rows,
    read=rows,
    rubbish=st.integers(0, SIZE - 1),
    order=st.integers(1, 5),
    min_count=st.integers(1, 2),
    sublinear=st.booleans(),
    subwords=st.sampled_from([0, 2, 4]),
)
def test_the_exported_bag_of_n_grams(train, read, rubbish, order, min_count, sublinear, subwords):
    options = {"max_order": order, "min_count": min_count, "sublinear": sublinear, "subword_order": subwords}
    model = BagOfNgrams(InputSpec("tokens", SIZE, ("", "<unk>", "abab", "b", "cab")), 3, False, **options)
    try:
        model.double().prepare(lambda: ragged(train))
    except ValueError:  # no n-gram is frequent enough
        return
    with torch.no_grad():
        model.weight.copy_(torch.randn(model.weight.shape, dtype=torch.float64))
        model.bias.copy_(torch.randn(3, dtype=torch.float64))
        batch = padded(read, rubbish)
        torch.testing.assert_close(model.exported()(batch)[0], model(batch)[0], rtol=1e-12, atol=1e-12)


@given(train=rows, read=rows, rubbish=st.integers(0, SIZE - 1), order=st.integers(1, 5), smoothed=st.booleans())
def test_the_exported_n_gram_model(train, read, rubbish, order, smoothed):
    smoothing = "kneser-ney" if smoothed else "none"
    model = NGram(InputSpec("tokens", SIZE), SIZE, True, order=order, smoothing=smoothing)
    model.prepare(lambda: ragged(train))
    batch = padded(read, rubbish)
    valid = torch.arange(batch.inputs.shape[1]) < batch.lengths.unsqueeze(1)
    torch.testing.assert_close(model.exported()(batch)[0][valid], model(batch)[0][valid], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "model", [BagOfNgrams(InputSpec("tokens", 4), 2, False), NGram(InputSpec("tokens", 4), 4, True)]
)
def test_an_empty_model_is_not_exported(model):
    with pytest.raises(ValueError, match="is empty until prepare"):
        model.exported()
