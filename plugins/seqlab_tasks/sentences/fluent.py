"""Name the language of a country that was told of long before."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Generator, Tensor

from seqlab_tasks.sentences.lexicon import Lexicon, clause
from seqlab_tasks.synthetic.generated import at_least, integers
from seqlab_tasks.synthetic.labelled import Labelled

_LANGUAGES = {
    "spain": "spanish", "germany": "german", "italy": "italian", "france": "french", "japan": "japanese",
    "turkey": "turkish", "poland": "polish", "vietnam": "vietnamese", "greece": "greek", "hungary": "hungarian",
    "finland": "finnish", "sweden": "swedish",
}  # fmt: skip
_COLOURS = {
    "sky": "blue", "grass": "green", "snow": "white", "coal": "black", "blood": "red", "lemon": "yellow",
    "chocolate": "brown", "carrot": "orange", "lavender": "purple", "ash": "grey", "flamingo": "pink",
    "honey": "golden",
}  # fmt: skip

LEXICON = Lexicon(
    {
        "speaker": ["i", "we"],
        "spent": ["spent", "passed"],
        "number": ["2", "3", "5", "7", "10", "12", "15", "20", "25", "30"],
        "unit": ["years", "months", "winters", "summers"],
        "in": ["in"],
        "country": list(_LANGUAGES),
        "end": [".", "!"],
        "person": ["they", "she", "he", "somebody", "everybody", "nobody", "you", "others"],
        "verb": [
            "waited",
            "sang",
            "slept",
            "laughed",
            "walked",
            "worked",
            "danced",
            "listened",
            "wrote",
            "cooked",
            "rested",
            "shouted",
            "smiled",
            "returned",
        ],
        "adverb": [
            "again",
            "slowly",
            "outside",
            "quietly",
            "early",
            "together",
            "badly",
            "often",
            "there",
            "upstairs",
            "alone",
            "later",
            "gladly",
            "once",
        ],
        "and": ["and"],
        "so": ["so"],
        "can": ["can", "could"],
        "speak": ["speak"],
        "fluent": ["fluent", "excellent", "perfect"],
        "the": ["the", "our"],
        "colour": ["colour", "hue", "shade"],
        "of": ["of"],
        "thing": list(_COLOURS),
        "is": ["is", "was"],
    }
)
"""No word of the sentences in the middle names a country or a language."""

_TOLD = ("speaker", "spent", "number", "unit", "in", "country", "end")
_ASKED = ("speaker", "can", "speak", "fluent")
_CONTROL = ("the", "colour", "of", "the", "thing", "is")
_COUNTRY, _THING = 5, -2
_SHORTEST, _LONGEST = 3, 9
"""Words of a sentence in the middle, its end included; the last one may be longer by what is left."""


@final
class Fluent(Labelled):
    r"""Name the language of a country that was told of long before.

    .. code-block:: text

        i spent 20 years in SPAIN . nobody walked outside . she sang again and waited . i can speak fluent ___   spanish

    the example by which lectures introduce long-term dependencies (deck 002 of those that seqlab was written for: "I
    spent 20 years in Spain ... I can speak fluent ___"). Between the two sentences stand others, drawn from a template,
    that name no country and no language, and end with the distance. With ``control`` the same sentences are followed by
    another question, whose cue is beside the blank, as in deck 002's "the colour of the sky is ___": what a model
    scores there says whether it can read such sentences at all. Chance is one in ``choices``.

    Args:
        sequence_length: words :math:`T` from the country to the blank: the language would be the :math:`T`-th word
            after the country; at least 6. The text has :math:`T + 5` words; with ``control`` two more.
        choices: countries, each with a language of its own (with ``control``: things, each with a colour); 2 to 12.
        control: ask for the colour of a thing that stands two words before the blank, whatever the distance is.
        **common: ``examples``, ``held_out``, ``split_seed``, ``fresh``, ``eval_lengths``.

    Raises:
        ValueError: an option is out of its range.
    """

    shortest = 6

    def __init__(self, sequence_length: int = 20, choices: int = 8, control: bool = False, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        at_least("choices", choices, 2)
        if choices > len(_LANGUAGES):
            raise ValueError(f"choices is {choices}; it must be at most {len(_LANGUAGES)}")
        self.choices, self.control = choices, control

    @property
    def symbols(self) -> Sequence[str]:
        """All words."""
        return LEXICON.words

    @property
    def labels(self) -> Sequence[str]:
        """The languages, or the colours."""
        return list((_COLOURS if self.control else _LANGUAGES).values())[: self.choices]

    @property
    def _cue(self) -> tuple[str, int]:
        return ("thing", _THING) if self.control else ("country", _COUNTRY)

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Draw token ids ``[count, length + 5]``, or ``[count, length + 7]`` with ``control``."""
        number = LEXICON.number
        told = torch.tensor([number[name] for name in _TOLD]).expand(count, -1)
        middle = self._middle(count, length - 6, generator)
        ids = LEXICON.words_of(torch.cat([told, middle], 1), generator)
        asked = torch.tensor([number[name] for name in (_CONTROL if self.control else _ASKED)]).expand(count, -1)
        ids = torch.cat([ids, LEXICON.words_of(asked, generator)], 1)
        for name, place in (("country", _COUNTRY), ("thing", _THING))[: 1 + self.control]:
            ids[:, place] = LEXICON.first(name) + integers(0, self.choices - 1, (count,), generator)
        return ids

    def _middle(self, count: int, room: int, generator: Generator) -> Tensor:
        """Draw the classes of so many words: sentences of 3 to 9 words, of which the last takes what is left."""
        number = LEXICON.number
        if room < _SHORTEST:
            return torch.tensor([number["and"], number["so"]][2 - room :], dtype=torch.int64).expand(count, -1)
        longs = integers(_SHORTEST, _LONGEST, (count, room // _SHORTEST + 1), generator)
        ends = longs.cumsum(1)
        ends = torch.where(ends > room - _SHORTEST, room, ends)
        place = torch.arange(room).expand(count, -1).contiguous()
        sentence = torch.searchsorted(ends, place, right=True)
        end = ends.gather(1, sentence)
        begin = torch.where(sentence > 0, ends.gather(1, (sentence - 1).clamp(min=0)), 0)
        index = place - begin - 1  # among the words between the person and the end
        words = clause(index, end - begin - 2, number["verb"], number["adverb"], number["and"])
        words = torch.where(index < 0, number["person"], words)
        return torch.where(place == end - 1, number["end"], words)

    def answer(self, inputs: Tensor) -> Tensor:
        """Look the cue up, ``[count]``."""
        name, place = self._cue
        return inputs[:, place] - LEXICON.first(name)

    def necessary(self, inputs: Tensor) -> Tensor:
        """The country, or with ``control`` the thing."""
        steps = inputs.shape[1]
        return (torch.arange(steps) == self._cue[1] % steps).expand(inputs.shape)

    def changed(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Put another word of the same class there."""
        new = LEXICON.others(inputs, generator)
        for name in ("country", "thing"):  # of those that occur
            first, shift = LEXICON.first(name), integers(1, self.choices - 1, tuple(inputs.shape), generator)
            new = torch.where(LEXICON.is_of(inputs, name), first + (inputs - first + shift) % self.choices, new)
        return torch.where(where, new, inputs)
