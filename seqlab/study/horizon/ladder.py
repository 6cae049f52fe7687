"""The distances that a search may try."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import takewhile
from typing import final


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
