"""Tasks with one fault each, by where it is."""

from . import leakage, losses, outputs, seeds, splits  # noqa: F401  # which registers the faults
