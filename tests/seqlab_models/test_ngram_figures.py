"""The n-gram model against published figures, on the real data."""

import math
import os
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from seqlab import InputSpec, Ragged
from seqlab_models.ngram import NGram

from .ngrams import batch


@pytest.fixture(scope="module")
def data():
    if "SEQLAB_DATA" not in os.environ:
        pytest.skip("SEQLAB_DATA names no folder of real data")
    return Path(os.environ["SEQLAB_DATA"])


def bits(train, test, size, before=None, symbols=None, **options):
    """Bits per token of a test text, of which ``before`` is the token before the first, read in windows."""
    model = NGram(InputSpec("tokens", size, symbols), size, True, **options)
    model.prepare(lambda: Ragged(train, torch.tensor([len(train)])))
    total, state = 0.0, None
    for window in torch.cat([torch.tensor([before]), test]).unfold(0, 2, 1).split(500):
        outputs, state = model(batch(window[:, :1].t()), state)
        total += nn.functional.cross_entropy(outputs[0], window[:, 1], reduction="sum").item()
    return total / len(test) / math.log(2)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("reset", "known"), [("", 141.2), pytest.param("<eos>", 141.2, marks=pytest.mark.long)])
def test_penn_treebank(data, reset, known):
    """Mikolov's 141.2 (SRILM, 5-gram, modified Kneser-Ney), counting included, within a minute."""
    words = {}
    for split in ("train", "test"):
        lines = (data / "ptb" / f"ptb.{split}.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
        words[split] = [word for line in lines for word in [*line.split(), "<eos>"]]
    symbols = ("<pad>", "<unk>", *sorted({*words["train"]} - {"<unk>"}))
    number = {symbol: i for i, symbol in enumerate(symbols)}
    train, test = (torch.tensor([number[word] for word in words[split]]) for split in ("train", "test"))
    assert (len(train), len(test), len(symbols)) == (929_589, 82_430, 10_001)
    started = time.perf_counter()
    found = bits(train, test, len(symbols), number["<eos>"], symbols, order=5, reset=reset)
    assert 2**found == pytest.approx(known, abs=0.3)
    assert time.perf_counter() - started < 60


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("order", "known"), [(5, 2.366), (6, 2.344)])
def test_tiny_shakespeare(data, order, known):
    """Bits per character on the last 5 % after the first 90 %: not above those of one discount an order."""
    characters = (data / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    number = {symbol: i for i, symbol in enumerate(sorted(set(characters)), start=2)}
    ids = torch.tensor([number[symbol] for symbol in characters])
    train, test = ids[: len(ids) * 9 // 10], ids[len(ids) - len(ids) // 20 :]
    before = int(ids[len(ids) - len(ids) // 20 - 1])
    found = bits(train, test, len(number) + 2, before, order=order)
    assert found <= known
    assert found == pytest.approx({5: 2.337, 6: 2.286}[order], abs=0.002)
