"""The suite of preprocessors, by what its checks look at."""

from seqlab.testing.preprocessors.suite import PreprocessorSuite

__all__ = ["PreprocessorSuite"]
