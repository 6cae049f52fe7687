"""One token a word."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from seqlab import Ragged, register_export
from seqlab_preprocessing import standalone
from seqlab_preprocessing.chain import Chain
from seqlab_preprocessing.pipeline import UNKNOWN, UNKNOWN_SYMBOL, Pipeline, check_at_least, limits
from seqlab_preprocessing.steps.classes import JOINING
from seqlab_preprocessing.vocabulary import Vocabulary

Pattern: TypeAlias = Literal["words", "whitespace"]

END_OF_LINE = "<eos>"
_BATCH = 1 << 18  # words that are looked up together

_WORD = rf"\w+(?:{JOINING.one}+\w*|['’]\w+)*"  # letters, digits and _ with their marks; apostrophes inside
_OTHER = rf"\S{JOINING.one}*"


class Words(Pipeline):
    r"""Each word is a token; words that training did not show, and ``<unk>`` in a text, are one unknown token.

    Texts are brought to Unicode's NFC first. Ids: 0 padding, 1 unknown, then words by falling frequency; with
    ``end_of_line`` id 2 is ``<eos>``. Letter case stays: that is the step ``lower``'s.

    Args:
        steps: what is done to each text first, in this order: names of plugins in the entry-point group
            ``seqlab.steps``, such as ``lower``.
        pattern: what a word is. ``words``: letters, digits and ``_``, so that Vietnamese compounds stay whole, with
            apostrophes inside; any other character but blanks is a token by itself. ``whitespace``: all between blanks.
        end_of_line: whether a newline is the token ``<eos>``, as in language modelling, and not just a blank. Steps
            then see one line at a time.
        min_count: a word that training shows less often counts as unknown.
        max_size: how many words there may be, the most frequent ones; no limit if not given.

    Raises:
        ValueError: ``min_count`` or ``max_size`` is not positive, or a step is no function.
        UserError: there is no such step.
    """

    def __init__(
        self,
        steps: Sequence[str] = (),
        pattern: Pattern = "words",
        end_of_line: bool = False,
        min_count: int = 1,
        max_size: int | None = None,
    ) -> None:
        if pattern not in ("words", "whitespace"):
            raise ValueError(f"pattern is {pattern!r}; it must be words or whitespace")
        check_at_least("min_count", min_count, 1)
        check_at_least("max_size", max_size, 1)
        super().__init__(Chain(steps, by_line=end_of_line))
        self.pattern, self.end_of_line = pattern, end_of_line
        self.min_count, self.max_size = min_count, max_size
        self._reserved = (END_OF_LINE,) if end_of_line else ()
        whole = "|".join([UNKNOWN_SYMBOL, *self._reserved])
        self._word = re.compile(f"{_WORD}|{whole}|{_OTHER}") if pattern == "words" else None
        self._vocabulary = Vocabulary()

    def _split(self, text: str) -> list[str]:
        """Cut a clean text into words."""
        if self.end_of_line:
            text = text.replace("\n", f" {END_OF_LINE} ")
        return text.split() if self._word is None else self._word.findall(text)

    def fit(self, texts: Iterable[str]) -> None:
        """Count the words; reads the texts once and keeps none.

        Raises:
            ValueError: there is none.
        """
        counts: Counter[str] = Counter()
        for text in self.cleaned(texts):
            counts.update(self._split(text))
        self._vocabulary = Vocabulary.choose(counts, self._reserved, self.min_count, self.max_size)

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Look the words up, many at once."""
        self._check_fitted()
        find = self._vocabulary.ids.get
        lengths: list[int] = []
        ids = [np.zeros(0, np.int64)]
        for words in self._batches(texts, lengths):
            ids.append(np.fromiter(map(find, words, repeat(UNKNOWN)), np.int64, len(words)))
        return Ragged(torch.from_numpy(np.concatenate(ids)), torch.tensor(lengths, dtype=torch.int64))

    def _batches(self, texts: Sequence[str], lengths: list[int]) -> Iterator[list[str]]:
        batch: list[str] = []
        for text in self.cleaned(texts):
            words = self._split(text)
            lengths.append(len(words))
            batch += words
            if len(batch) > _BATCH:
                yield batch
                batch = []
        yield batch

    def decode(self, ids: Sequence[int]) -> str:
        """Give back the words of token ids with a blank between them, and ``<eos>`` as a newline.

        Raises:
            ValueError: an id is none of this vocabulary's.
        """
        table = self._vocabulary.symbols
        words = ["\ufffd" if index == UNKNOWN else table[index] for index in self._known(ids).tolist()]
        if not self.end_of_line:
            return " ".join(words)
        return "".join("\n" if word == END_OF_LINE else f"{word} " for word in words).replace(" \n", "\n").rstrip(" ")

    @property
    def symbols(self) -> tuple[str, ...]:
        """What each token id stands for: nothing, ``<unk>``, perhaps ``<eos>``, and the words."""
        self._check_fitted()
        return self._vocabulary.symbols

    @property
    def lossy(self) -> str:
        """Which of ``min_count`` and ``max_size`` make tokens unknown."""
        return limits(self.min_count, self.max_size)

    def _count(self) -> int:
        return len(self._vocabulary.symbols) if self._vocabulary.words else 0

    def standalone(self) -> dict[str, str] | None:
        """Write Python files that encode as this does."""
        known = ", ".join(map(repr, self._reserved))
        text = f'text.replace("\\n", " {END_OF_LINE} ")' if self.end_of_line else "text"
        return standalone.files(
            self.chain.steps,
            table=f'ids = {{symbol: index for index, symbol in enumerate([{known}] + state["words"], start=FIRST)}}',
            split=f"{text}.split()" if self._word is None else f"WORD.findall({text})",
            constants=None if self._word is None else {"WORD": self._word.pattern},
            by_line=self.end_of_line,
        )

    def state_dict(self) -> dict[str, Any]:
        """Give the vocabulary: ``{"words": ["the", ...]}``."""
        self._check_fitted()
        return self._vocabulary.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave.

        Raises:
            ValueError: it is no vocabulary of this pattern.
        """
        self._vocabulary = Vocabulary.loaded(state, self._reserved, self._split)


register_export(Words, Words.standalone)
