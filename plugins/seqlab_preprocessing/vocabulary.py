"""Words and their ids."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from seqlab_preprocessing.pipeline import FIRST, UNKNOWN, UNKNOWN_SYMBOL


@final
class Vocabulary:
    """Words by falling frequency, so that the first ids are the most frequent, behind some that every one has.

    Ids: 0 padding, 1 unknown, then ``reserved``, then the words; words of equal frequency in alphabetical order.

    Args:
        words: the words.
        reserved: tokens that have an id whether training showed them or not.
    """

    def __init__(self, words: Sequence[str] = (), reserved: Sequence[str] = ()) -> None:
        self.words = list(words)
        self.symbols = ("", UNKNOWN_SYMBOL, *reserved, *self.words)
        self.ids: Mapping[str, int] = {UNKNOWN_SYMBOL: UNKNOWN} | {
            symbol: index for index, symbol in enumerate(self.symbols[FIRST:], start=FIRST)
        }

    @staticmethod
    def choose(counts: Counter[str], reserved: Sequence[str], min_count: int, max_size: int | None) -> "Vocabulary":
        """Take the words that occur often enough, the most frequent ones if there are too many.

        Raises:
            ValueError: there is none.
        """
        own = {UNKNOWN_SYMBOL, *reserved}
        found = [word for word, count in counts.items() if count >= min_count and word not in own and _writable(word)]
        if not found:
            raise ValueError(f"no word occurs at least {min_count} times in the training split")
        found.sort(key=lambda word: (-counts[word], word))
        return Vocabulary(found[:max_size], reserved)

    def state_dict(self) -> dict[str, Any]:
        """Give the words: ``{"words": ["the", ...]}``."""
        return {"words": list(self.words)}

    @staticmethod
    def loaded(state: Any, reserved: Sequence[str], split: Callable[[str], list[str]]) -> "Vocabulary":
        """Make the vocabulary of a state.

        Args:
            state: what :meth:`state_dict` gave.
            reserved: as above.
            split: cuts a text into words; each of the state's words must be one.

        Raises:
            ValueError: it is no vocabulary.
        """
        if not isinstance(state, dict) or set(state) != {"words"}:
            raise ValueError("the state of a vocabulary must have words, and nothing else")
        words = state["words"]
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise ValueError("words must be a list of at least one word")
        if len({*words}) != len(words) or not {UNKNOWN_SYMBOL, *reserved}.isdisjoint(words):
            raise ValueError(f"words must have each word once, and none of {', '.join([UNKNOWN_SYMBOL, *reserved])}")
        if wrong := [word for word in words if not _writable(word) or split(word) != [word]]:
            raise ValueError(f"words has {wrong[0]!a}, which is no word to this pattern")
        return Vocabulary(words, reserved)


def _writable(word: str) -> bool:
    """Say whether a word can be written to a file: it has no lone surrogates."""
    return word.isascii() or not any("\ud800" <= character <= "\udfff" for character in word)
