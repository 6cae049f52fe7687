"""Tell the number of a verb from its subject, past other nouns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Generator, Tensor

from seqlab import Examples, Ragged, Report
from seqlab_tasks.sentences.lexicon import Lexicon, clause
from seqlab_tasks.synthetic.generated import at_least, integers
from seqlab_tasks.synthetic.labelled import Labelled

_NOUNS = {
    "key": "keys", "cabinet": "cabinets", "child": "children", "teacher": "teachers", "mouse": "mice",
    "house": "houses",
    "boat": "boats", "painting": "paintings", "man": "men", "woman": "women", "tooth": "teeth", "knife": "knives",
    "letter": "letters", "bridge": "bridges", "farmer": "farmers", "wolf": "wolves", "garden": "gardens",
    "bottle": "bottles", "singer": "singers", "city": "cities", "box": "boxes", "leaf": "leaves", "mirror": "mirrors",
    "doctor": "doctors",
}  # fmt: skip
"""Singular and plural; no word is both."""

LEXICON = Lexicon(
    {
        "determiner": ["the", "my", "our", "his", "her", "their", "your"],
        "adjective": [
            "old",
            "small",
            "red",
            "quiet",
            "heavy",
            "strange",
            "bright",
            "narrow",
            "famous",
            "broken",
            "wooden",
            "lonely",
            "gentle",
            "dark",
            "tall",
            "round",
        ],
        "singular": list(_NOUNS),
        "plural": list(_NOUNS.values()),
        "preposition": ["near", "behind", "above", "below", "beside", "beyond", "opposite", "inside"],
        "participle": [
            "lost",
            "found",
            "forgotten",
            "painted",
            "washed",
            "moved",
            "hidden",
            "admired",
            "followed",
            "carried",
            "seen",
            "loved",
            "measured",
            "praised",
            "abandoned",
            "restored",
        ],
        "adverb": [
            "again",
            "slowly",
            "yesterday",
            "twice",
            "outside",
            "quietly",
            "early",
            "recently",
            "together",
            "badly",
            "once",
            "often",
            "there",
            "upstairs",
        ],
        "joint": ["and"],
    }
)
"""No word but the nouns tells a number: determiners go with both, and there is no verb."""

_PHRASE = ("preposition", "determiner", "singular")
SUBJECT = 2
"""Where the subject stands: behind a determiner and an adjective."""


@final
class Agreement(Labelled):
    r"""Tell whether the verb is to be singular or plural, from a subject some words before it.

    .. code-block:: text

        the old KEYS lost again and found near your CABINET washed early ___       keys → plural

    after Linzen, Dupoux & Goldberg 2016, "Assessing the ability of LSTMs to learn syntax-sensitive dependencies" (TACL
    4), who ask for the number of the verb (their number prediction) in sentences of Wikipedia; here they are drawn from
    a grammar. Nouns stand between subject and verb, each singular or plural by a coin of its own: were they always of
    the other number (attractors, in the paper), it would be enough to read the last of them. So nothing but the subject
    says anything of the verb, the number of the nearest noun is right in half of the cases, and a model that sees only
    the last :math:`n < T` words is at chance, 1/2. As in the paper, the trained model is also tested by the number of
    attractors (table ``further_tests``), where the nearest noun is always wrong if all attract.

    Args:
        sequence_length: :math:`T`: the verb would be the :math:`T`-th word after the subject; at least 3 times
            ``attractors``, and 1. The sentence has :math:`T + 2` words, without the verb.
        attractors: nouns between subject and verb, each with a chance of 1/2 of the other number.
        **common: ``examples``, ``held_out``, ``split_seed``, ``fresh``, ``eval_lengths``.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(self, sequence_length: int = 20, attractors: int = 1, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        at_least("attractors", attractors, 0)
        for name, length in (("sequence_length", sequence_length), *(("eval_lengths", n) for n in self.eval_lengths)):
            if length < 3 * attractors + 1:
                raise ValueError(f"{name} must be >= {3 * attractors + 1} with attractors={attractors}, got {length}")
        self.attractors = attractors

    @property
    def symbols(self) -> Sequence[str]:
        """All words."""
        return LEXICON.words

    @property
    def labels(self) -> Sequence[str]:
        """The numbers that a verb can have."""
        return ("singular", "plural")

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Draw token ids ``[count, length + 2]``: the sentence before its verb."""
        return LEXICON.words_of(self._classes(count, length, generator), generator)

    def _classes(self, count: int, length: int, generator: Generator) -> Tensor:
        """Draw the class of each word: phrases with a noun at random places, participles and adverbs between them."""
        number, room = LEXICON.number, length - 1
        left = room - 3 * self.attractors
        before = integers(0, left, (count, self.attractors), generator).sort(1).values  # words of clauses
        begins = before + 3 * torch.arange(self.attractors)
        place = torch.arange(room).expand(count, -1).contiguous()
        passed = torch.searchsorted(begins, place, right=True)
        edges = torch.cat([torch.full((count, 1), -3), begins, torch.full((count, 1), room)], 1)
        index = place - edges.gather(1, passed) - 3  # in the clause behind the last phrase; below 0 within the phrase
        long = edges.gather(1, passed + 1) - edges.gather(1, passed) - 3
        words = clause(index, long, number["participle"], number["adverb"], number["joint"])
        phrase = torch.tensor([number[name] for name in _PHRASE])
        words = torch.where(index < 0, phrase[index.clamp(max=-1) + 3], words)
        start = torch.tensor([number["determiner"], number["adjective"], number["singular"]]).expand(count, -1)
        classes = torch.cat([start, words], 1)
        plural = torch.rand(classes.shape, generator=generator) < 0.5
        return torch.where((classes == number["singular"]) & plural, number["plural"], classes)

    def answer(self, inputs: Tensor) -> Tensor:
        """Take the number of the subject, ``[count]``."""
        return LEXICON.is_of(inputs[:, SUBJECT], "plural").long()

    def necessary(self, inputs: Tensor) -> Tensor:
        """The subject."""
        return (torch.arange(inputs.shape[1]) == SUBJECT).expand(inputs.shape)

    def changed(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Put a noun of the other number there, or another word of the same class."""
        new = LEXICON.others(inputs, generator)
        count = LEXICON.count("singular")
        new = torch.where(LEXICON.is_of(inputs, "singular"), new + count, new)
        new = torch.where(LEXICON.is_of(inputs, "plural"), new - count, new)
        return torch.where(where, new, inputs)

    def attracting(self, inputs: Tensor) -> Tensor:
        """Count the nouns behind the subject that have the other number, ``[count]``."""
        nouns, plural = self._nouns(inputs)
        other = nouns & (plural != plural[:, SUBJECT : SUBJECT + 1])
        return other[:, SUBJECT:].sum(1)

    def nearest(self, inputs: Tensor) -> Tensor:
        """Take the number of the last noun, ``[count]``: the rule that attraction misleads."""
        nouns, plural = self._nouns(inputs)
        last = torch.where(nouns, torch.arange(inputs.shape[1]), -1).amax(1, keepdim=True)
        return plural.gather(1, last).squeeze(1).long()

    def _nouns(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        plural = LEXICON.is_of(inputs, "plural")
        return plural | LEXICON.is_of(inputs, "singular"), plural

    def splits(self) -> Mapping[str, Examples]:
        """Draw the splits, and for each number of attractors there can be the test sentences with so many of them."""
        made = dict(super().splits())
        sentences = made["test"].inputs
        assert isinstance(sentences, Ragged)
        inputs = sentences.values.view(len(sentences), -1)
        for count in range(self.attractors + 1) if self.attractors else ():
            generator = Generator().manual_seed(self.split_seed)
            changed = self.attracted(inputs, count, generator).flatten()
            made[f"{count} of {self.attractors} attract"] = Examples(
                Ragged(changed, sentences.lengths), made["test"].targets
            )
        return made

    def attracted(self, inputs: Tensor, count: int, generator: Generator) -> Tensor:
        """Let so many nouns behind the subject, chosen by chance, have the other number, and the rest its own."""
        nouns, plural = self._nouns(inputs)
        chances = torch.rand(inputs.shape, generator=generator).masked_fill(~nouns, 2.0)
        chances[:, SUBJECT] = 2.0
        other = chances.argsort(1).argsort(1) < count
        wanted = plural[:, SUBJECT : SUBJECT + 1] ^ other
        shift = LEXICON.count("singular") * (wanted.long() - plural.long())
        return torch.where(nouns, inputs + shift, inputs)

    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        """Make a table of the bounds, and one of what rules score that look at one noun."""
        nearest = 0.5 if self.attractors else 1.0
        rules = [
            {"rule": "the number of the subject", "accuracy": 1.0},
            {"rule": "the number of the nearest noun", "accuracy": nearest},
        ]
        return Report({**super().report(details, folder).tables, "rules": rules})
