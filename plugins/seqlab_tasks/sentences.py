"""English sentences from a grammar whose answer depends on one word at a distance: agreement, fluent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import Generator, Tensor

from seqlab import Examples, Ragged, Report
from seqlab.errors import check_range
from seqlab_tasks.synthetic.generated import MAX_SIZE, Labelled, integers


@final
class Lexicon:
    """Words by class, with consecutive token ids from 1 within each class.

    Args:
        classes: the words of each class, separated by spaces, by its name.

    Raises:
        ValueError: a word occurs twice.
    """

    def __init__(self, classes: Mapping[str, str]) -> None:
        members = [words.split() for words in classes.values()]
        self.words = tuple(word for words in members for word in words)
        if doubles := {word for word in self.words if self.words.count(word) > 1}:
            raise ValueError(f"words must be unique, got twice: {', '.join(sorted(doubles))}")
        self.number = {name: index for index, name in enumerate(classes)}
        self.size = torch.tensor([len(words) for words in members])
        self.low = 1 + self.size.cumsum(0) - self.size
        padding = torch.zeros(1, dtype=torch.int64)
        self._class = torch.cat([padding, torch.arange(len(classes)).repeat_interleave(self.size)])

    def first(self, name: str) -> int:
        """Return the smallest id of a class."""
        return int(self.low[self.number[name]])

    def count(self, name: str) -> int:
        """Return the number of words in a class."""
        return int(self.size[self.number[name]])

    def is_of(self, ids: Tensor, name: str) -> Tensor:
        """Return which ids belong to a class."""
        return (ids >= self.first(name)) & (ids < self.first(name) + self.count(name))

    def sample(self, classes: Tensor, generator: Generator) -> Tensor:
        """Sample a word uniformly from each class, given by its number."""
        share = torch.rand(classes.shape, generator=generator)
        return self.low[classes] + (share * self.size[classes]).long()

    def others(self, ids: Tensor, generator: Generator) -> Tensor:
        """Sample another word of the same class for each word; a word that is alone in its class stays."""
        classes = self._class[ids]
        low, size = self.low[classes], self.size[classes]
        shift = 1 + (torch.rand(ids.shape, generator=generator) * (size - 1)).long()
        return low + (ids - low + shift) % size


def clause(index: Tensor, length: Tensor, first: int, adverb: int, joint: int) -> Tensor:
    """Return the classes of words in a run: first, adverb, joint, first, ..., with an adverb instead of a last joint.

    ``index`` is that of each word in its run, from 0; ``length`` that of the run.
    """
    role = index % 3
    joins = (role == 2) & (index < length - 1)
    return torch.where(role == 0, first, torch.where(joins, joint, adverb))


_NOUNS = {
    "key": "keys", "cabinet": "cabinets", "child": "children", "teacher": "teachers", "mouse": "mice",
    "house": "houses", "boat": "boats", "painting": "paintings", "man": "men", "woman": "women", "tooth": "teeth",
    "knife": "knives", "letter": "letters", "bridge": "bridges", "farmer": "farmers", "wolf": "wolves",
    "garden": "gardens", "bottle": "bottles", "singer": "singers", "city": "cities", "box": "boxes", "leaf": "leaves",
    "mirror": "mirrors", "doctor": "doctors",
}  # fmt: skip
"""Singular and plural; no word is both."""

WORDS = Lexicon(
    {
        "determiner": "the my our his her their your",
        "adjective": (
            "old small red quiet heavy strange bright narrow famous broken wooden lonely gentle dark tall round"
        ),
        "singular": " ".join(_NOUNS),
        "plural": " ".join(_NOUNS.values()),
        "preposition": "near behind above below beside beyond opposite inside",
        "participle": (
            "lost found forgotten painted washed moved hidden admired followed carried seen loved measured praised"
            " abandoned restored"
        ),
        "adverb": (
            "again slowly yesterday twice outside quietly early recently together badly once often there upstairs"
        ),
        "joint": "and",
    }
)
"""Words of :class:`Agreement`. Only the nouns have a number: determiners go with both, and there is no verb."""

_PHRASE = ("preposition", "determiner", "singular")
SUBJECT = 2
"""Position of the subject, after a determiner and an adjective."""


@final
class Agreement(Labelled):
    r"""Classify whether the verb must be singular or plural, from a subject some words before it.

    .. code-block:: text

        the old KEYS lost again and found near your CABINET washed early ___       keys → plural

    After Linzen, Dupoux & Goldberg 2016, "Assessing the ability of LSTMs to learn syntax-sensitive dependencies" (TACL
    4), who predict the number of the verb in sentences of Wikipedia; here a grammar generates them. Nouns stand between
    subject and verb, each singular or plural with probability 1/2: if they always had the other number (attractors, in
    the paper), reading the last of them would be enough. So only the subject is informative, the number of the nearest
    noun is right in half of the cases, and a model that sees only the last :math:`n < T` words is no better than the
    baseline, 1/2. As in the paper, the trained model is also tested by the number of attractors (table
    ``further_tests``); if all nouns attract, the nearest one is always wrong.

    Args:
        sequence_length: :math:`T`: the verb would be the :math:`T`-th word after the subject; more than 3 times
            ``attractors``. The sentence has :math:`T + 2` words, without the verb.
        attractors: nouns between subject and verb, each with a chance of 1/2 of the other number.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    symbols = WORDS.words
    labels = ("singular", "plural")

    def __init__(self, sequence_length: int = 20, attractors: int = 1, **common: Any) -> None:
        check_range("attractors", attractors, 0, MAX_SIZE)
        self.shortest = 3 * attractors + 1
        given = (("sequence_length", sequence_length), *(("eval_lengths", n) for n in common.get("eval_lengths", ())))
        for name, length in given:
            if length < self.shortest:
                raise ValueError(f"{name} must be >= {self.shortest} with attractors={attractors}, got {length}")
        super().__init__(sequence_length, **common)
        self.attractors = attractors

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, length + 2]``: the sentence before its verb."""
        return WORDS.sample(self._classes(count, length, generator), generator)

    def _classes(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample the class of each word: phrases with a noun at random positions, participles and adverbs between."""
        number, room = WORDS.number, length - 1
        left = room - 3 * self.attractors
        before = integers(0, left, (count, self.attractors), generator).sort(1).values  # words of clauses
        begins = before + 3 * torch.arange(self.attractors)
        place = torch.arange(room).expand(count, -1).contiguous()
        passed = torch.searchsorted(begins, place, right=True)
        edges = torch.cat([torch.full((count, 1), -3), begins, torch.full((count, 1), room)], 1)
        index = place - edges.gather(1, passed) - 3  # in the clause after the last phrase; < 0 within the phrase
        long = edges.gather(1, passed + 1) - edges.gather(1, passed) - 3
        words = clause(index, long, number["participle"], number["adverb"], number["joint"])
        phrase = torch.tensor([number[name] for name in _PHRASE])
        words = torch.where(index < 0, phrase[index.clamp(max=-1) + 3], words)
        start = torch.tensor([number["determiner"], number["adjective"], number["singular"]]).expand(count, -1)
        classes = torch.cat([start, words], 1)
        plural = torch.rand(classes.shape, generator=generator) < 0.5
        return torch.where((classes == number["singular"]) & plural, number["plural"], classes)

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the number of the subject, ``[count]``."""
        return WORDS.is_of(inputs[:, SUBJECT], "plural").long()

    def relevant(self, inputs: Tensor) -> Tensor:
        """The subject."""
        return (torch.arange(inputs.shape[1]) == SUBJECT).expand(inputs.shape)

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace nouns by nouns of the other number, and other words by words of the same class."""
        new = WORDS.others(inputs, generator)
        count = WORDS.count("singular")
        new = torch.where(WORDS.is_of(inputs, "singular"), new + count, new)
        new = torch.where(WORDS.is_of(inputs, "plural"), new - count, new)
        return torch.where(where, new, inputs)

    def count_attractors(self, inputs: Tensor) -> Tensor:
        """Count the nouns after the subject that have the other number, ``[count]``."""
        nouns, plural = self._nouns(inputs)
        other = nouns & (plural != plural[:, SUBJECT : SUBJECT + 1])
        return other[:, SUBJECT:].sum(1)

    def nearest(self, inputs: Tensor) -> Tensor:
        """Return the number of the last noun, ``[count]``: the rule that attraction misleads."""
        nouns, plural = self._nouns(inputs)
        last = torch.where(nouns, torch.arange(inputs.shape[1]), -1).amax(1, keepdim=True)
        return plural.gather(1, last).squeeze(1).long()

    def _nouns(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        plural = WORDS.is_of(inputs, "plural")
        return plural | WORDS.is_of(inputs, "singular"), plural

    def splits(self) -> Mapping[str, Examples]:
        """Generate the splits, and for each possible number of attractors the test sentences with that number."""
        splits = dict(super().splits())
        sentences = splits["test"].inputs
        assert isinstance(sentences, Ragged)
        inputs = sentences.values.view(len(sentences), -1)
        for count in range(self.attractors + 1) if self.attractors else ():
            generator = Generator().manual_seed(self.split_seed)
            changed = self.attracted(inputs, count, generator).flatten()
            splits[f"{count} of {self.attractors} attract"] = Examples(
                Ragged(changed, sentences.lengths), splits["test"].targets
            )
        return splits

    def attracted(self, inputs: Tensor, count: int, generator: Generator) -> Tensor:
        """Give ``count`` random nouns after the subject the other number, and the rest the subject's."""
        nouns, plural = self._nouns(inputs)
        chances = torch.rand(inputs.shape, generator=generator).masked_fill(~nouns, 2.0)
        chances[:, SUBJECT] = 2.0
        other = chances.argsort(1).argsort(1) < count
        wanted = plural[:, SUBJECT : SUBJECT + 1] ^ other
        shift = WORDS.count("singular") * (wanted.long() - plural.long())
        return torch.where(nouns, inputs + shift, inputs).to(inputs.dtype)

    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        """Return a table of the bounds, and one of the accuracy of rules that use one noun."""
        rules = [
            {"rule": "the number of the subject", "accuracy": 1.0},
            {"rule": "the number of the nearest noun", "accuracy": 0.5 if self.attractors else 1.0},
        ]
        return Report({**super().report(details, folder).tables, "rules": rules})


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

FLUENT_WORDS = Lexicon(
    {
        "speaker": "i we",
        "spent": "spent passed",
        "number": "2 3 5 7 10 12 15 20 25 30",
        "unit": "years months winters summers",
        "in": "in",
        "country": " ".join(_LANGUAGES),
        "end": ". !",
        "person": "they she he somebody everybody nobody you others",
        "verb": ("waited sang slept laughed walked worked danced listened wrote cooked rested shouted smiled returned"),
        "adverb": ("again slowly outside quietly early together badly often there upstairs alone later gladly once"),
        "and": "and",
        "so": "so",
        "can": "can could",
        "speak": "speak",
        "fluent": "fluent excellent perfect",
        "the": "the our",
        "colour": "colour hue shade",
        "of": "of",
        "thing": " ".join(_COLOURS),
        "is": "is was",
    }
)
"""Words of :class:`Fluent`. The sentences in the middle name no country and no language."""

_TOLD = ("speaker", "spent", "number", "unit", "in", "country", "end")
_ASKED = ("speaker", "can", "speak", "fluent")
_CONTROL = ("the", "colour", "of", "the", "thing", "is")
_COUNTRY, _THING = 5, -2
_SHORTEST, _LONGEST = 3, 9
"""Words of a sentence in the middle, with its end; the last one may be longer."""


@final
class Fluent(Labelled):
    r"""Name the language of a country mentioned long before.

    .. code-block:: text

        i spent 20 years in SPAIN . nobody walked outside . she sang again and waited . i can speak fluent ___   spanish

    A common textbook example of long-term dependencies: "I spent 20 years in Spain ... I can speak fluent ___". Between
    the two sentences are template sentences that name no country and no language. With ``control`` the same sentences
    are followed by another question, whose cue is next to the blank ("the colour of the sky is ___"): its score shows
    whether a model can read such sentences at all. The baseline is one in ``choices``.

    Args:
        sequence_length: words :math:`T` from the country to the blank: the language would be the :math:`T`-th word
            after the country; at least 6. The text has :math:`T + 5` words; with ``control`` two more.
        choices: number of countries, each with its language (with ``control``: things, each with a colour); 2 to 12.
        control: ask for the colour of a thing two words before the blank, at every distance.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    shortest = 6
    symbols = FLUENT_WORDS.words

    def __init__(self, sequence_length: int = 20, choices: int = 8, control: bool = False, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        check_range("choices", choices, 2, len(_LANGUAGES))
        self.choices, self.control = choices, control
        self.labels = list((_COLOURS if control else _LANGUAGES).values())[:choices]
        self._cue = ("thing", _THING) if control else ("country", _COUNTRY)

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, length + 5]``, or ``[count, length + 7]`` with ``control``."""
        number = FLUENT_WORDS.number
        told = torch.tensor([number[name] for name in _TOLD]).expand(count, -1)
        middle = self._middle(count, length - 6, generator)
        ids = FLUENT_WORDS.sample(torch.cat([told, middle], 1), generator)
        asked = torch.tensor([number[name] for name in (_CONTROL if self.control else _ASKED)]).expand(count, -1)
        ids = torch.cat([ids, FLUENT_WORDS.sample(asked, generator)], 1)
        for name, place in (("country", _COUNTRY), ("thing", _THING))[: 1 + self.control]:
            ids[:, place] = FLUENT_WORDS.first(name) + integers(0, self.choices - 1, (count,), generator)
        return ids

    def _middle(self, count: int, room: int, generator: Generator) -> Tensor:
        """Sample the classes of ``room`` words: sentences of 3 to 9 words, of which the last takes the rest."""
        number = FLUENT_WORDS.number
        if room < _SHORTEST:
            return torch.tensor([number["and"], number["so"]][2 - room :], dtype=torch.int64).expand(count, -1)
        lengths = integers(_SHORTEST, _LONGEST, (count, room // _SHORTEST + 1), generator)
        ends = lengths.cumsum(1)
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
        """Return the index of the cue, ``[count]``."""
        name, place = self._cue
        return inputs[:, place] - FLUENT_WORDS.first(name)

    def relevant(self, inputs: Tensor) -> Tensor:
        """The country, or with ``control`` the thing."""
        steps = inputs.shape[1]
        return (torch.arange(steps) == self._cue[1] % steps).expand(inputs.shape)

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace words by others of the same class."""
        new = FLUENT_WORDS.others(inputs, generator)
        for name in ("country", "thing"):  # only those in use
            first = FLUENT_WORDS.first(name)
            shift = integers(1, self.choices - 1, tuple(inputs.shape), generator)
            new = torch.where(FLUENT_WORDS.is_of(inputs, name), first + (inputs - first + shift) % self.choices, new)
        return torch.where(where, new, inputs)
