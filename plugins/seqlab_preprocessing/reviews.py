"""The words of reviews, cleaned."""

from collections.abc import Sequence
from typing import final

from seqlab_preprocessing.words import Pattern, Words

CHAIN = ("language:vi", "urls", "html", "punctuation", "digits", "emoji", "whitespace", "lower")


@final
class Reviews(Words):
    """Words of cleaned Vietnamese reviews: other languages are left out of training, dirt is taken out of the texts.

    The steps and their order are those of a lecture: language, 1 web addresses and HTML, 2 punctuation and digits,
    3 emoticons and flags, 4 blanks, 5 lower case. As punctuation goes before emoticons, those that are made of it are
    gone by then, but for their letters: ``:-D`` leaves a ``d``. To know them, put ``emoji`` before ``punctuation``.

    Args:
        steps: what is done to each text first, in this order; for English reviews, ``language:en`` comes first.
        pattern: what a word is, as in ``words``.
        min_count: a word that training shows less often counts as unknown.
        max_size: how many words there may be, the most frequent ones; no limit if not given.

    Raises:
        ValueError: ``min_count`` or ``max_size`` is not positive, or a step is no function.
        UserError: there is no such step, or a package is missing that a step needs.
    """

    def __init__(
        self,
        steps: Sequence[str] = CHAIN,
        pattern: Pattern = "words",
        min_count: int = 1,
        max_size: int | None = None,
    ) -> None:
        super().__init__(steps, pattern, min_count=min_count, max_size=max_size)
