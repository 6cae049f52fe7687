"""Long sequences read chunk by chunk, and the two slips of deck 003."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from seqlab import Batch, InputSpec
from seqlab_cells.gru import GRU
from seqlab_models.recurrent import RecurrentModel

SYMBOLS = 11


def model(kernel="loop", **options):
    torch.manual_seed(0)
    inputs = InputSpec("tokens", SYMBOLS)
    head = partial(nn.Linear, out_features=3)
    return RecurrentModel(inputs, head, False, lambda size: GRU(size, 5), kernel, embedding_size=4, **options).double()


def ragged(lengths, seed=1):
    lengths = torch.tensor(lengths)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, SYMBOLS, (len(lengths), int(lengths.max())), generator=generator)
    return Batch(ids.masked_fill(torch.arange(ids.shape[1]) >= lengths.unsqueeze(1), 0), lengths, torch.zeros(3))


@pytest.mark.parametrize("kernel", ["loop", "vendor"])
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any), size=st.integers(1, 9))
@settings(max_examples=10)
def test_reading_in_chunks_is_reading_the_whole(pooling, kernel, lengths, size):
    batch, options = ragged(lengths), {"pooling": pooling, "depth": 2, "kernel": kernel}
    whole, state = model(**options)(batch)
    chunked, end = model(truncate=size, **options)(batch)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-12)
    for mine, theirs in zip(end, state, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_the_gradient_is_that_of_cutting_between_chunks(pooling):
    """By hand: each chunk from the detached state of the one before it, and all outputs pooled at once."""
    batch = ragged([7, 3, 5, 0])
    ours, hand = model(pooling=pooling, truncate=3), model(pooling=pooling)
    ours(batch)[0].square().sum().backward()
    x, state, outputs = hand.encoder(batch.inputs.T), None, []
    for begin in range(0, 7, 3):
        left = (batch.lengths - begin).clamp(0, len(x[begin : begin + 3]))
        y, state = hand.recurrent(x[begin : begin + 3], state, left)
        state = tuple(leaf.detach() for leaf in state)
        outputs.append(y)
    hand.head(hand.pool(torch.cat(outputs), batch.lengths)[0]).square().sum().backward()
    for (name, mine), (_, theirs) in zip(ours.named_parameters(), hand.named_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-12, msg=name)


def test_dropout_draws_the_same_when_a_chunk_is_computed_again(monkeypatch):
    """Gradients are those of one pass that keeps everything."""
    batch, found = ragged([8, 5, 8]), []
    for keep in (False, True):
        if keep:
            monkeypatch.setattr("seqlab_models.recurrent.checkpoint", lambda f, *inputs, use_reentrant: f(*inputs))
        ours = model(truncate=3, input_dropout=0.5, pooling="mean")
        torch.manual_seed(3)
        ours(batch)[0].square().sum().backward()
        found.append([parameter.grad for parameter in ours.parameters()])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


class Kept:
    """Counts the bytes that autograd keeps for the way back."""

    def __init__(self):
        self.bytes = 0

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.keep, lambda tensor: tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)

    def keep(self, tensor):
        self.bytes += tensor.numel() * tensor.element_size()
        return tensor


def test_memory_is_that_of_a_chunk_not_of_the_text():
    """What is kept for the gradient of 4,000 steps: less than a twentieth when they are read 50 at a time."""
    batch = ragged([4000, 3999])
    kept = []
    for truncate in (0, 50):
        ours = model(truncate=truncate, kernel="vendor", pooling="mean")
        with Kept() as found:
            outputs, _ = ours(batch)
        outputs.sum().backward()
        kept.append(found.bytes)
    assert kept[1] < kept[0] / 20


def test_the_padding_is_read_where_a_slip_is_asked_for():
    """``output[:, -1]`` of ``nn.GRU`` over padded rows, as deck 003 has it; every row's length matters then."""
    ours = model(read_padding=9)
    batch = ragged([3, 7])
    theirs = nn.GRU(4, 5, batch_first=True).double()
    cell = ours.recurrent.cells[0]
    for name, part in (("ih", cell.from_input), ("hh", cell.from_state)):
        getattr(theirs, f"weight_{name}_l0").data = part.weight.data
        getattr(theirs, f"bias_{name}_l0").data = part.bias.data
    padded = nn.functional.pad(batch.inputs, (0, 2))
    table = ours.encoder.weight
    assert table[0].any(), "the padding has a vector"
    output, _ = theirs(nn.functional.embedding(padded, table))
    torch.testing.assert_close(ours(batch)[0], ours.head(output[:, -1]), rtol=0, atol=1e-12)
    alone = Batch(batch.inputs[:1, :3], None, batch.targets[:1])
    torch.testing.assert_close(ours(alone)[0], ours(batch)[0][:1], rtol=0, atol=1e-12)


def test_a_random_start_is_another_one_each_time():
    ours, batch = model(random_start=True, depth=2).eval(), ragged([3, 7])
    torch.manual_seed(0)
    first = ours(batch)[0]
    assert not torch.equal(ours(batch)[0], first)
    torch.manual_seed(0)
    assert torch.equal(ours(batch)[0], first)
    torch.manual_seed(0)
    start = (torch.stack([torch.randn(2, 5, dtype=torch.float64) for _ in range(2)]),)
    plain = model(depth=2).eval()
    torch.testing.assert_close(plain(batch, start)[0], first, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("options", "per_step"), [({"read_padding": -1}, False), ({"read_padding": 5}, True)])
def test_padding_cannot_be_read_everywhere(options, per_step):
    with pytest.raises(ValueError, match=f"read_padding is {options['read_padding']}"):
        RecurrentModel(
            InputSpec("tokens", 5),
            lambda size: nn.Linear(size, 2),
            per_step,
            lambda size: GRU(size, 3),
            "loop",
            **options,
        )
