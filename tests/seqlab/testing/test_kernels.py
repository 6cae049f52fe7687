"""The kit must catch the faulty kernels and spare the right ones."""

from importlib import util
from pathlib import Path

import pytest

from seqlab.testing import KernelSuite, run_suite
from seqlab_cells.lstm.vendor import LSTMVendor

spec = util.spec_from_file_location("broken_kernels", Path(__file__).with_name("broken_kernels.py"))
broken = util.module_from_spec(spec)
spec.loader.exec_module(broken)


class TestSparesVendor(KernelSuite):
    kernel = LSTMVendor


class TestSparesTheLoop(KernelSuite):
    kernel = broken.Faultless


@pytest.mark.parametrize(
    ("kernel", "check"), broken.CAUGHT_BY.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_catches_the_fault_by_the_check_that_is_for_it(kernel, check):
    suite = type("Suite", (KernelSuite,), {"kernel": staticmethod(kernel)})
    (outcome,) = [one for one in run_suite(suite, only=check) if one.check == check]
    assert outcome.result == "failed"
    assert outcome.detail


def test_every_check_was_shown_to_fail():
    assert set(broken.CAUGHT_BY.values()) == set(KernelSuite.checks())
