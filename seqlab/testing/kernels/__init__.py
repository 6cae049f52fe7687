"""Conformance tests of kernels."""

from seqlab.testing.kernels.calls import CallChecks, GradientChecks
from seqlab.testing.kernels.values import ContractChecks, ValueChecks

__all__ = ["KernelSuite"]


class KernelSuite(ContractChecks, GradientChecks, ValueChecks, CallChecks):
    """Checks of a kernel against the reference loop; a subclass names it. They run from the last base to the first.

    Attributes:
        kernel: its type, or a factory that takes its options.
        cell: makes the cell it scans; the type in ``Kernel.cell`` unless given.
        options: arguments of the cell's constructor besides the sizes.
        kernel_options: arguments of the kernel's constructor.
        input_size: features of one input step.
    """

    roots = (
        "same_call_twice",
        "input_is_left_alone",
        "no_memory_between_calls",
        "sees_changed_parameters",
        "full_rows",
    )
