"""Conformance of every preprocessor, with its defaults and with other options."""

from unittest import SkipTest

import pytest

from seqlab.testing import PreprocessorSuite
from seqlab_preprocessing.bpe import BPE
from seqlab_preprocessing.characters import Characters
from seqlab_preprocessing.steps import nfc
from seqlab_preprocessing.words import Reviews, Words


def _skipped(self):
    raise SkipTest("slow, and another suite here runs it")


class TestCharacters(PreprocessorSuite):
    preprocessor = Characters

    def normalised(self, text):
        return nfc(text)


class TestCharactersWithSteps(PreprocessorSuite):
    preprocessor = Characters
    test_same_ids_in_another_process = _skipped
    options = {"steps": ["nfkc", "emoji", "whitespace"], "max_size": 200}  # noqa: RUF012  # as in a user's suite


class TestWords(PreprocessorSuite):
    preprocessor = Words

    def normalised(self, text):
        return " ".join(Words()._split(nfc(text)))


class TestWordsOfLines(PreprocessorSuite):
    preprocessor = Words
    test_same_ids_in_another_process = _skipped
    options = {"pattern": "whitespace", "end_of_line": True, "min_count": 2}  # noqa: RUF012  # as in a user's suite

    def normalised(self, text):
        return "\n".join(" ".join(line.split()) for line in nfc(text).split("\n"))


class TestBPE(PreprocessorSuite):
    preprocessor = BPE
    options = {"vocabulary_size": 400}  # noqa: RUF012  # as in a user's suite

    def normalised(self, text):
        return text


class TestReviews(PreprocessorSuite):
    preprocessor = Reviews


@pytest.mark.parametrize("preprocessor", [Characters, Words, BPE])
def test_use_before_fitting(preprocessor):
    for use in (lambda p: p.size, lambda p: p.symbols, lambda p: p.decode([2]), lambda p: p.state_dict()):
        with pytest.raises(ValueError, match=r"fit\(\)"):
            use(preprocessor())
