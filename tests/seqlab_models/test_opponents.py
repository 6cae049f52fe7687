"""The models without recurrence: what comes later changes nothing earlier, padding does not count, both heads."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seqlab import Batch, InputSpec
from seqlab_models.attention import AttentionModel, Layer
from seqlab_models.steps import sinusoids
from seqlab_models.tcn import TCN

SYMBOLS, FEATURES, OUTPUTS = 9, 3, 5
SPECS = {"tokens": InputSpec("tokens", SYMBOLS), "features": InputSpec("features", FEATURES)}
KINDS = {
    "attention": lambda **options: made(AttentionModel, hidden_size=8, heads=2, **options),
    "learned": lambda **options: made(AttentionModel, hidden_size=8, heads=2, positions="learned", **options),
    "tcn": lambda **options: made(TCN, hidden_size=6, depth=3, kernel_size=3, **options),
}
every_model = pytest.mark.parametrize("kind", KINDS)
both_inputs = pytest.mark.parametrize("inputs", SPECS)
both_heads = pytest.mark.parametrize("per_step", [True, False])


def head(features):
    return nn.Linear(features, OUTPUTS)


def made(model, inputs="tokens", per_step=True, **options):
    torch.manual_seed(0)
    built = model(SPECS[inputs], head, per_step, **options).double().eval()
    for parameter in built.parameters():  # weights that are nearly zero would show nothing
        nn.init.normal_(parameter, 0, 0.5)
    return built


def steps(inputs, rows, time, seed=1):
    generator = torch.Generator().manual_seed(seed)
    if inputs == "tokens":
        return torch.randint(1, SYMBOLS, (rows, time), generator=generator)
    return torch.randn(rows, time, FEATURES, generator=generator, dtype=torch.float64)


def run(model, x, lengths=None):
    return model(Batch(x, None if lengths is None else torch.tensor(lengths), x))[0]


@every_model
@both_inputs
@given(time=st.integers(2, 12), data=st.data())
def test_a_later_input_changes_no_earlier_output(kind, inputs, time, data):
    cut = data.draw(st.integers(1, time - 1))
    model = KINDS[kind](inputs=inputs)
    x, other = steps(inputs, 2, time), steps(inputs, 2, time, seed=2)
    changed = torch.cat([x[:, :cut], other[:, cut:]], 1)
    before, after = run(model, x), run(model, changed)
    torch.testing.assert_close(after[:, :cut], before[:, :cut], rtol=0, atol=1e-12)


@every_model
@both_inputs
def test_an_earlier_input_changes_the_last_output(kind, inputs):
    model = KINDS[kind](inputs=inputs)
    x = steps(inputs, 4, 7)
    changed = torch.cat([steps(inputs, 4, 1, seed=3), x[:, 1:]], 1)
    assert (run(model, x)[:, -1] - run(model, changed)[:, -1]).abs().max() > 1e-6


@every_model
@both_inputs
@both_heads
@given(lengths=st.lists(st.integers(0, 7), min_size=1, max_size=4))
def test_padding_cannot_be_seen(kind, inputs, per_step, lengths):
    """A row among longer ones gives what it gives alone; NaN in its padding reaches no output and no gradient."""
    model = KINDS[kind](inputs=inputs, per_step=per_step)
    x = steps(inputs, len(lengths), 7)
    if inputs == "features":
        x[torch.arange(7) >= torch.tensor(lengths).unsqueeze(1)] = torch.nan
    outputs = run(model, x, lengths)
    for row, length in enumerate(lengths):
        alone = run(model, x[row : row + 1, :length])[0]
        got = outputs[row, :length] if per_step else outputs[row]
        torch.testing.assert_close(got, alone, rtol=0, atol=1e-10)
    outputs.square().sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


@every_model
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
    assert not model.steps.encode.weight.grad[0].any()


@every_model
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


def test_learned_positions_end():
    model = made(AttentionModel, positions="learned", longest=4)
    assert run(model, steps("tokens", 2, 4)).shape == (2, 4, OUTPUTS)
    with pytest.raises(ValueError, match=r"a sequence has 5 steps, but longest is 4; set model\.longest=5"):
        run(model, steps("tokens", 2, 5))


def test_without_positions_the_order_does_not_matter():
    """To the last step, the steps before it are a set."""
    model = made(AttentionModel, "features", per_step=False, depth=1, positions="none")
    x = steps("features", 3, 6)
    turned = torch.cat([x[:, :-1].flip(1), x[:, -1:]], 1)
    torch.testing.assert_close(run(model, turned), run(model, x), rtol=0, atol=1e-12)
    placed = made(AttentionModel, "features", per_step=False, depth=1)
    assert (run(placed, turned) - run(placed, x)).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (AttentionModel, {"hidden_size": 0}, "hidden_size must be >= 1, got 0"),
        (AttentionModel, {"depth": 0}, "depth must be >= 1, got 0"),
        (AttentionModel, {"longest": 0}, "longest must be >= 1, got 0"),
        (AttentionModel, {"hidden_size": 6}, "hidden_size is 6; it must be a multiple of heads, 4"),
        (AttentionModel, {"positions": "rotary"}, "positions is 'rotary'; it must be one of sinusoidal, learned, none"),
        (AttentionModel, {"dropout": 1.0}, "dropout must be < 1, got 1.0"),
        (TCN, {"hidden_size": 0}, "hidden_size must be >= 1, got 0"),
        (TCN, {"depth": 0}, "depth must be >= 1, got 0"),
        (TCN, {"kernel_size": 1}, "kernel_size must be >= 2, got 1"),
        (TCN, {"dropout": -0.1}, "dropout must be >= 0, got -0.1"),
    ],
)
def test_options_out_of_range(model, options, message):
    with pytest.raises(ValueError, match=f"^{message}".replace(".", r"\.")):
        model(SPECS["tokens"], head, True, **options)


def test_the_defaults_of_a_tcn_see_757_steps():
    assert TCN(SPECS["tokens"], head, True).receptive_field == 757
