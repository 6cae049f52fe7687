"""The preprocessor suite passes what is right and finds each fault."""

from types import MappingProxyType

import pytest

from seqlab import Preprocessor
from seqlab.testing import PreprocessorSuite, run_suite
from seqlab_preprocessing.characters import Characters
from seqlab_preprocessing.words import Words as SplitWords

from . import broken_vocabularies  # noqa: F401  # which registers the faults
from .broken_preprocessors import LosesTheLastWord
from .faults import FAULTS
from .good_preprocessors import Bytes, Words, lowered
from .odd_preprocessors import RIGHT

CAUGHT = [(fault, check) for fault, check in FAULTS if issubclass(fault, Preprocessor)]
ONE_IS_ENOUGH = {"same_ids_in_another_process": "it takes seconds, and tests/seqlab_preprocessing runs it"}


class TestFrequentCharacters(PreprocessorSuite):
    preprocessor = Characters
    options = MappingProxyType({"min_count": 4})
    texts = ("banana", "ananas", "nab a bus", "sub sex")
    lossy = "the characters e and x, which occur once, are unknown"
    skips = ONE_IS_ENOUGH


class TestBytes(PreprocessorSuite):
    preprocessor = Bytes
    skips = ONE_IS_ENOUGH


class TestWords(PreprocessorSuite):
    preprocessor = Words
    skips = ONE_IS_ENOUGH

    def normalised(self, text: str) -> str:
        return lowered(text)


@pytest.mark.parametrize(("broken", "check"), CAUGHT, ids=lambda value: getattr(value, "__name__", value))
def test_each_fault_is_found(broken, check):
    class Faulty(TestWords):
        skips = MappingProxyType({})
        preprocessor = staticmethod(lambda: broken(5)) if check == "constructor_needs_nothing" else broken

    results = {outcome.check: outcome for outcome in run_suite(Faulty, check)}
    assert results[check].result == "failed"
    assert results[check].detail


def test_every_check_can_fail():
    assert {check for _, check in CAUGHT} == set(PreprocessorSuite.checks())


def test_a_reason_to_lose_something_skips_what_compares_texts():
    results = {outcome.check: outcome for outcome in run_suite(TestFrequentCharacters)}
    assert [name for name, outcome in results.items() if outcome.result == "failed"] == []
    assert results["texts_come_back"].detail == TestFrequentCharacters.lossy


def test_each_check_says_what_it_demands():
    assert all(PreprocessorSuite.checks().values())


@pytest.mark.parametrize("right", RIGHT, ids=lambda right: right.__name__)
def test_odd_ones_that_are_right_pass(right):
    """As ``seqlab check`` runs them: nothing is said of them but by the preprocessor itself."""

    class Odd(PreprocessorSuite):
        preprocessor = right

    assert [outcome for outcome in run_suite(Odd) if outcome.result == "failed"] == []


@pytest.mark.parametrize("options", [{"max_size": 20}, {"min_count": 4}])
@pytest.mark.parametrize("kind", [Characters, SplitWords], ids=lambda kind: kind.__name__)
def test_limited_vocabularies_pass(kind, options):
    class Limited(PreprocessorSuite):
        preprocessor = kind
        skips = ONE_IS_ENOUGH

    Limited.options = options
    results = {outcome.check: outcome for outcome in run_suite(Limited)}
    assert [name for name, outcome in results.items() if outcome.result == "failed"] == []
    (name,) = options
    assert name in results["texts_come_back"].detail


@pytest.mark.parametrize("options", [{"steps": ["ascii"]}, {"min_count": 3}])
def test_normalising_that_nobody_declared_is_no_fault(options):
    """As ``seqlab check`` runs it: what comes back has the same ids, and the reader is told of it."""

    class Undeclared(PreprocessorSuite):
        preprocessor = Characters
        skips = ONE_IS_ENOUGH

    Undeclared.options = options
    results = {outcome.check: outcome for outcome in run_suite(Undeclared)}
    assert [name for name, outcome in results.items() if outcome.result == "failed"] == []
    assert ("comes back as 'naive cafe'" in results["texts_come_back"].detail) == ("steps" in options)


def test_what_comes_back_with_other_ids_is_a_fault_without_any_declaration():
    class Faulty(PreprocessorSuite):
        preprocessor = LosesTheLastWord

    results = {outcome.check: outcome for outcome in run_suite(Faulty, "texts_come_back")}
    assert "which has other ids" in results["texts_come_back"].detail
