"""Word tokens."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, ClassVar, Literal, TypeAlias, final

import numpy as np
import torch

from seqlab import Choice, Ragged, SearchSpace, register_export
from seqlab_preprocessing import standalone
from seqlab_preprocessing.pipeline import FIRST, STEPS, UNKNOWN, UNKNOWN_SYMBOL, Chain, Pipeline
from seqlab_preprocessing.steps import JOINING

Pattern: TypeAlias = Literal["words", "whitespace"]

END_OF_LINE = "<eos>"
_BATCH = 1 << 18  # words that are looked up together

_WORD = rf"\w+(?:{JOINING.one}+\w*|['’]\w+)*"  # letters, digits and _ with their marks; apostrophes inside
_OTHER = rf"\S{JOINING.one}*"


class Words(Pipeline):
    r"""Word tokens.

    Texts are normalised to NFC first. Ids: 0 padding, 1 unknown (words that do not occur in training, and ``<unk>`` in
    a text), then words by falling frequency, those of equal frequency in alphabetical order; with ``end_of_line`` id 2
    is ``<eos>``. Case is kept; the step ``lower`` removes it.

    Args:
        steps: text-cleaning steps, applied in this order: plugins in the entry-point group ``seqlab.steps``, such as
            ``lower``.
        pattern: definition of a word. ``words``: letters, digits and ``_``, so that Vietnamese compounds stay whole,
            with apostrophes inside; any other character but white space is a token. ``whitespace``: everything between
            white space, the default for ``task.source=ptb`` and ``wikitext-2``.
        end_of_line: whether a newline is the token ``<eos>``, as in language modelling, and not just white space; the
            default for ``task.source=ptb`` and ``wikitext-2``. Steps then see one line at a time.
        min_count: minimum count of a word in training; rarer ones are unknown.
        max_size: maximum number of words, the most frequent ones; ``None``: no limit.

    Raises:
        ValueError: ``min_count`` or ``max_size`` is not positive, or a plugin is not a step.
        UserError: a step does not exist.
    """

    from_task: ClassVar[Sequence[str]] = ("steps", "pattern", "end_of_line", "min_count")

    @classmethod
    def search_space(cls) -> SearchSpace:
        """Return case and Unicode steps, and the least count of a word."""
        return {"steps": STEPS, "min_count": Choice((1, 2, 3))}

    def __init__(
        self,
        steps: Sequence[str] = (),
        pattern: Pattern = "words",
        end_of_line: bool = False,
        min_count: int = 1,
        max_size: int | None = None,
    ) -> None:
        if pattern not in ("words", "whitespace"):
            raise ValueError(f"pattern must be words or whitespace, got {pattern!r}")
        super().__init__(Chain(steps, by_line=end_of_line), min_count, max_size)
        self.pattern, self.end_of_line = pattern, end_of_line
        self._reserved = (END_OF_LINE,) if end_of_line else ()
        whole = "|".join([UNKNOWN_SYMBOL, *self._reserved])
        self._word = re.compile(f"{_WORD}|{whole}|{_OTHER}") if pattern == "words" else None
        self._learn([])

    def _learn(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self._symbols = ("", UNKNOWN_SYMBOL, *self._reserved, *self._words)
        self._ids = {UNKNOWN_SYMBOL: UNKNOWN}
        self._ids |= {symbol: index for index, symbol in enumerate(self._symbols[FIRST:], start=FIRST)}

    def _split(self, text: str) -> list[str]:
        """Split a clean text into words."""
        if self.end_of_line:
            text = text.replace("\n", f" {END_OF_LINE} ")
        return text.split() if self._word is None else self._word.findall(text)

    def fit(self, texts: Iterable[str]) -> None:
        """Count the words; reads the texts once and keeps none.

        Raises:
            ValueError: no word occurs often enough.
        """
        counts: Counter[str] = Counter()
        for text in self.cleaned(texts):
            counts.update(self._split(text))
        for symbol in (UNKNOWN_SYMBOL, *self._reserved):
            counts.pop(symbol, None)
        found = [word for word, count in counts.items() if count >= self.min_count and _writable(word)]
        if not found:
            hint = "; lower min_count" if self.min_count > 1 else ""
            raise ValueError(f"no word occurs at least {self.min_count} times in the training split{hint}")
        found.sort(key=lambda word: (-counts[word], word))
        self._learn(found[: self.max_size])

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Encode texts by look-up of many words at once."""
        self._check_fitted()
        find = self._ids.get
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
        """Return the words of token ids, separated by spaces, with ``<eos>`` as a newline."""
        words = ["\ufffd" if index == UNKNOWN else self._symbols[index] for index in self._known(ids).tolist()]
        if not self.end_of_line:
            return " ".join(words)
        return "".join("\n" if word == END_OF_LINE else f"{word} " for word in words).replace(" \n", "\n").rstrip(" ")

    @property
    def symbols(self) -> tuple[str, ...]:
        """Text of each token id: empty for padding, ``<unk>``, ``<eos>`` if it has an id, and the words."""
        self._check_fitted()
        return self._symbols

    def _count(self) -> int:
        return len(self._symbols) if self._words else 0

    def standalone(self) -> dict[str, str] | None:
        """Return Python files that encode like this object with the standard library alone."""
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
        """Return the vocabulary: ``{"words": ["the", ...]}``."""
        self._check_fitted()
        return {"words": list(self._words)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        if not isinstance(state, dict) or set(state) != {"words"}:
            raise ValueError("the state of a vocabulary must have the key words only")
        words, reserved = state["words"], (UNKNOWN_SYMBOL, *self._reserved)
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise ValueError("words must be a list of at least one word")
        if len({*words}) != len(words) or not {*reserved}.isdisjoint(words):
            raise ValueError(f"words must be distinct, without {', '.join(reserved)}")
        if wrong := [word for word in words if not _writable(word) or self._split(word) != [word]]:
            raise ValueError(f"words must match pattern={self.pattern}, got {wrong[0]!a}")
        self._learn(words)


register_export(Words, Words.standalone)


def _writable(word: str) -> bool:
    """Return whether a word has no lone surrogates, so that a file can hold it."""
    return word.isascii() or not any("\ud800" <= character <= "\udfff" for character in word)


REVIEW_STEPS = ("language:vi", "urls", "html", "punctuation", "digits", "emoji", "whitespace", "lower")


@final
class Reviews(Words):
    """Word tokens of cleaned Vietnamese reviews.

    Texts of other languages are left out of training; web addresses, HTML, punctuation, digits, emoji and case are
    removed. Because punctuation goes before emoji, emoticons leave their letters: ``:-D`` becomes ``d``. To remove
    them whole, put ``emoji`` before ``punctuation``.

    Args:
        steps: text-cleaning steps, applied in this order; for English reviews, begin with ``language:en``.
        pattern: definition of a word, as in ``words``.
        min_count: minimum count of a word in training; rarer ones are unknown.
        max_size: maximum number of words, the most frequent ones; ``None``: no limit.

    Raises:
        ValueError: ``min_count`` or ``max_size`` is not positive, or a plugin is not a step.
        UserError: a step does not exist, or needs a package that is not installed.
    """

    from_task = ()

    @classmethod
    def search_space(cls) -> SearchSpace:
        """Return the least count of a word."""
        return {"min_count": Choice((1, 2, 3))}

    def __init__(
        self,
        steps: Sequence[str] = REVIEW_STEPS,
        pattern: Pattern = "words",
        min_count: int = 1,
        max_size: int | None = None,
    ) -> None:
        super().__init__(steps, pattern, min_count=min_count, max_size=max_size)
