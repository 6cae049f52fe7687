"""Tasks with one fault each, by where it is."""

from . import answers, chance, constructor, data, loss, metrics, state

CAUGHT = [each for part in (constructor, data, loss, metrics, chance, answers, state) for each in part.CAUGHT]
"""Each fault, and the check that must find it."""
