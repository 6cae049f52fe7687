"""The window model is the network of the paper's equations, and how a stream is cut into windows does not matter."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seqlab import Batch, InputSpec
from seqlab_models.window import WindowModel

SYMBOLS, OUTPUTS = 9, 5


def head(features):
    return nn.Linear(features, OUTPUTS)


def window(**options):
    torch.manual_seed(0)
    return WindowModel(InputSpec("tokens", SYMBOLS), head, True, embedding_size=3, hidden_size=4, **options).double()


def ids(rows, time, seed=1):
    return torch.randint(1, SYMBOLS, (rows, time), generator=torch.Generator().manual_seed(seed))


def batch(inputs, lengths=None):
    return Batch(inputs, None if lengths is None else torch.tensor(lengths), inputs)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("context", [1, 2, 4])
def test_the_equations_of_the_paper(context, direct):
    """``o = b + W x + U tanh(d + H x)``, one token and one row at a time."""
    model = window(context=context, direct=direct)
    inputs = ids(2, 7)
    outputs, _ = model(batch(inputs))
    H, d, b = model.hidden.weight, model.hidden.bias, model.head.bias
    U, W = model.head.weight[:, :4], model.head.weight[:, 4:]
    for row, tokens in enumerate(inputs.tolist()):
        for t in range(7):
            seen = [tokens[s] if s >= 0 else 0 for s in range(t - context + 1, t + 1)]
            x = torch.cat([model.embedding.weight[token] * (token > 0) for token in seen])
            expected = b + U @ torch.tanh(d + H @ x)
            if direct:
                expected = expected + W @ x
            torch.testing.assert_close(outputs[row, t], expected, rtol=0, atol=1e-12)


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6), context=st.integers(1, 5), rows=st.integers(1, 3))
def test_windows_do_not_matter(sizes, context, rows):
    model = window(context=context)
    inputs = ids(rows, sum(sizes))
    whole, end = model(batch(inputs))
    parts, state = [], None
    for part in inputs.split(sizes, dim=1):
        outputs, state = model(batch(part), state)
        parts.append(outputs)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-12)
    assert torch.equal(state[0], end[0])
    assert state[0].shape == (rows, model.state_size())


@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), context=st.integers(1, 4))
def test_padding_cannot_be_seen(lengths, context):
    """Rows that end early go on where they ended, whatever stood in their padding."""
    model = window(context=context)
    inputs, more = ids(len(lengths), 6), ids(len(lengths), 4, seed=2)
    outputs, state = model(batch(inputs, lengths))
    after, _ = model(batch(more), state)
    for row, length in enumerate(lengths):
        alone, _ = model(batch(torch.cat([inputs[row, :length], more[row]]).unsqueeze(0)))
        torch.testing.assert_close(outputs[row, :length], alone[0, :length], rtol=0, atol=1e-12)
        torch.testing.assert_close(after[row], alone[0, length:], rtol=0, atol=1e-12)


@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), context=st.integers(1, 4))
def test_one_output_a_sequence_is_that_of_its_last_step(lengths, context):
    each, one = window(context=context), window(context=context)
    one.per_step = False
    inputs = ids(len(lengths), 6)
    steps, (kept,) = each(batch(inputs, lengths))
    outputs, (state,) = one(batch(inputs, lengths))
    assert outputs.shape == (len(lengths), OUTPUTS)
    assert torch.equal(state, kept)
    for row, length in enumerate(lengths):
        if length:
            torch.testing.assert_close(outputs[row], steps[row, length - 1], rtol=0, atol=1e-12)


def test_no_gradient_reaches_the_padding():
    model = window()
    model(batch(ids(2, 5), [5, 2]))[0].sum().backward()
    assert not model.embedding.weight.grad[0].any()


def test_learns_what_is_within_its_context():
    """The token two steps back can be told, the one four steps back cannot: loss 0, or the entropy of a fair draw."""
    for back, low, high in ((2, 0.0, 0.05), (4, 1.4, 1.7)):
        torch.manual_seed(0)
        model = WindowModel(InputSpec("tokens", SYMBOLS), lambda n: nn.Linear(n, SYMBOLS), True, context=4)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for step in range(60):
            train = torch.randint(1, OUTPUTS + 1, (8, 64), generator=torch.Generator().manual_seed(step))
            outputs, _ = model(batch(train))
            loss = nn.functional.cross_entropy(outputs[:, back:].flatten(0, 1), train[:, :-back].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert low <= loss.item() <= high


def test_state_of_another_batch():
    model = window(context=3)
    _, state = model(batch(ids(2, 4)))
    with pytest.raises(ValueError, match=r"the state is \[2, 2\]; it must be \[3, 2\]"):
        model(batch(ids(3, 4)), state)


def test_state_that_nobody_looks_at():
    model = window()
    model.carries_state = False
    assert model(batch(ids(2, 4)))[1] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 0}, "context must be >= 1, got 0"),
        ({"embedding_size": 0}, "embedding_size must be >= 1, got 0"),
        ({"hidden_size": -1}, "hidden_size must be >= 1, got -1"),
        ({"dropout": 1.0}, "dropout must be < 1, got 1.0"),
        ({"inputs": InputSpec("features", 3)}, "a window model embeds tokens"),
    ],
)
def test_what_it_cannot_do(options, message):
    arguments = {"inputs": InputSpec("tokens", SYMBOLS), "head": head, "per_step": True, **options}
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        WindowModel(**arguments)
