"""The kit must catch the faulty kernels and spare the right ones."""

import pytest

from seqlab import Kernel
from seqlab.testing import KernelSuite, run_suite

from . import broken_kernels as broken
from . import odd_kernels as odd
from . import subtle_kernels as subtle
from .faults import FAULTS as ALL

pytestmark = pytest.mark.usefixtures("no_shape_checks")  # ``seqlab check`` runs without them, too
FAULTS = [(fault, check) for fault, check in ALL if issubclass(fault, Kernel)]


def suite_of(kernel):
    return type("Suite", (KernelSuite,), {"kernel": staticmethod(kernel)})


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [broken.Faultless, *odd.ODD], ids=lambda kernel: kernel.__name__)
def test_spares_what_is_odd_but_right(kernel):
    outcomes = list(run_suite(suite_of(kernel)))
    assert [(one.check, one.detail) for one in outcomes if one.result == "failed"] == []
    if kernel is not odd.GPUOnly:
        assert {"full_rows", "same_call_twice"} <= {one.check for one in outcomes if one.result == "passed"}


@pytest.mark.parametrize(("kernel", "check"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_catches_the_fault_by_the_check_that_is_for_it(kernel, check):
    (outcome,) = [one for one in run_suite(suite_of(kernel), only=check) if one.check == check]
    assert outcome.result == "failed"
    assert outcome.detail


def test_every_check_was_shown_to_fail():
    assert {check for _, check in FAULTS} == set(KernelSuite.checks())


def test_a_float32_overflow_is_called_one():
    (outcome,) = run_suite(suite_of(subtle.NaiveTanh), only="large_and_small")
    assert "overflow: " in outcome.detail
    assert "in float64 they are finite, at most 1" in outcome.detail


def test_a_kernel_that_only_refuses_gradients_is_held_by_value():
    class Wrong(odd.ForwardOnly):
        def scan(self, cells, x, states, lengths):
            y, ends = super().scan(cells, x, states, lengths)
            return 1.001 * y, ends

    (outcome,) = run_suite(suite_of(Wrong), only="full_rows")
    assert outcome.result == "failed"


def test_later_failures_name_the_root():
    outcomes = {one.check: one for one in run_suite(suite_of(subtle.SlightlyRandom), only="same_call")}
    assert outcomes["same_call_twice"].follows == ""
    outcomes = {one.check: one for one in run_suite(suite_of(broken.WrongOutput), only="_rows")}
    assert outcomes["full_rows"].follows == ""
    assert outcomes["ragged_rows"].follows == "full_rows"
