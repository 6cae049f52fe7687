"""Search for the largest solved distance: which runs to train next, and what their outcomes say."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final


@final
class DistanceGrid:
    r"""Geometric grid of distances whose steps are at least 1.

    .. math:: d_0 = \mathrm{start}, \quad d_{i+1} = d_i + \max(1, ⌊ρ d_i⌋), \quad d_n = \mathrm{stop}

    With the resolution :math:`ρ` = 0.02 every distance below 100 is on it; above, neighbours differ by at most 2 %.

    Args:
        start: smallest distance; at least 1.
        stop: largest distance.
        resolution: relative step :math:`ρ`, above 0 and at most 1.
    """

    def __init__(self, start: int, stop: int, resolution: float) -> None:
        distances = [start]
        while distances[-1] < stop:
            distances.append(min(stop, distances[-1] + max(1, int(resolution * distances[-1]))))
        self.distances: Sequence[int] = tuple(distances)

    @property
    def last(self) -> int:
        """Index of the largest distance."""
        return len(self.distances) - 1

    def doubled(self, index: int) -> int:
        """Return the index of the first distance that is at least twice as large, or of the last."""
        return min(self.last, bisect_left(self.distances, 2 * self.distances[index]))

    def count_up_to(self, distance: int) -> int:
        """Count the distances up to and including ``distance``."""
        return bisect_right(self.distances, distance)


Outcomes: TypeAlias = Mapping[int, bool | None]
"""Whether the run of each seed solved the task; ``None`` for a run that failed or was not done."""


@final
@dataclass(frozen=True)
class Batch:
    """Independent runs: all seeds of one learning rate at one distance.

    Attributes:
        distance: the task's ``sequence_length``.
        rate: learning rate.
        seeds: one run each.
        budget: multiple of the configured training length.
        further: whether to test the trained models at multiples of the distance.
    """

    distance: int
    rate: float
    seeds: tuple[int, ...]
    budget: int = 1
    further: bool = False


@final
@dataclass(frozen=True)
class Rules:
    """Settings that all rows of a search share.

    Attributes:
        grid: distances.
        rates: learning rates, the same for every row.
        seeds: of every learning rate tried at a distance.
        confirm_seeds: further seeds that must confirm both ends of an interval.
        check_budget: whether to try twice the budget above the interval.
        further: whether to repeat the runs at the horizon, if there is one, with tests at multiples of it.
    """

    grid: DistanceGrid
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    confirm_seeds: tuple[int, ...] = ()
    check_budget: bool = True
    further: bool = False

    @property
    def needed(self) -> int:
        """Number of seeds that must solve a distance: at least 2/3."""
        return math.ceil(2 * len(self.seeds) / 3)


@final
@dataclass
class DistanceResult:
    """Outcomes at one distance.

    Attributes:
        outcomes: by learning rate, in the order of the trials.
        confirmed: outcomes of the confirming seeds, by learning rate.
    """

    outcomes: dict[float, Outcomes] = field(default_factory=dict)
    confirmed: dict[float, Outcomes] = field(default_factory=dict)

    def solved_at(self, rate: float) -> int:
        """Count the seeds that solved the distance at a learning rate."""
        return sum(outcome is True for outcome in self.outcomes.get(rate, {}).values())

    @property
    def best(self) -> float:
        """Learning rate at which most seeds solved the distance; of equals one that no confirming seed contradicts."""

        def rank(rate: float) -> tuple[int, bool]:
            return self.solved_at(rate), all(outcome is True for outcome in self.confirmed.get(rate, {}).values())

        return max(self.outcomes, key=rank)

    @property
    def all_solve(self) -> bool:
        """Whether every seed solves the distance at the best rate, confirming seeds included."""
        confirmed = self.confirmed.get(self.best, {})
        return all(outcome is True for outcome in [*self.outcomes[self.best].values(), *confirmed.values()])

    @property
    def none_solves(self) -> bool:
        """Whether no seed solves the distance at any rate, confirming seeds included; a failed run might have."""
        found = [*self.outcomes.values(), *self.confirmed.values()]
        return all(outcome is False for outcomes in found for outcome in outcomes.values())


@final
@dataclass(frozen=True)
class Finding:
    """Result of a search, so far or final.

    Attributes:
        horizon: largest distance that at least 2/3 of the seeds solve at the best learning rate; ``None`` if the
            smallest distance is not solved.
        learning_rate: that learning rate.
        lower: largest distance up to which all seeds solve every distance tried.
        upper: smallest distance from which on no seed solves any distance tried; ``None`` if some seed solves the
            largest.
        budget_limited: whether twice the budget solves ``upper``; ``None`` if that was not tried.
        finished: whether the search has ended; false if failed runs leave a question open.
    """

    horizon: int | None = None
    learning_rate: float | None = None
    lower: int | None = None
    upper: int | None = None
    budget_limited: bool | None = None
    finished: bool = False


class UndecidedError(Exception):
    """Too many runs failed for the others to decide the question."""


Batches: TypeAlias = Generator[Batch, Outcomes, None]
"""Yields batches of runs and is sent the outcomes of each."""


@final
class Search:
    """Search for one row's horizon by doubling and bisection.

    At each distance the learning rates are tried one after another, the one that reached furthest first, until one is
    solved by 2/3 of the seeds: a distance counts as unsolved only when every rate failed. The search doubles the
    distance until no seed solves it and bisects three times on the same grid: for the largest solved distance, for the
    largest up to which all seeds solve it (if they do not, the other rates are tried as well), and for the smallest
    from which on none does. Both ends of that interval are tried with further seeds; where these disagree, the
    bisection continues further out.

    Attributes:
        results: by index of the distance.

    Args:
        rules: settings.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.results: dict[int, DistanceResult] = {}
        self._limited: bool | None = None
        self._finished = False

    def batches(self) -> Batches:
        """Yield the next batch of runs for the outcomes of the one before."""
        try:
            yield from self._double(0)
            yield from self._bisect(self._is_solved, from_above=True)
            yield from self._find_lower()
            yield from self._find_upper()
            if self.rules.check_budget:
                yield from self._check_budget()
            if self.rules.further:
                yield from self._test_further()
        except UndecidedError:
            return
        self._finished = True

    @property
    def finding(self) -> Finding:
        """Result so far."""
        horizon = max((index for index, result in self.results.items() if self._is_solved(result)), default=None)
        return Finding(
            horizon=self._distance(horizon),
            learning_rate=None if horizon is None else self.results[horizon].best,
            lower=self._distance(self._lower()),
            upper=self._distance(self._upper()),
            budget_limited=self._limited,
            finished=self._finished,
        )

    def _distance(self, index: int | None) -> int | None:
        return None if index is None else self.rules.grid.distances[index]

    def _is_solved(self, result: DistanceResult) -> bool:
        return max(map(result.solved_at, result.outcomes), default=0) >= self.rules.needed

    def _lower(self) -> int | None:
        misses = min((index for index, result in self.results.items() if not result.all_solve), default=math.inf)
        return max((index for index in self.results if index < misses), default=None)

    def _upper(self) -> int | None:
        some = max((index for index, result in self.results.items() if not result.none_solves), default=-1)
        return min((index for index in self.results if index > some), default=None)

    def _ranked(self) -> Sequence[float]:
        """Sort the learning rates: first the one that reached furthest, of equals the one that solved most."""

        def reach(rate: float) -> tuple[int, int]:
            counts = {index: result.solved_at(rate) for index, result in self.results.items()}
            furthest = max((index for index, count in counts.items() if count >= self.rules.needed), default=-1)
            return furthest, sum(counts.values())

        return sorted(self.rules.rates, key=reach, reverse=True)

    def _batch(self, index: int, rate: float, seeds: tuple[int, ...], budget: int = 1) -> Batch:
        return Batch(self.rules.grid.distances[index], rate, seeds, budget)

    def _try(self, index: int) -> Batches:
        """Try the learning rates at one distance until one solves it.

        Raises:
            UndecidedError: too many runs failed.
        """
        if index in self.results:
            return
        result, is_open = DistanceResult(), False
        for rate in self._ranked():
            outcomes = result.outcomes[rate] = yield self._batch(index, rate, self.rules.seeds)
            self.results[index] = result
            if result.solved_at(rate) >= self.rules.needed:
                return
            unknown = sum(outcome is None for outcome in outcomes.values())
            is_open |= result.solved_at(rate) + unknown >= self.rules.needed
        if is_open:
            raise UndecidedError

    def _double(self, index: int) -> Batches:
        """Double the distance until no seed solves it, or there is no larger one."""
        while True:
            yield from self._try(index)
            if self.results[index].none_solves or index == self.rules.grid.last:
                return
            index = self.rules.grid.doubled(index)

    def _try_other_rates(self, index: int) -> Batches:
        """Try the rates skipped once one had solved the distance: with another all seeds may solve it."""
        result = self.results[index]
        for rate in self._ranked():
            if rate not in result.outcomes and not result.all_solve:
                result.outcomes[rate] = yield self._batch(index, rate, self.rules.seeds)

    def _bisect(
        self, holds: Callable[[DistanceResult], bool], *, from_above: bool, every_rate: bool = False
    ) -> Batches:
        """Narrow the boundary below which a condition holds to two neighbours on the grid.

        Outcomes are noisy, so that there may be several boundaries: the uppermost or the lowest one is found. With
        ``every_rate``, every learning rate is tried at the distance beyond it.
        """
        while True:
            true = [index for index, result in self.results.items() if holds(result)]
            false = [index for index in self.results if index not in true]
            if from_above:
                low = max(true, default=None)
                high = min((index for index in false if low is not None and index > low), default=None)
            else:
                high = min(false, default=None)
                low = max((index for index in true if high is not None and index < high), default=None)
            if every_rate and high is not None and len(self.results[high].outcomes) < len(self.rules.rates):
                yield from self._try_other_rates(high)
                if holds(self.results[high]):
                    continue
            if low is None or high is None or high - low < 2:
                return
            yield from self._try((low + high) // 2)

    def _find_lower(self) -> Batches:
        """Bisect for the lower end, and again while the confirming seeds do not all solve it."""
        while True:
            yield from self._bisect(lambda result: result.all_solve, from_above=False, every_rate=True)
            index = self._lower()
            if index is None or not self.rules.confirm_seeds:
                return
            result = self.results[index]
            if (rate := result.best) in result.confirmed:
                return
            result.confirmed[rate] = yield self._batch(index, rate, self.rules.confirm_seeds)

    def _find_upper(self) -> Batches:
        """Bisect for the upper end, and again while a confirming seed solves it."""
        while True:
            yield from self._bisect(lambda result: not result.none_solves, from_above=True)
            index, top = self._upper(), max(self.results)
            if index is None and top < self.rules.grid.last:
                yield from self._double(self.rules.grid.doubled(top))
            elif index is None or not self.rules.confirm_seeds or self.results[index].confirmed:
                return
            else:
                rate = self._ranked()[0]
                self.results[index].confirmed[rate] = yield self._batch(index, rate, self.rules.confirm_seeds)

    def _check_budget(self) -> Batches:
        """Train twice as long at the distance that none solved, at the learning rate that reached furthest."""
        if (index := self._upper()) is None:
            return
        outcomes = yield self._batch(index, self._ranked()[0], self.rules.seeds, budget=2)
        solved, unknown = (sum(outcome is kind for outcome in outcomes.values()) for kind in (True, None))
        if solved >= self.rules.needed:
            self._limited = True
        elif solved + unknown < self.rules.needed:
            self._limited = False

    def _test_further(self) -> Batches:
        """Repeat the runs at the horizon, with tests at multiples of it.

        Raises:
            UndecidedError: a run failed.
        """
        found = self.finding
        if found.horizon is not None and found.learning_rate is not None:
            outcomes = yield Batch(found.horizon, found.learning_rate, self.rules.seeds, further=True)
            if None in outcomes.values():
                raise UndecidedError
