"""Checks that every preprocessor must pass."""

from seqlab.testing.preprocessors.calls import CallChecks, LearningChecks, OptionChecks
from seqlab.testing.preprocessors.texts import ManyChecks, TextChecks


class PreprocessorSuite(OptionChecks, LearningChecks, CallChecks, ManyChecks, TextChecks):
    """Checks of a preprocessor; a subclass names it.

    The checks run from the last base to the first. What comes back from ``decode`` is compared after NFC on both sides.

    Attributes:
        preprocessor: its type, or a factory.
        options: what the constructor is to be given.
        texts: what it is fitted on: at least two that differ.
        lossy: why texts do not come back, where they cannot and :attr:`seqlab.Preprocessor.lossy` does not say so.
        patience: seconds that 100,000 characters may take.
    """
