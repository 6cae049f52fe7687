"""Expressions by Python's eval and by Deletang et al.'s grammar; the distribution of values by enumeration."""

import re
from collections import Counter
from fractions import Fraction
from functools import cache
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab_tasks.synthetic import ModularArithmetic


def sampled(task, count, length, seed=0):
    inputs = task.sequences(count, length, torch.Generator().manual_seed(seed))
    return [[task.symbols[token - 1] for token in row] for row in inputs.tolist()], task.answer(inputs).tolist()


@pytest.mark.parametrize("brackets", [False, True])
@given(length=st.integers(1, 60), modulus=st.integers(2, 12), seed=st.integers(0, 99))
def test_values_are_those_of_python(brackets, length, modulus, seed):
    task = ModularArithmetic(modulus=modulus, brackets=brackets)
    for symbols, target in zip(*sampled(task, 10, length, seed), strict=True):
        assert len(symbols) == (length if brackets else length | 1)
        assert eval(" ".join(symbols)) % modulus == target


def test_the_expressions_of_the_paper():
    """Deletang et al. give 1 + 2 * 3 = 2, 1 - 1 - 1 = 4 and 0 * 1 + 4 * 3 - 2 = 0, modulo 5."""
    task = ModularArithmetic()
    for text, value in (("1+2*3", 2), ("1-1-1", 4), ("0*1+4*3-2", 0)):
        assert int(task.answer(torch.tensor([[task.symbols.index(symbol) + 1 for symbol in text]]))) == value


def reduced(text):
    """Replace expressions by E, from the inside; a sign stands before a digit alone."""
    text = re.sub(r"(?<![\dE)])-\d", "E", text).replace(" ", "")
    text = re.sub(r"\d", "E", text)
    before = None
    while before != text:
        before = text
        text = re.sub(r"\(E\)|\(E[+*-]E\)", "E", text)
    return text


@given(length=st.integers(1, 60), seed=st.integers(0, 99))
def test_bracketed_expressions_follow_the_grammar(length, seed):
    for symbols, _ in zip(*sampled(ModularArithmetic(brackets=True), 10, length, seed), strict=True):
        assert reduced("".join(symbols)) == "E"


def test_lengths_of_operands_are_uniform():
    """Of 9 symbols, the left operand has 1 to 5, each within 4 standard deviations of its share."""
    rows, _ = sampled(ModularArithmetic(brackets=True), 10_000, 9)
    found = Counter()
    for symbols in rows:
        depth, place = 0, 1
        while depth or place == 1 or symbols[place] not in "+-*" or symbols[place - 1] in "(+-*":
            depth += {"(": 1, ")": -1}.get(symbols[place], 0)
            place += 1
        found[place - 1] += 1
    assert set(found) == {1, 2, 3, 4, 5}
    assert max(abs(count - 2000) for count in found.values()) < 4 * (2000 * 0.8) ** 0.5


@pytest.mark.parametrize(("modulus", "operators"), [(2, 4), (3, 3), (4, 2), (5, 1), (5, 2), (6, 2)])
def test_shares_without_brackets_by_enumeration(modulus, operators):
    digits = [str(digit) for digit in range(modulus)]
    counts = Counter()
    for numbers in product(digits, repeat=operators + 1):
        for signs in product("+-*", repeat=operators):
            counts[eval("".join(a + b for a, b in zip(numbers, [*signs, ""], strict=True))) % modulus] += 1
    expected = [counts[value] / counts.total() for value in range(modulus)]
    task = ModularArithmetic(sequence_length=2 * operators + 1, modulus=modulus)
    assert task.shares(2 * operators + 1) == pytest.approx(expected)
    assert task.bounds.chance == pytest.approx(max(expected))


@cache
def exactly(modulus, length):
    """The distribution of the value of a bracketed expression, by the grammar, in exact fractions."""
    if length < 5:
        return [Fraction(1, modulus)] * modulus
    found = [Fraction(0)] * modulus
    for left in range(1, length - 3):
        pairs = product(enumerate(exactly(modulus, left)), enumerate(exactly(modulus, length - 3 - left)))
        for (a, p), (b, q) in pairs:
            for value in (a + b, a - b, a * b):
                found[value % modulus] += p * q / 3 / (length - 4)
    return found


@pytest.mark.parametrize(("modulus", "length"), [(2, 5), (3, 9), (4, 12), (5, 20)])
def test_shares_with_brackets_by_the_grammar(modulus, length):
    task = ModularArithmetic(sequence_length=length, modulus=modulus, brackets=True)
    assert task.shares(length) == pytest.approx([float(share) for share in exactly(modulus, length)])


@pytest.mark.parametrize("brackets", [False, True])
@pytest.mark.parametrize("length", [3, 20])
def test_every_value_is_reached(brackets, length):
    _, targets = sampled(ModularArithmetic(brackets=brackets), 500, length)
    assert set(targets) == set(range(5))
