"""Every preprocessing here keeps the contract, with its defaults and with options that matter."""

from unittest import SkipTest

from seqlab.testing import PreprocessorSuite
from seqlab_preprocessing.bpe import BPE
from seqlab_preprocessing.characters import Characters
from seqlab_preprocessing.reviews import Reviews
from seqlab_preprocessing.steps.forms import normalised
from seqlab_preprocessing.words import Words


def _elsewhere(self):
    raise SkipTest("it takes seconds, and another suite here runs it")


class TestCharacters(PreprocessorSuite):
    preprocessor = Characters

    def normalised(self, text):
        return normalised("NFC", text)


class TestCharactersWithSteps(PreprocessorSuite):
    preprocessor = Characters
    test_same_ids_in_another_process = _elsewhere
    options = {"steps": ["nfkc", "emoji", "whitespace"], "max_size": 200}  # noqa: RUF012  # as a person writes it


class TestWords(PreprocessorSuite):
    preprocessor = Words

    def normalised(self, text):
        return " ".join(Words()._split(normalised("NFC", text)))


class TestWordsOfLines(PreprocessorSuite):
    preprocessor = Words
    test_same_ids_in_another_process = _elsewhere
    options = {"pattern": "whitespace", "end_of_line": True, "min_count": 2}  # noqa: RUF012  # as a person writes it

    def normalised(self, text):
        return "\n".join(" ".join(line.split()) for line in normalised("NFC", text).split("\n"))


class TestBPE(PreprocessorSuite):
    preprocessor = BPE
    options = {"vocabulary_size": 400}  # noqa: RUF012  # as a person writes it

    def normalised(self, text):
        return text


class TestReviews(PreprocessorSuite):
    preprocessor = Reviews
