"""The suite of kernels, by what its checks look at."""

from seqlab.testing.kernels.suite import KernelSuite

__all__ = ["KernelSuite"]
