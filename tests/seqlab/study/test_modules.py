"""Recording of recurrent layers inside modules of others, against autograd through torch's own cells."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.testing import assert_close

import seqlab.nn
from seqlab import Recurrent, UserError
from seqlab.study.inspection import draw_layers
from seqlab.study.modules import effective_context, record
from seqlab_cells.gru import GRU


class Encoder(pl.LightningModule):
    """LightningModule of a stranger: two ``nn.LSTM``, one behind the other, and a linear head."""

    def __init__(self):
        super().__init__()
        self.words, self.tags = nn.LSTM(3, 4, batch_first=True), nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, 1)

    def forward(self, x):
        return self.head(self.tags(self.words(x)[0])[0][:, -1])

    def training_step(self, batch, index=0):
        x, y = batch
        return nn.functional.mse_loss(self(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def by_cells(module, x, y):
    """The gradients of each row's loss to every h and c of both layers, by ``nn.LSTMCell`` and autograd."""
    states, h_of_words = {"words": [], "tags": []}, [x[:, step] for step in range(x.shape[1])]
    for name, size in (("words", 4), ("tags", 5)):
        layer = getattr(module, name)
        cell = nn.LSTMCell(layer.input_size, size, dtype=x.dtype)
        cell.load_state_dict({key.removesuffix("_l0"): value for key, value in layer.state_dict().items()})
        state, read = (x.new_zeros(len(x), size), x.new_zeros(len(x), size)), h_of_words
        h_of_words = []
        for each in read:
            state = cell(each, state)
            states[name].append(state)
            h_of_words.append(state[0])
    loss = (module.head(h_of_words[-1]) - y).square().sum()
    flat = [tensor for series in states.values() for state in series for tensor in state]
    gradients = iter(torch.autograd.grad(loss, flat))
    return {name: [tuple(next(gradients) for _ in state) for state in series] for name, series in states.items()}


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(4, 6, 3, dtype=torch.float64), torch.randn(4, 1, dtype=torch.float64)


def test_the_gradient_flow_of_two_lstms_in_a_lightning_module(batch):
    """Norm by distance of h and c of both; the module, its gradients and its result are as without recording."""
    module = Encoder().double()
    plain = copy.deepcopy(module)
    expected = by_cells(module, *batch)
    with record(module) as recorded:
        loss = module.training_step(batch)
        loss.backward()
    assert recorded.names == ["words", "tags"]
    for name in recorded.names:
        for index, state in enumerate("hc"):
            norms = [gradients[index].norm(dim=1).mean().item() for gradients in reversed(expected[name])]
            curve = recorded.flow(name).curve(0, state=state)
            assert [row.distance for row in curve] == list(range(6))
            assert [row.norm for row in curve] == pytest.approx(norms, rel=1e-12)
    plain.training_step(batch).backward()
    assert_close([p.grad for p in module.parameters()], [p.grad for p in plain.parameters()])
    assert_close(module.training_step(batch), loss)
    assert all("forward" not in vars(part) for part in module.modules())


def test_the_closed_product_is_the_norm_of_the_last_layer(batch):
    """The cell's Jacobians, read from the module's own weights."""
    module = Encoder().double()
    with record(module) as recorded:
        module.training_step(batch).backward()
    for row in recorded.flow("tags").rows:
        assert row.product == pytest.approx(row.norm, rel=1e-10)
    assert {row.gate for row in recorded.flow("tags").saturation} == {"input", "forget", "candidate", "output"}


@pytest.mark.parametrize("layer", [nn.GRU, nn.RNN, nn.LSTM, seqlab.nn.GRU])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_ragged_bidirectional_layers(layer, reduction):
    """Distance 0 is the last step that each direction read; a mean is scaled to the loss of a row."""
    torch.manual_seed(0)
    module = layer(3, 4, bidirectional=True, dtype=torch.float64)
    x, lengths = torch.randn(6, 2, 3, dtype=torch.float64), [6, 3]
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths)
    with record(module, reduction) as recorded:
        end = module(packed)[1]
        end = end[0] if isinstance(end, tuple) else end
        (end.sum() / (2 if reduction == "mean" else 1)).backward()
    flow = recorded.flow()
    for direction in ("forward", "backward"):
        assert flow.curve(0, direction=direction)[0].norm == pytest.approx(4**0.5)  # of ones
        views = [view for view in recorded.views(row=1) if view.direction == direction]
        (view,) = views
        assert view.states["h"].shape == (3, 4)
    output, _ = module(packed)
    output = nn.utils.rnn.pad_packed_sequence(output)[0]
    forward, backward = recorded.views(row=1)
    assert_close(torch.cat([forward.states["h"], backward.states["h"]], 1), output[:3, 1].detach())


def test_a_recurrent_keeps_its_kernel_and_truncation():
    net = Recurrent(GRU, 3, depth=2, hidden_size=4, kernel="vendor", truncate=2)
    x = torch.randn(6, 2, 3)
    with record(net) as recorded:
        net(x)[0][-1].mean().backward()
    assert (net.kernel, net.truncate) == ("vendor", 2)
    assert recorded.flow().places == [(0, "forward", "h"), (1, "forward", "h")]
    assert recorded.flow().curve(0)[-1].norm > 0  # beyond the truncation


def test_gates_are_those_of_the_weights_in_the_block():
    """A later optimiser step changes no recorded gate; the last of several calls counts."""
    module, x = nn.GRU(3, 4), torch.randn(5, 2, 3)
    with record(module) as recorded:
        module(torch.randn(9, 2, 3))
        module(x)[0].mean().backward()
    (before,) = recorded.views()
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
    (after,) = recorded.views()
    assert after.states["h"].shape == (5, 4)
    assert before.gates.keys() == after.gates.keys()
    assert all(torch.equal(before.gates[name].values, gate.values) for name, gate in after.gates.items())


def test_what_cannot_be_recorded_is_named():
    with pytest.raises(UserError, match=r"Linear has no .*nn\.LSTM"), record(nn.Linear(2, 2)):
        pass
    with pytest.raises(ValueError, match="reduction must be one of mean, sum"), record(nn.GRU(2, 2), "max"):
        pass
    module = Encoder()
    with record(module) as recorded:
        module.words(torch.randn(2, 3, 3))
        with pytest.raises(UserError, match="has not ended"):
            recorded.flow("words")
    with pytest.raises(UserError, match="call backward"):
        recorded.flow("words")
    with pytest.raises(UserError, match="tags was not called"):
        recorded.flow("tags")
    assert recorded.views("words", row=1)
    for row in (2, -1):
        with pytest.raises(ValueError, match=f"row must be >= 0 and <= 1, got {row}"):
            recorded.views("words", row=row)
    with pytest.raises(UserError, match="no recurrent layer 'word'; there are 'words', 'tags'"):
        recorded.flow("word")
    with pytest.raises(ZeroDivisionError), record(module):
        _ = 1 / 0
    assert "forward" not in vars(module.words)


def test_flow_and_context_of_a_lightning_module_in_five_lines(batch):
    """What a user types; the norms are those of torch's own cells."""
    module, (x, y) = Encoder().double(), batch

    with record(module) as recorded:
        module.training_step((x, y)).backward()
    words, tags = recorded.flow("words"), recorded.flow("tags")
    context = effective_context(lambda last: module.training_step((last, y)), x)
    figure = draw_layers(recorded.views("tags"), sensitivity=recorded.sensitivity("tags"))

    expected = by_cells(module, x, y)
    assert words.curve(0)[-1].norm == pytest.approx(expected["words"][0][0].norm(dim=1).mean().item())
    assert tags.curve(0)[-1].norm == pytest.approx(expected["tags"][0][0].norm(dim=1).mean().item())
    assert context.losses[6] == pytest.approx(module.training_step((x, y)).item())
    assert 1 <= context.steps <= 6
    assert len([axes for axes in figure.axes if axes.get_title(loc="left")]) == 7  # the input, h, c and four gates


def test_the_sensitivity_is_the_gradient_to_the_input(batch):
    """Of the first layer, of a batch in either order; with a mask, of the loss of the row's labelled steps."""
    module, (x, y) = Encoder().double(), batch
    with record(module) as recorded:
        module.training_step((x, y)).backward()
    read = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((module(read) - y).square().sum(), read)
    assert_close(recorded.sensitivity("words", row=2), gradient[2].norm(dim=1))
    layer, labelled = nn.GRU(3, 4, dtype=torch.float64), torch.rand(6, 4) > 0.5
    steps, count = x.transpose(0, 1), int(labelled.sum())
    with record(layer, count) as recorded:
        layer(steps)[0].square().sum(2)[labelled].mean().backward()
    read = steps.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(layer(read)[0].square().sum(2)[labelled].sum(), read)
    assert_close(recorded.sensitivity(row=1), gradient[:, 1].norm(dim=1))
    with record(layer) as recorded:
        layer(nn.utils.rnn.pack_padded_sequence(steps, [6] * 4))[0].data.sum().backward()
    with pytest.raises(UserError, match="no gradient reached the input of the layer, or it is no plain tensor"):
        recorded.sensitivity()


@pytest.mark.parametrize("time", [1, 2, 13, 32])
@pytest.mark.parametrize("need", [1, 2, 7, 13, 32])
def test_effective_context_is_what_the_model_needs(time, need):
    """A loss that falls by 1 for each step read, up to the need: exact at every need and length."""
    x = torch.ones(2, time, 1)
    found = effective_context(lambda part: torch.tensor(float(max(0, need - part.shape[1]) + 1)), x, tolerance=0.0)
    assert found.steps == min(need, time)
    assert found.losses[time] == found.whole
    assert list(found.losses) == sorted(found.losses)


def test_effective_context_of_an_lstm_that_forgets():
    """With forget gates of σ(-20) an LSTM needs one step; with an axis of time that is the first."""
    module = nn.LSTM(3, 4)
    with torch.no_grad():
        module.bias_ih_l0[4:8], module.weight_hh_l0[:] = -20.0, 0.0
    x = torch.randn(20, 2, 3)
    found = effective_context(lambda part: module(part)[0][-1].square().mean(), x, axis=0)
    assert found.steps == 1
    with pytest.raises(ValueError, match="least must be >= 1 and <= 20, got 21"):
        effective_context(lambda part: part.sum(), x, axis=0, least=21)


def test_effective_context_of_a_negative_loss():
    """A log density may be negative; the tolerance is a share of its size."""
    assert effective_context(lambda part: torch.tensor(-1.0), torch.ones(2, 8, 1)).steps == 1
    with pytest.raises(ValueError, match="finite"):
        effective_context(lambda part: torch.tensor(float("nan")), torch.ones(2, 8, 1))


def test_the_sensitivity_is_that_of_one_block_and_one_layer():
    """Of an input that requires a gradient, has an old one, and is read by two layers."""
    first, second = (nn.LSTM(3, 4, dtype=torch.float64) for _ in range(2))
    model = nn.ModuleDict({"first": first, "second": second})
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    for _ in range(2):
        with record(model, "sum") as recorded:
            (first(x)[0].square().sum() + second(x)[0].square().sum()).backward()
    for name, layer in model.items():
        (gradient,) = torch.autograd.grad(layer(x)[0].square().sum(), x)
        assert_close(recorded.sensitivity(name, row=1), gradient[:, 1].norm(dim=1))
    with pytest.raises(ValueError, match="row must be >= 0 and <= 1, got -1"):
        recorded.sensitivity("first", row=-1)
