"""Attention, TCN and window: causality, padding, both heads, and the equations of their papers."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seqlab import Batch, InputSpec
from seqlab_models.attention import AttentionModel, Layer, sinusoids
from seqlab_models.tcn import TCN
from seqlab_models.window import WindowModel

SYMBOLS, FEATURES, OUTPUTS = 9, 3, 5
SPECS = {"tokens": InputSpec("tokens", SYMBOLS), "features": InputSpec("features", FEATURES)}
KINDS = {
    "attention": lambda **options: made(AttentionModel, hidden_size=8, heads=2, **options),
    "learned": lambda **options: made(AttentionModel, hidden_size=8, heads=2, positions="learned", **options),
    "window": lambda **options: made(WindowModel, hidden_size=6, embedding_size=3, **options),
    "tcn": lambda **options: made(TCN, hidden_size=6, depth=3, kernel_size=3, **options),
}
every_model = pytest.mark.parametrize("kind", KINDS)
both_inputs = pytest.mark.parametrize(
    ("kind", "inputs"),
    [(kind, inputs) for kind in KINDS for inputs in SPECS if (kind, inputs) != ("window", "features")],
)
both_heads = pytest.mark.parametrize("per_step", [True, False])


def head(features):
    return nn.Linear(features, OUTPUTS)


def made(model, inputs="tokens", per_step=True, **options):
    torch.manual_seed(0)
    built = model(SPECS[inputs], head, per_step, **options).double().eval()
    for parameter in built.parameters():  # weights that are nearly zero would show nothing
        nn.init.normal_(parameter, 0, 0.5)
    for module in built.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
    return built


def steps(inputs, rows, time, seed=1):
    generator = torch.Generator().manual_seed(seed)
    if inputs == "tokens":
        return torch.randint(1, SYMBOLS, (rows, time), generator=generator)
    return torch.randn(rows, time, FEATURES, generator=generator, dtype=torch.float64)


def batch(x, lengths=None):
    return Batch(x, None if lengths is None else torch.tensor(lengths), x)


def run(model, x, lengths=None):
    return model(batch(x, lengths))[0]


@both_inputs
@given(time=st.integers(2, 12), data=st.data())
def test_a_later_input_changes_no_earlier_output(kind, inputs, time, data):
    cut = data.draw(st.integers(1, time - 1))
    model = KINDS[kind](inputs=inputs)
    x, other = steps(inputs, 2, time), steps(inputs, 2, time, seed=2)
    changed = torch.cat([x[:, :cut], other[:, cut:]], 1)
    before, after = run(model, x), run(model, changed)
    torch.testing.assert_close(after[:, :cut], before[:, :cut], rtol=0, atol=1e-12)


@both_inputs
def test_an_earlier_input_changes_the_last_output(kind, inputs):
    model = KINDS[kind](inputs=inputs)
    x = steps(inputs, 4, 4)
    changed = torch.cat([steps(inputs, 4, 1, seed=3), x[:, 1:]], 1)
    assert (run(model, x)[:, -1] - run(model, changed)[:, -1]).abs().max() > 1e-6


@both_inputs
@both_heads
@given(lengths=st.lists(st.integers(0, 7), min_size=1, max_size=4))
def test_padding_is_ignored(kind, inputs, per_step, lengths):
    """Each row equals itself alone; NaN in its padding changes no output and no gradient."""
    model = KINDS[kind](inputs=inputs, per_step=per_step)
    x = steps(inputs, len(lengths), 7)
    if inputs == "features":
        x[torch.arange(7) >= torch.tensor(lengths).unsqueeze(1)] = torch.nan
    outputs = run(model, x, lengths)
    for row, length in enumerate(lengths):
        if kind == "window" and per_step and not length:
            continue  # no window fits into no steps
        alone = run(model, x[row : row + 1, :length])[0]
        got = outputs[row, :length] if per_step else outputs[row]
        torch.testing.assert_close(got, alone, rtol=0, atol=1e-10)
    outputs.square().sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


@both_inputs
def test_one_output_a_sequence_is_that_of_its_last_step(kind, inputs):
    each, one = KINDS[kind](inputs=inputs), KINDS[kind](inputs=inputs, per_step=False)
    x = steps(inputs, 3, 6)
    whole, last = run(each, x, [6, 2, 4]), run(one, x, [6, 2, 4])
    assert last.shape == (3, OUTPUTS)
    torch.testing.assert_close(last, whole[torch.arange(3), torch.tensor([5, 1, 3])], rtol=0, atol=1e-12)


@every_model
def test_no_gradient_reaches_the_embedding_of_padding(kind):
    model = KINDS[kind]()
    run(model, steps("tokens", 2, 5), [5, 2]).sum().backward()
    embedding = model.embedding if kind == "window" else model.steps.encode
    assert not embedding.weight.grad[0].any()


@pytest.mark.parametrize("kind", ["attention", "tcn"])
def test_there_is_no_state(kind):
    model = KINDS[kind]()
    x = steps("tokens", 2, 5)
    assert model(Batch(x, None, x))[1] is None
    assert model.state_size() == 0


@pytest.mark.parametrize(("kernel_size", "depth"), [(2, 1), (3, 2), (2, 4), (5, 2)])
def test_a_tcn_sees_its_receptive_field_and_no_further(kernel_size, depth):
    """The gradient of the last output in the inputs is zero beyond it, and not at its end."""
    model = made(TCN, "features", hidden_size=6, depth=depth, kernel_size=kernel_size)
    reach = model.receptive_field
    x = steps("features", 8, reach + 5).requires_grad_()
    run(model, x)[:, -1].sum().backward()
    seen = x.grad.abs().sum((0, 2)) > 0
    assert not seen[:5].any()
    assert seen[5]


def test_the_blocks_of_a_tcn_are_the_papers():
    """Equation (2) by hand, with the normalised weight g v / |v|, for one channel and one step at a time."""
    model = made(TCN, "features", hidden_size=2, depth=2, kernel_size=3)
    block = model.blocks[1]
    x = torch.randn(1, 2, 9, dtype=torch.float64)
    expected = x
    for convolution in (block.first, block.second):
        scale, direction = (getattr(convolution.parametrizations.weight, name) for name in ("original0", "original1"))
        weight = scale * direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1)
        found = torch.zeros_like(expected)
        for t in range(9):
            found[:, :, t] = convolution.bias
            for i in range(3):
                s = t - 2 * (2 - i)
                if s >= 0:
                    found[:, :, t] += expected[:, :, s] @ weight[:, :, i].T
        expected = found.relu()
    torch.testing.assert_close(block(x), (x + expected).relu(), rtol=0, atol=1e-12)


def test_attention_is_the_papers():
    """Softmax of the scaled products over the steps so far, one head and one step at a time."""
    torch.manual_seed(0)
    layer = Layer(6, 2, 4, 0.0).double()
    x = torch.randn(1, 5, 6, dtype=torch.float64)
    normed = F.layer_norm(x, (6,))[0]
    query, key, value = layer.from_steps(normed).chunk(3, 1)
    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        rows = []
        for t in range(5):
            scores = (key[: t + 1, part] @ query[t, part]) / math.sqrt(3)
            rows.append(scores.softmax(0) @ value[: t + 1, part])
        heads.append(torch.stack(rows))
    z = x[0] + layer.to_steps(torch.cat(heads, 1))
    expected = z + layer.inner(F.layer_norm(z, (6,)))
    torch.testing.assert_close(layer(x)[0], expected, rtol=0, atol=1e-12)


def test_sinusoids_are_the_papers():
    found = sinusoids(50, torch.zeros(1, 1, 7, dtype=torch.float64))
    for t in (0, 1, 49):
        for feature in range(7):
            angle = t / 10_000 ** (2 * (feature // 2) / 7)
            expected = math.cos(angle) if feature % 2 else math.sin(angle)
            assert float(found[t, feature]) == pytest.approx(expected, abs=1e-4)


def test_learned_positions_are_limited():
    model = made(AttentionModel, positions="learned", longest=4)
    assert run(model, steps("tokens", 2, 4)).shape == (2, 4, OUTPUTS)
    with pytest.raises(ValueError, match=r"must have <= longest=4 steps, got 5; set model\.longest=5"):
        run(model, steps("tokens", 2, 5))


def test_without_positions_the_order_does_not_matter():
    """For the last step, the steps before it are a set."""
    model = made(AttentionModel, "features", per_step=False, depth=1, positions="none")
    x = steps("features", 3, 6)
    turned = torch.cat([x[:, :-1].flip(1), x[:, -1:]], 1)
    torch.testing.assert_close(run(model, turned), run(model, x), rtol=0, atol=1e-12)
    placed = made(AttentionModel, "features", per_step=False, depth=1)
    assert (run(placed, turned) - run(placed, x)).abs().max() > 1e-6


def test_the_defaults_of_a_tcn_see_757_steps():
    assert TCN(SPECS["tokens"], head, True).receptive_field == 757


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("context", [1, 2, 4])
def test_the_equations_of_the_window_model(context, direct):
    """``o = b + W x + U tanh(d + H x)``, one token and one row at a time."""
    model = made(WindowModel, hidden_size=4, embedding_size=3, context=context, direct=direct)
    inputs = steps("tokens", 2, 7)
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
def test_the_division_into_windows_does_not_matter(sizes, context, rows):
    model = KINDS["window"](context=context)
    inputs = steps("tokens", rows, sum(sizes))
    whole, end = model(batch(inputs))
    parts, state = [], None
    for part in inputs.split(sizes, dim=1):
        outputs, state = model(batch(part), state)
        parts.append(outputs)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-12)
    assert torch.equal(state[0], end[0])
    assert state[0].shape == (rows, model.state_size())


@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), context=st.integers(1, 4))
def test_the_state_of_a_window_ignores_padding(lengths, context):
    """Rows that end early continue where they ended, for any padding."""
    model = KINDS["window"](context=context)
    inputs, more = steps("tokens", len(lengths), 6), steps("tokens", len(lengths), 4, seed=2)
    outputs, state = model(batch(inputs, lengths))
    after, _ = model(batch(more), state)
    for row, length in enumerate(lengths):
        alone, _ = model(batch(torch.cat([inputs[row, :length], more[row]]).unsqueeze(0)))
        torch.testing.assert_close(outputs[row, :length], alone[0, :length], rtol=0, atol=1e-12)
        torch.testing.assert_close(after[row], alone[0, length:], rtol=0, atol=1e-12)


def test_a_window_learns_what_is_within_its_context():
    """The token two steps back is learned, the one four steps back is not: loss 0, or the entropy of a uniform draw."""
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
    model = KINDS["window"](context=3)
    _, state = model(batch(steps("tokens", 2, 4)))
    with pytest.raises(ValueError, match=r"the state must be \[3, 2\] .*, got \[2, 2\]"):
        model(batch(steps("tokens", 3, 4)), state)
    model.carries_state = False
    assert model(batch(steps("tokens", 2, 4)))[1] is None
