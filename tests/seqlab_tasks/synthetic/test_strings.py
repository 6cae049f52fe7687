"""Rewritten strings by Python's slices, stacks by a list; the distribution of heights by enumeration."""

from collections import Counter
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab import Batch
from seqlab_tasks.synthetic import DuplicateString, OddsFirst, ReverseString, StackManipulation
from seqlab_tasks.synthetic.strings import stack_heights

REWRITTEN = {
    ReverseString: lambda string: string[::-1],
    DuplicateString: lambda string: string * 2,
    OddsFirst: lambda string: string[::2] + string[1::2],
}


def sampled(task, count, length, seed=0):
    """Symbols, and labels of the steps that have one, in order; these steps are the last ones."""
    inputs = task.sequences(count, length, torch.Generator().manual_seed(seed))
    rows = [[task.symbols[token - 1] for token in row] for row in inputs.tolist()]
    return rows, task.answer(inputs)


@pytest.mark.parametrize("kind", REWRITTEN)
@given(length=st.integers(1, 30), choices=st.integers(2, 12), seed=st.integers(0, 99))
def test_strings_are_rewritten(kind, length, choices, seed):
    task = kind(choices=choices)
    rows, targets = sampled(task, 10, length, seed)
    for symbols, target in zip(rows, targets.tolist(), strict=True):
        string, written = symbols[:length], REWRITTEN[kind](symbols[:length])
        assert "_" not in string
        assert symbols[length:] == ["_"] * len(written)
        assert target[:length] == [-1] * length
        assert [task.labels[label] for label in target[length:]] == written
    scores = torch.nn.functional.one_hot(targets.clamp(min=0), choices)
    assert task.decode(scores)[0].split() == REWRITTEN[kind](rows[0][:length])


def popped(symbols):
    """Execute the instructions with a list, and empty it from the top."""
    stack = []
    for symbol in symbols:
        if symbol == "-":
            del stack[-1:]
        else:
            stack.append(symbol[-1])
    return [*stack[::-1], "."]


@given(length=st.integers(1, 40), seed=st.integers(0, 99))
def test_stacks_are_those_of_a_list(length, seed):
    task = StackManipulation()
    rows, targets = sampled(task, 20, length, seed)
    for symbols, target in zip(rows, targets.tolist(), strict=True):
        assert symbols[length:] == ["_"] * (length + 1)
        assert target[:length] == [-1] * length
        expected = popped(symbols[:length])
        written, rest = target[length : length + len(expected)], target[length + len(expected) :]
        assert [task.labels[label] for label in written] == expected
        assert rest == [-1] * len(rest)


def test_the_stacks_of_the_paper():
    """Deletang et al. give 0110 PUSH 1 POP POP as 110, and 110 POP POP POP as empty."""
    task = StackManipulation()
    for text, content in (("0 1 1 0 +1 - -", "1 1 0 ."), ("1 1 0 - - -", ".")):
        symbols = text.split()
        inputs = torch.tensor([[task.symbols.index(symbol) + 1 for symbol in symbols] + [6] * (len(symbols) + 1)])
        labels = [task.labels[label] for label in task.answer(inputs)[0].tolist() if label >= 0]
        assert labels == content.split()


@pytest.mark.parametrize("length", [1, 2, 3, 6, 8])
def test_heights_by_enumeration(length):
    """All sizes of the initial stack, and all instructions."""
    expected = [0.0] * (length + 1)
    sizes = range(1, length) if length > 1 else (1,)
    for size in sizes:
        for instructions in product((-1, 1, 1), repeat=length - size):
            height = size
            for move in instructions:
                height = max(0, height + move)
            expected[height] += 1 / len(sizes) / 3 ** (length - size)
    assert stack_heights(length).tolist() == pytest.approx(expected)


def test_initial_stacks_have_uniform_sizes():
    """Within 4 standard deviations."""
    task = StackManipulation()
    inputs = task.sequences(10_000, 6, torch.Generator().manual_seed(0))[:, :6]
    sizes = Counter(((inputs <= 2).long().sum(1)).tolist())
    assert set(sizes) == {1, 2, 3, 4, 5}
    assert max(abs(count - 2000) for count in sizes.values()) < 4 * (2000 * 0.8) ** 0.5


def test_the_baseline_of_a_ragged_batch_is_that_of_each_row():
    task = StackManipulation()
    whole = task.baseline_outputs(Batch(torch.ones(2, 13, dtype=torch.int64), torch.tensor([13, 7]), torch.zeros(2)))
    for row, steps in enumerate((13, 7)):
        alone = task.baseline_outputs(Batch(torch.ones(1, steps, dtype=torch.int64), None, torch.zeros(1)))
        assert torch.equal(whole[row, :steps], alone[0])


@pytest.mark.parametrize("kind", [*REWRITTEN, StackManipulation])
def test_padding_counts_for_nothing(kind):
    """Loss and metrics of a padded batch of two lengths are the weighted mean of both, with NaN in the padding."""
    task, generator = kind(), torch.Generator().manual_seed(0)
    parts = [kind(sequence_length=length).draw(4, 0) for length in (5, 9)]
    steps = [part.targets.shape[1] for part in parts]
    outputs = [torch.randn(4, time, task.outputs, generator=generator) for time in steps]
    targets = torch.full((8, steps[1]), -1)
    padded = torch.full((8, steps[1], task.outputs), torch.nan)
    for index, (part, output) in enumerate(zip(parts, outputs, strict=True)):
        targets[4 * index : 4 * index + 4, : steps[index]] = part.targets
        padded[4 * index : 4 * index + 4, : steps[index]] = output
    counts = [int((part.targets >= 0).sum()) for part in parts]
    losses = [
        float(task.loss(output, Batch(output, None, part.targets))) for part, output in zip(parts, outputs, strict=True)
    ]
    expected = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
    assert float(task.loss(padded, Batch(padded, None, targets))) == pytest.approx(expected)
    metrics, separate = task.metrics(), task.metrics()
    metrics.update(padded, targets)
    for part, output in zip(parts, outputs, strict=True):
        separate.update(output, part.targets)
    together, apart = metrics.compute(), separate.compute()
    assert {name: float(value) for name, value in together.items()} == pytest.approx(
        {name: float(value) for name, value in apart.items()}
    )
