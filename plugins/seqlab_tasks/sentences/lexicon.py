"""A closed vocabulary: classes of words, whose members can stand for one another."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Generator, Tensor


@final
class Lexicon:
    """Words by class, with token ids from 1 on that are contiguous within a class.

    Args:
        classes: the words of each class, by its name.

    Raises:
        ValueError: a word is in it twice, so that its id would say too little.
    """

    def __init__(self, classes: Mapping[str, Sequence[str]]) -> None:
        self.words = tuple(word for members in classes.values() for word in members)
        if doubles := {word for word in self.words if self.words.count(word) > 1}:
            raise ValueError(f"words that are in the lexicon twice: {', '.join(sorted(doubles))}")
        self.number = {name: index for index, name in enumerate(classes)}
        self.size = torch.tensor([len(members) for members in classes.values()])
        self.low = 1 + self.size.cumsum(0) - self.size
        self._class = torch.cat(
            [torch.zeros(1, dtype=torch.int64), torch.arange(len(classes)).repeat_interleave(self.size)]
        )

    def first(self, name: str) -> int:
        """Give the least id of a class; that of its word, where it has one word."""
        return int(self.low[self.number[name]])

    def count(self, name: str) -> int:
        """Count the words of a class."""
        return int(self.size[self.number[name]])

    def is_of(self, ids: Tensor, name: str) -> Tensor:
        """Say which ids are words of a class."""
        return (ids >= self.first(name)) & (ids < self.first(name) + self.count(name))

    def words_of(self, classes: Tensor, generator: Generator) -> Tensor:
        """Draw a word for each number of a class, each of the class as often."""
        share = torch.rand(classes.shape, generator=generator)
        return self.low[classes] + (share * self.size[classes]).long()

    def others(self, ids: Tensor, generator: Generator) -> Tensor:
        """Draw for each word another one of its class; the word itself, where it is alone there."""
        classes = self._class[ids]
        low, size = self.low[classes], self.size[classes]
        shift = 1 + (torch.rand(ids.shape, generator=generator) * (size - 1)).long()
        return low + (ids - low + shift) % size


def clause(index: Tensor, length: Tensor, first: int, adverb: int, joint: int) -> Tensor:
    """Give the classes of a run of words: a verb, an adverb, a joint, a verb, ..., an adverb in place of a last joint.

    Args:
        index: of each word in its run, from 0 on.
        length: of its run.
        first: the class of verbs, or of what stands for them.
        adverb: the class of adverbs.
        joint: the class of ``and``.
    """
    role = index % 3
    joins = (role == 2) & (index < length - 1)
    return torch.where(role == 0, first, torch.where(joins, joint, adverb))
