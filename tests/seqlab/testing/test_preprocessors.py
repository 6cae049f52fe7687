"""The preprocessor suite passes what is right and finds each fault."""

from types import MappingProxyType

import pytest

from seqlab.testing import PreprocessorSuite, run_suite
from seqlab_preprocessing.characters import Characters
from seqlab_preprocessing.steps import ascii_fold

from .broken_preprocessors import CAUGHT
from .good_preprocessors import Bytes, Words, lowered

ONE_IS_ENOUGH = {"same_ids_in_another_process": "it takes seconds, and another suite here runs it"}


class TestCharacters(PreprocessorSuite):
    preprocessor = Characters


class TestFoldedCharacters(PreprocessorSuite):
    preprocessor = Characters
    options = MappingProxyType({"steps": ["ascii"]})
    skips = ONE_IS_ENOUGH

    def normalised(self, text: str) -> str:
        return ascii_fold(text)


class TestFrequentCharacters(PreprocessorSuite):
    preprocessor = Characters
    options = MappingProxyType({"min_count": 2})
    texts = ("banana", "ananas", "nab a bus", "sub s")
    lossy = "characters that occur once are unknown"
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
    """Not only is the check failed: what it says is one line with something to look for."""

    class Faulty(TestWords):
        skips = MappingProxyType({})
        preprocessor = staticmethod(lambda: broken(5)) if check == "constructor_needs_nothing" else broken

    results = {outcome.check: outcome for outcome in run_suite(Faulty, check)}
    assert results[check].result == "failed"
    assert len(results[check].detail) > 20


def test_every_check_can_fail():
    assert {check for _, check in CAUGHT} == set(PreprocessorSuite.checks())


def test_a_reason_to_lose_something_skips_what_compares_texts():
    results = {outcome.check: outcome for outcome in run_suite(TestFrequentCharacters)}
    assert [name for name, outcome in results.items() if outcome.result == "failed"] == []
    assert results["texts_come_back"].detail == "characters that occur once are unknown"


def test_each_check_says_what_it_demands():
    assert all(PreprocessorSuite.checks().values())
