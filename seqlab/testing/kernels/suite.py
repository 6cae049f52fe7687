"""Checks that every kernel must pass."""

from seqlab.testing.kernels.calls import CallChecks
from seqlab.testing.kernels.gradients import GradientChecks
from seqlab.testing.kernels.values import ContractChecks, ValueChecks


class KernelSuite(ContractChecks, GradientChecks, ValueChecks, CallChecks):
    """Checks of a kernel against the reference loop; a subclass names it. They run from the last base to the first.

    Attributes:
        kernel: its type, or a factory that takes its options.
        cell: makes the cell it scans; the type in ``Kernel.cell`` unless stated.
        options: what the cell's constructor is to be given besides the sizes.
        kernel_options: what the kernel's constructor is to be given.
        input_size: features of one input step.
    """

    roots = (
        "same_call_twice",
        "input_is_left_alone",
        "no_memory_between_calls",
        "sees_changed_parameters",
        "full_rows",
    )
