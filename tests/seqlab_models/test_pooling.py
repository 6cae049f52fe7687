"""Attention against a loop, and pooling by chunks against pooling at once."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab_models.pooling import Attention, Pool

KINDS = ["last", "mean", "max", "attention"]


def ragged(lengths, features=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(max(lengths), len(lengths), features, generator=generator, dtype=torch.float64)
    lengths = torch.tensor(lengths)
    dead = torch.arange(len(outputs)).unsqueeze(1) >= lengths
    return outputs.masked_fill(dead.unsqueeze(2), 0), lengths, dead


def attention(features=3):
    torch.manual_seed(0)
    return Attention(features).double()


def by_loop(layer, outputs, lengths):
    """Attention row by row and step by step, in plain Python numbers."""
    rows = []
    for row, length in enumerate(lengths.tolist()):
        steps = [outputs[step, row] for step in range(length)]
        weights = [math.exp(layer.score(torch.tanh(layer.project(step))).item()) for step in steps]
        total = sum(weights)
        zero = outputs.new_zeros(outputs.shape[2])
        rows.append(sum((weight / total * step for weight, step in zip(weights, steps, strict=True)), zero))
    return torch.stack(rows)


@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(any))
def test_attention_is_the_loop(lengths):
    layer = attention()
    outputs, lengths, _ = ragged(lengths)
    pooled, weight = layer(outputs, lengths)
    torch.testing.assert_close(pooled, by_loop(layer, outputs, lengths), rtol=0, atol=1e-12)
    assert not pooled[lengths == 0].any()
    assert bool((weight[lengths == 0] == -torch.inf).all())


def test_attention_without_lengths_fills_all_steps():
    layer = attention()
    outputs, _, _ = ragged([4, 4])
    torch.testing.assert_close(layer(outputs, None)[0], layer(outputs, torch.tensor([4, 4]))[0])
    assert not layer(outputs[:0], None)[0].any()


def test_attention_does_not_see_padding():
    """NaN in the padding, and a row without steps, reach neither a value nor a gradient."""
    layer = attention()
    outputs, lengths, dead = ragged([5, 2, 0, 3])
    found = []
    for filler in (0.0, torch.nan, 1e30):
        x = outputs.masked_fill(dead.unsqueeze(2), filler).requires_grad_()
        layer.zero_grad()
        pooled, _ = layer(x, lengths)
        pooled.square().sum().backward()
        found.append([pooled.detach(), *(parameter.grad.clone() for parameter in layer.parameters()), x.grad])
    for other in found[1:]:
        for mine, theirs in zip(found[0], other, strict=True):
            assert bool(mine.isfinite().all())
            assert torch.equal(mine, theirs)
    assert not found[0][-1].masked_select(dead.unsqueeze(2)).any()


def test_attention_learns_to_find_a_step():
    """Of eight random steps the one with a mark decides; a mean cannot tell, attention learns to."""
    torch.manual_seed(0)
    layer, head = Attention(4), torch.nn.Linear(4, 2)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.02)
    for _ in range(200):
        x = torch.randn(8, 64, 4)
        marked = torch.randint(8, (64,))
        x[:, :, 0] = torch.nn.functional.one_hot(marked, 8).T * 3.0
        answer = (x[marked, torch.arange(64), 1] > 0).long()
        outputs = head(layer(x, None)[0])
        loss = torch.nn.functional.cross_entropy(outputs, answer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (outputs.argmax(1) == answer).double().mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any), size=st.integers(1, 10))
def test_chunks_join_to_the_whole(kind, lengths, size):
    torch.manual_seed(0)
    pool = Pool(kind, 3, 3).double()
    outputs, lengths, _ = ragged(lengths)
    whole, _ = pool(outputs, lengths)
    starts = range(0, len(outputs), size)
    parts = [pool(outputs[start : start + size], (lengths - start).clamp(0, size)) for start in starts]
    joined = pool.join(*(torch.stack(tensors) for tensors in zip(*parts, strict=True)))
    torch.testing.assert_close(joined, whole, rtol=0, atol=1e-12)
