"""Steps that change a text before it is encoded: functions from text to text, and filters.

A step takes any Unicode, lone surrogates included, and raises nothing. A class is a step that takes an argument, as in
``language:vi``; one with a method ``reason(text) -> str | None`` is a filter, which leaves texts out of training and
changes none.
"""

from seqlab_preprocessing.steps.ascii import ascii_fold

__all__ = ["ascii_fold"]
