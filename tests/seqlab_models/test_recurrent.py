"""The recurrent model equals a hand-written torch network, padding is ignored, and chunks equal the whole."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqlab import Batch, Cell, InputSpec
from seqlab_cells.gru import GRU
from seqlab_cells.lstm import LSTM
from seqlab_models.recurrent import RecurrentModel

SYMBOLS, HIDDEN, OUTPUTS = 11, 6, 4
TOKENS = InputSpec("tokens", SYMBOLS)


class Sum(Cell):
    """Adds its inputs up; its output is the sum and the number of steps, its state the sum alone."""

    @property
    def output_size(self):
        return self.input_size + 1

    def __init__(self, input_size):
        super().__init__(input_size, input_size)

    def step(self, x, state):
        total = state[0] + x
        return torch.cat([total, torch.ones_like(total[:, :1])], dim=1), (total,)


def lstm(input_size):
    return LSTM(input_size, HIDDEN)


def gru(input_size):
    return GRU(input_size, 5)


def head(features):
    return nn.Linear(features, OUTPUTS)


def model(inputs=TOKENS, per_step=False, cell=lstm, make_head=head, **options):
    torch.manual_seed(0)
    return RecurrentModel(inputs, make_head, per_step, cell, options.pop("kernel", "loop"), **options).double()


def ragged(lengths, size=SYMBOLS, seed=1):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(lengths)
    ids = torch.randint(1, size, (len(lengths), int(lengths.max())), generator=generator)
    ids = ids.masked_fill(torch.arange(ids.shape[1]) >= lengths.unsqueeze(1), 0)
    return Batch(ids, lengths, torch.empty(len(lengths)))


class Twin(nn.Module):
    """The same network as anyone would write it: embedding, packed ``nn.LSTM``, the two ends, linear."""

    def __init__(self, ours):
        super().__init__()
        recurrent = ours.recurrent
        self.embedding = nn.Embedding(SYMBOLS, ours.encoder.embedding_dim, padding_idx=0)
        self.lstm = nn.LSTM(
            ours.encoder.embedding_dim, HIDDEN, recurrent.depth, bidirectional=recurrent.bidirectional, batch_first=True
        )
        self.linear = nn.Linear(HIDDEN * recurrent.directions, OUTPUTS)
        self.double()
        with torch.no_grad():
            self.embedding.weight.copy_(ours.encoder.weight)
            self.linear.load_state_dict(ours.head.state_dict())
            for ours_, theirs in self.pairs(ours):
                theirs.copy_(ours_)

    def pairs(self, ours):
        """Each of our cells' parameters and its twin."""
        suffixes = itertools.product(range(self.lstm.num_layers), ["", "_reverse"][: ours.recurrent.directions])
        for cell, (layer, reverse) in zip(ours.recurrent.cells, suffixes, strict=True):
            for part, name in ((cell.from_input, "ih"), (cell.from_state, "hh")):
                yield part.weight, getattr(self.lstm, f"weight_{name}_l{layer}{reverse}")
                yield part.bias, getattr(self.lstm, f"bias_{name}_l{layer}{reverse}")

    def forward(self, batch, per_step=False):
        packed = pack_padded_sequence(
            self.embedding(batch.inputs), batch.lengths, batch_first=True, enforce_sorted=False
        )
        outputs, (h, _) = self.lstm(packed)
        if per_step:
            return self.linear(pad_packed_sequence(outputs, batch_first=True)[0])
        ends = h[-2:] if self.lstm.bidirectional else h[-1:]
        return self.linear(torch.cat(list(ends), dim=1))


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kernel", ["loop", "auto"])
def test_is_the_hand_written_network(kernel, depth, bidirectional, per_step):
    """Outputs and every gradient, against ``nn.LSTM`` on packed input, to 1e-12."""
    ours = model(depth=depth, bidirectional=bidirectional, per_step=per_step, embedding_size=5, kernel=kernel)
    twin = Twin(ours)
    batch = ragged([3, 7, 1, 5])
    mine, theirs = ours(batch)[0], twin(batch, per_step)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    mine.square().sum().backward()
    theirs.square().sum().backward()
    both = [
        (ours.encoder.weight, twin.embedding.weight),
        (ours.head.weight, twin.linear.weight),
        (ours.head.bias, twin.linear.bias),
    ]
    for mine, theirs in [*both, *twin.pairs(ours)]:
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-12)


def test_state_is_carried():
    """Two halves with the state between them are the whole, and the state is torch's."""
    ours = model(depth=2, per_step=True, embedding_size=5)
    batch = ragged([6, 6, 6])._replace(lengths=None)
    whole, state = ours(batch)
    first, between = ours(batch._replace(inputs=batch.inputs[:, :2]))
    second, end = ours(batch._replace(inputs=batch.inputs[:, 2:]), between)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=0, atol=1e-12)
    for mine, theirs in zip(end, state, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
        assert mine.shape == (2, 3, HIDDEN)
    assert ours.state_size() == 2 * 2 * HIDDEN


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@given(lengths=st.lists(st.integers(0, 7), min_size=1, max_size=5).filter(any))
def test_rows_are_independent(pooling, bidirectional, lengths):
    """Each row alone, without padding, gives its row of the batch."""
    ours = model(pooling=pooling, bidirectional=bidirectional, embedding_size=3)
    batch = ragged(lengths)
    together, _ = ours(batch)
    for row, length in enumerate(lengths):
        alone, _ = ours(Batch(batch.inputs[row : row + 1, :length], None, batch.targets[:1]))
        torch.testing.assert_close(together[row], alone[0], rtol=0, atol=1e-12)
        if length == 0:
            torch.testing.assert_close(together[row], ours.head.bias)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_padding_is_ignored(pooling):
    """Other ids, or NaN features, beyond each row's length change no output and no gradient."""
    batch = ragged([3, 7, 0, 5])
    padding = torch.arange(7) >= batch.lengths.unsqueeze(1)
    ours = model(pooling=pooling, bidirectional=True, depth=2)
    noisy = batch._replace(inputs=batch.inputs.masked_fill(padding, SYMBOLS - 1))
    assert _outputs_and_gradients(ours, batch) == _outputs_and_gradients(ours, noisy)

    features = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ours = model(InputSpec("features", 3), pooling=pooling, bidirectional=True, depth=2)
    clean = batch._replace(inputs=features.masked_fill(padding.unsqueeze(2), 0))
    poisoned = batch._replace(inputs=features.masked_fill(padding.unsqueeze(2), torch.nan))
    assert _outputs_and_gradients(ours, clean) == _outputs_and_gradients(ours, poisoned)


def _outputs_and_gradients(ours, batch):
    ours.zero_grad()
    outputs, _ = ours(batch)
    outputs.square().sum().backward()
    tensors = [outputs, *(parameter.grad for parameter in ours.parameters())]
    assert all(bool(tensor.isfinite().all()) for tensor in tensors)
    return [tensor.tolist() for tensor in tensors]


def test_pooling_by_arithmetic():
    """With a cell that sums, last, mean and max are known; outputs may be wider than the state."""
    x = torch.tensor([[[1.0], [-5.0], [2.0]], [[3.0], [9.0], [9.0]], [[9.0], [9.0], [9.0]]]).double()
    batch = Batch(x, torch.tensor([3, 1, 0]), torch.empty(3))
    expected = {
        # forward sum and flag, backward sum and flag; the first row's sums: 1 -4 -2 forward, -2 -3 2 backward
        "last": [[-2, 1, -2, 1], [3, 1, 3, 1], [0, 0, 0, 0]],
        "mean": [[-5 / 3, 1, -1, 1], [3, 1, 3, 1], [0, 0, 0, 0]],
        "max": [[1, 1, 2, 1], [3, 1, 3, 1], [0, 0, 0, 0]],
    }
    for pooling, rows in expected.items():
        ours = model(InputSpec("features", 1), cell=Sum, make_head=_first, bidirectional=True, pooling=pooling)
        torch.testing.assert_close(ours(batch)[0], torch.tensor(rows).double())


def _first(features):
    """A head that gives its features back, with a parameter so that the model has one."""
    linear = nn.Linear(features, features, bias=False)
    nn.init.eye_(linear.weight)
    return linear


@pytest.mark.parametrize("lengths", [None, [0, 0]])
def test_no_steps_at_all(lengths):
    batch = Batch(torch.empty(2, 0, dtype=torch.int64), lengths and torch.tensor(lengths), torch.empty(2))
    for pooling in ("last", "mean", "max", "attention"):
        ours = model(pooling=pooling)
        torch.testing.assert_close(ours(batch)[0], ours.head.bias.expand(2, OUTPUTS))
    assert model(per_step=True)(batch)[0].shape == (2, 0, OUTPUTS)


def test_onehot_is_an_embedding_of_unit_vectors():
    onehot = model(input="onehot")
    embedding = model(embedding_size=SYMBOLS)
    embedding.load_state_dict({**onehot.state_dict(), "encoder.weight": torch.eye(SYMBOLS)})
    batch = ragged([3, 7, 1])
    torch.testing.assert_close(onehot(batch)[0], embedding(batch)[0], rtol=0, atol=1e-12)


def test_padding_id_is_not_learned():
    ours = model()
    batch = Batch(torch.zeros(2, 3, dtype=torch.int64), None, torch.empty(2))
    ours(batch)[0].square().sum().backward()
    assert not ours.encoder.weight[0].any()
    assert not ours.encoder.weight.grad.any()


@pytest.mark.parametrize("option", ["dropout", "input_dropout", "output_dropout"])
def test_dropout_only_in_training(option):
    ours = model(depth=2, **{option: 0.5})
    batch = ragged([3, 7, 1])
    plain = model(depth=2)(batch)[0]
    assert not torch.equal(ours(batch)[0], plain)
    assert torch.equal(ours.eval()(batch)[0], plain)


def test_dropout_needs_two_layers():
    batch = ragged([3, 7, 1])
    assert torch.equal(model(dropout=0.5)(batch)[0], model()(batch)[0])


def test_truncation_cuts_the_gradient_and_nothing_else():
    """With ``truncate=2`` the last of 5 steps reaches back to the fifth only, the start of its own piece."""
    x = torch.randn(1, 5, 1, dtype=torch.float64, requires_grad=True)
    batch = Batch(x, None, torch.empty(1))
    whole = model(InputSpec("features", 1))(batch)[0]
    cut = model(InputSpec("features", 1), truncate=2)(batch)[0]
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(cut.sum(), x)
    assert gradient.flatten().bool().tolist() == [False, False, False, False, True]


def test_reports_which_kernel_ran():
    ours = model(kernel="loop")
    assert ours.kernel_report() == {}
    ours(ragged([2, 3]))
    assert ours.kernel_report() == {"kernel": "loop", "reason": "asked for"}


@pytest.mark.parametrize("kernel", ["loop", "vendor"])
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any), size=st.integers(1, 9))
@settings(max_examples=10)
def test_reading_in_chunks_is_reading_the_whole(pooling, kernel, lengths, size):
    batch, options = ragged(lengths), {"pooling": pooling, "depth": 2, "kernel": kernel}
    whole, state = model(cell=gru, embedding_size=4, **options)(batch)
    chunked, end = model(cell=gru, embedding_size=4, truncate=size, **options)(batch)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-12)
    for mine, theirs in zip(end, state, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_the_gradient_is_that_of_cutting_between_chunks(pooling):
    """By hand: each chunk from the detached state of the previous one, and all outputs pooled at once."""
    batch = ragged([7, 3, 5, 0])
    ours, hand = (
        model(cell=gru, embedding_size=4, pooling=pooling, truncate=3),
        model(cell=gru, embedding_size=4, pooling=pooling),
    )
    ours(batch)[0].square().sum().backward()
    x, state, outputs = hand.encoder(batch.inputs.T), None, []
    for begin in range(0, 7, 3):
        left = (batch.lengths - begin).clamp(0, len(x[begin : begin + 3]))
        y, state = hand.recurrent(x[begin : begin + 3], state, left)
        state = tuple(each.detach() for each in state)
        outputs.append(y)
    hand.head(hand.pool(torch.cat(outputs), batch.lengths)[0]).square().sum().backward()
    for (name, mine), (_, theirs) in zip(ours.named_parameters(), hand.named_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-12, msg=name)


def test_dropout_draws_the_same_when_a_chunk_is_computed_again(monkeypatch):
    """Gradients equal those of one pass without recomputation."""
    batch, found = ragged([8, 5, 8]), []
    for keep in (False, True):
        if keep:
            monkeypatch.setattr("seqlab.recurrence.chunks.checkpoint", lambda f, *inputs, use_reentrant: f(*inputs))
        ours = model(cell=gru, embedding_size=4, truncate=3, input_dropout=0.5, pooling="mean")
        torch.manual_seed(3)
        ours(batch)[0].square().sum().backward()
        found.append([parameter.grad for parameter in ours.parameters()])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_memory_is_that_of_a_chunk_not_of_the_text():
    """With chunks of 50 steps, the tensors saved for the gradient of 4,000 steps take less than a twentieth."""
    batch, saved = ragged([4000, 3999]), {}
    for truncate in (0, 50):
        ours = model(cell=gru, embedding_size=4, truncate=truncate, kernel="vendor", pooling="mean")
        sizes = saved[truncate] = []

        def save(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            outputs, _ = ours(batch)
        outputs.sum().backward()
    assert sum(saved[50]) < sum(saved[0]) / 20


def test_padding_is_read_if_asked_for():
    """``output[:, -1]`` of ``nn.GRU`` over padded rows, a common bug."""
    ours = model(cell=gru, embedding_size=4, read_padding=9)
    batch = ragged([3, 7])
    theirs = nn.GRU(4, 5, batch_first=True).double()
    cell = ours.recurrent.cells[0]
    for name, part in (("ih", cell.from_input), ("hh", cell.from_state)):
        getattr(theirs, f"weight_{name}_l0").data = part.weight.data
        getattr(theirs, f"bias_{name}_l0").data = part.bias.data
    padded = nn.functional.pad(batch.inputs, (0, 2))
    table = ours.encoder.weight
    assert table[0].any()
    output, _ = theirs(nn.functional.embedding(padded, table))
    torch.testing.assert_close(ours(batch)[0], ours.head(output[:, -1]), rtol=0, atol=1e-12)
    alone = Batch(batch.inputs[:1, :3], None, batch.targets[:1])
    torch.testing.assert_close(ours(alone)[0], ours(batch)[0][:1], rtol=0, atol=1e-12)


def test_a_random_start_is_another_one_each_time():
    ours, batch = model(cell=gru, embedding_size=4, random_start=True, depth=2).eval(), ragged([3, 7])
    torch.manual_seed(0)
    first = ours(batch)[0]
    assert not torch.equal(ours(batch)[0], first)
    torch.manual_seed(0)
    assert torch.equal(ours(batch)[0], first)
    torch.manual_seed(0)
    start = (torch.stack([torch.randn(2, 5, dtype=torch.float64) for _ in range(2)]),)
    plain = model(cell=gru, embedding_size=4, depth=2).eval()
    torch.testing.assert_close(plain(batch, start)[0], first, rtol=0, atol=1e-12)


def test_the_embedding_has_the_standard_deviation_that_is_asked_for():
    """The other parameters are those of the default; padding stays zero, and one-hot inputs have no embedding."""
    many = InputSpec("tokens", 5_000)
    usual, small = model(many), model(many, embedding_std=0.1)
    assert usual.encoder.weight[1:].std().item() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(small.encoder.weight, 0.1 * usual.encoder.weight)
    others = [
        {name: each for name, each in one.named_parameters() if name != "encoder.weight"} for one in (usual, small)
    ]
    torch.testing.assert_close(*others, rtol=0, atol=0)
    assert not small.encoder.weight[0].any()
    onehot = [model(input="onehot", **options).state_dict() for options in ({}, {"embedding_std": 0.1})]
    torch.testing.assert_close(*onehot, rtol=0, atol=0)
