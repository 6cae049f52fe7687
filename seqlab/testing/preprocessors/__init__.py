"""Conformance tests of preprocessors."""

from seqlab.testing.preprocessors.calls import CallChecks, LearningChecks, OptionChecks
from seqlab.testing.preprocessors.texts import ManyChecks, TextChecks

__all__ = ["PreprocessorSuite"]


class PreprocessorSuite(OptionChecks, LearningChecks, CallChecks, ManyChecks, TextChecks):
    """Checks of a preprocessor; a subclass names it.

    The checks run from the last base to the first. Decoded texts are compared after NFC on both sides.

    Attributes:
        preprocessor: its type, or a factory.
        options: arguments of its constructor.
        texts: the training texts: at least two that differ.
        lossy: why texts cannot be decoded, where :attr:`seqlab.Preprocessor.lossy` does not say so.
        patience: seconds that 100,000 characters may take.
    """
