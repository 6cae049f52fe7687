"""Tasks with one fault each, by where it is."""

from . import answers, chance, constructor, data, dealing, heads, leaks, loss, means, metrics, mistakes, repeats, state

_PARTS = (constructor, data, dealing, repeats, leaks, heads, loss, means, mistakes, metrics, chance, answers, state)
CAUGHT = [each for part in _PARTS for each in part.CAUGHT]
"""Each fault, and the check that must find it."""
