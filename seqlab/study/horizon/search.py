"""Search for the largest solved distance: which runs to ask for next, and what their outcomes mean."""

import math
from bisect import bisect_left
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TypeAlias, final


@final
class Ladder:
    r"""A geometric ladder of distances whose steps are never smaller than 1.

    .. math:: d_0 = \mathrm{start}, \quad d_{i+1} = d_i + \max(1, ⌊ρ d_i⌋), \quad d_n = \mathrm{stop}

    With the resolution :math:`ρ` = 0.02 every distance below 100 is on it, and from there on each is at most 2 % from
    the next.

    Args:
        start: the smallest distance; at least 1.
        stop: the largest.
        resolution: the relative step :math:`ρ`, above 0 and at most 1.
    """

    def __init__(self, start: int, stop: int, resolution: float) -> None:
        rungs = [start]
        while rungs[-1] < stop:
            rungs.append(min(stop, rungs[-1] + max(1, int(resolution * rungs[-1]))))
        self.rungs: Sequence[int] = tuple(rungs)

    @property
    def last(self) -> int:
        """The place of the largest distance."""
        return len(self.rungs) - 1

    def doubled(self, place: int) -> int:
        """Find the rung at twice the distance: the first that is no smaller, or the last there is."""
        return min(self.last, bisect_left(self.rungs, 2 * self.rungs[place]))

    def up_to(self, distance: int) -> int:
        """Count the rungs up to a distance, itself included."""
        return len(list(takewhile(lambda rung: rung <= distance, self.rungs)))


Answers: TypeAlias = Mapping[int, bool | None]
"""By seed: whether its run solved the task; ``None`` for a run that failed or was not done."""


@final
@dataclass(frozen=True)
class Batch:
    """Runs that can be done at once: all seeds of one learning rate at one distance.

    Attributes:
        distance: the task's ``sequence_length``.
        rate: learning rate.
        seeds: a run each.
        budget: times the configured length of training.
    """

    distance: int
    rate: float
    seeds: tuple[int, ...]
    budget: int = 1


@final
@dataclass(frozen=True)
class Rules:
    """What all rows of a search have in common.

    Attributes:
        ladder: of distances.
        rates: the grid of learning rates.
        seeds: of every rate that is tried at a distance.
        confirming: fresh seeds, with which each end of an interval has to hold as well.
        check_budget: whether to try twice the budget above the interval.
    """

    ladder: Ladder
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    confirming: tuple[int, ...] = ()
    check_budget: bool = True

    @property
    def needed(self) -> int:
        """Seeds that have to solve a distance: at least 2/3."""
        return math.ceil(2 * len(self.seeds) / 3)


@final
@dataclass
class Level:
    """What was found at one distance.

    Attributes:
        answers: of the seeds, by learning rate, in the order in which they were tried.
        confirmed: of the confirming seeds, by learning rate.
    """

    answers: dict[float, dict[int, bool | None]] = field(default_factory=dict)
    confirmed: dict[float, dict[int, bool | None]] = field(default_factory=dict)

    def solved_at(self, rate: float) -> int:
        """Count the seeds that solved it at a learning rate."""
        return sum(answer is True for answer in self.answers.get(rate, {}).values())

    @property
    def best(self) -> float:
        """The learning rate at which most seeds solved it; of equals one that no fresh seed speaks against."""

        def rank(rate: float) -> tuple[int, bool]:
            return self.solved_at(rate), all(answer is True for answer in self.confirmed.get(rate, {}).values())

        return max(self.answers, key=rank)

    @property
    def all_solve(self) -> bool:
        """Whether every seed solves it at the best rate, the confirming ones included."""
        confirmed = self.confirmed.get(self.best, {})
        return all(answer is True for answer in [*self.answers[self.best].values(), *confirmed.values()])

    @property
    def none_solves(self) -> bool:
        """Whether no seed solves it at any rate, the confirming ones included; a run that failed might have."""
        found = [*self.answers.values(), *self.confirmed.values()]
        return all(answer is False for answers in found for answer in answers.values())


@final
@dataclass(frozen=True)
class Finding:
    """What a search found, or has found so far.

    Attributes:
        horizon: the largest distance that at least 2/3 of the seeds solve at the best learning rate; ``None`` where
            the smallest one is not solved.
        rate: that learning rate.
        lower: the largest distance up to which all seeds solve every distance that was tried.
        upper: the smallest distance from which on no seed solves any distance that was tried; ``None`` where some
            still do at the largest.
        budget_limited: whether twice the budget solves ``upper``; ``None`` if that was not tried.
        complete: whether nothing is left to ask; false as well where runs that failed leave a question open.
    """

    horizon: int | None = None
    rate: float | None = None
    lower: int | None = None
    upper: int | None = None
    budget_limited: bool | None = None
    complete: bool = False


class UndecidedError(Exception):
    """Runs failed, and the others do not decide the question."""


Asking: TypeAlias = Generator[Batch, Answers, None]


@final
class Search:
    """Looks for one row's horizon by doubling, then bisecting.

    At each distance the learning rates are tried one after another, the one that went farthest first, until one is
    solved by 2/3 of the seeds: a distance counts as unsolved only when every rate failed. The search doubles the
    distance until no seed solves it, and bisects three times on the same ladder: for the largest distance that is
    solved, for the largest up to which all seeds solve it (where they do not, the other rates are tried as well), and
    for the smallest from which on none does. Both ends of that interval are tried with fresh seeds, and where those
    disagree, bisecting goes on further out.

    Attributes:
        levels: what was found, by place on the ladder.

    Args:
        rules: what to try.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.levels: dict[int, Level] = {}
        self._limited: bool | None = None
        self._complete = False

    def ask(self) -> Asking:
        """Give the batches of runs, one after another, each in return for the answers to the one before."""
        try:
            yield from self._double(0)
            yield from self._bisect(self._solved, from_above=True)
            yield from self._find_lower()
            yield from self._find_upper()
            if self.rules.check_budget:
                yield from self._check_budget()
        except UndecidedError:
            return
        self._complete = True

    @property
    def finding(self) -> Finding:
        """What is known now."""
        solved = [place for place, level in self.levels.items() if self._solved(level)]
        horizon = max(solved, default=None)
        return Finding(
            horizon=self._distance(horizon),
            rate=None if horizon is None else self.levels[horizon].best,
            lower=self._distance(self._lower()),
            upper=self._distance(self._upper()),
            budget_limited=self._limited,
            complete=self._complete,
        )

    # Where the ends are, by what was tried ------------------------------------------------------------------------

    def _distance(self, place: int | None) -> int | None:
        return None if place is None else self.rules.ladder.rungs[place]

    def _solved(self, level: Level) -> bool:
        return max(map(level.solved_at, level.answers), default=0) >= self.rules.needed

    def _lower(self) -> int | None:
        misses = min((place for place, level in self.levels.items() if not level.all_solve), default=math.inf)
        return max((place for place in self.levels if place < misses), default=None)

    def _upper(self) -> int | None:
        some = max((place for place, level in self.levels.items() if not level.none_solves), default=-1)
        return min((place for place in self.levels if place > some), default=None)

    def _ranked(self) -> Sequence[float]:
        """Order the learning rates: first the one that went farthest, of equals the one that solved most."""

        def farthest(rate: float) -> tuple[int, int]:
            counts = {place: level.solved_at(rate) for place, level in self.levels.items()}
            reached = max((place for place, count in counts.items() if count >= self.rules.needed), default=-1)
            return reached, sum(counts.values())

        return sorted(self.rules.rates, key=farthest, reverse=True)

    # What to ask --------------------------------------------------------------------------------------------------

    def _try(self, place: int) -> Asking:
        """Find out what there is to know of one distance.

        Raises:
            UndecidedError: too many runs failed.
        """
        if place in self.levels:
            return
        level, open_question = Level(), False
        for rate in self._ranked():
            answers = yield Batch(self.rules.ladder.rungs[place], rate, self.rules.seeds)
            level.answers[rate] = dict(answers)
            self.levels[place] = level
            if level.solved_at(rate) >= self.rules.needed:
                return
            unknown = sum(answer is None for answer in answers.values())
            open_question |= level.solved_at(rate) + unknown >= self.rules.needed
        if open_question:
            raise UndecidedError

    def _double(self, place: int) -> Asking:
        """Go on doubling until no seed solves the distance, or there is no larger one."""
        while True:
            yield from self._try(place)
            if self.levels[place].none_solves or place == self.rules.ladder.last:
                return
            place = self.rules.ladder.doubled(place)

    def _try_other_rates(self, place: int) -> Asking:
        """Try what was left out once one rate had solved it: another may have all seeds solve it."""
        level = self.levels[place]
        for rate in self._ranked():
            if rate not in level.answers and not level.all_solve:
                answers = yield Batch(self.rules.ladder.rungs[place], rate, self.rules.seeds)
                level.answers[rate] = dict(answers)

    def _bisect(self, holds: Callable[[Level], bool], *, from_above: bool, every_rate: bool = False) -> Asking:
        """Narrow the boundary below which something holds to two neighbours on the ladder.

        Outcomes are noisy, so that there may be several boundaries: the uppermost or the lowest one is meant. With
        ``every_rate``, no distance on the far side of it has a learning rate left that was not tried.
        """
        while True:
            tried = sorted(self.levels)
            true = [place for place in tried if holds(self.levels[place])]
            false = [place for place in tried if place not in true]
            if from_above:
                low = max(true, default=None)
                high = min((place for place in false if low is not None and place > low), default=None)
            else:
                high = min(false, default=None)
                low = max((place for place in true if high is not None and place < high), default=None)
            if every_rate and high is not None and len(self.levels[high].answers) < len(self.rules.rates):
                yield from self._try_other_rates(high)
                if holds(self.levels[high]):
                    continue
            if low is None or high is None or high - low < 2:
                return
            yield from self._try((low + high) // 2)

    def _find_lower(self) -> Asking:
        """Bisect for the lower end, and again wherever fresh seeds do not solve it."""
        while True:
            yield from self._bisect(lambda level: level.all_solve, from_above=False, every_rate=True)
            place = self._lower()
            if place is None or not self.rules.confirming or self.levels[place].best in self.levels[place].confirmed:
                return
            yield from self._confirm(place, self.levels[place].best)

    def _find_upper(self) -> Asking:
        """Bisect for the upper end, and again wherever a fresh seed solves it."""
        while True:
            yield from self._bisect(lambda level: not level.none_solves, from_above=True)
            place, top = self._upper(), max(self.levels)
            if place is None and top < self.rules.ladder.last:
                yield from self._double(self.rules.ladder.doubled(top))
            elif place is None or not self.rules.confirming or self.levels[place].confirmed:
                return
            else:
                yield from self._confirm(place, self._ranked()[0])

    def _confirm(self, place: int, rate: float) -> Asking:
        answers = yield Batch(self.rules.ladder.rungs[place], rate, self.rules.confirming)
        self.levels[place].confirmed[rate] = dict(answers)

    def _check_budget(self) -> Asking:
        """Train twice as long where none solved it, at the learning rate that went farthest."""
        if (place := self._upper()) is None:
            return
        answers = yield Batch(self.rules.ladder.rungs[place], self._ranked()[0], self.rules.seeds, budget=2)
        solved, unknown = (sum(answer is kind for answer in answers.values()) for kind in (True, None))
        if solved >= self.rules.needed:
            self._limited = True
        elif solved + unknown < self.rules.needed:
            self._limited = False
