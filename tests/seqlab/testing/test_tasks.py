"""The task suite passes what is right and finds each fault."""

from types import MappingProxyType

import pytest

from seqlab import Task
from seqlab.testing import TaskSuite, run_suite
from seqlab_tasks.names import Names

from .broken_tasks.splits import NamesAStrangePreprocessing
from .faults import FAULTS
from .good_preprocessors import Bytes
from .good_sequences import FreshSum, NextToken, Parity, RunningSum
from .good_tasks import TwoClasses, Yes
from .odd_tasks import RIGHT

CAUGHT = [(fault, check) for fault, check in FAULTS if issubclass(fault, Task)]


class TestNames(TaskSuite):
    task = Names


class TestTwoClasses(TaskSuite):
    task = TwoClasses


class TestOneOutput(TaskSuite):
    task = Yes
    preprocessor = Bytes


class TestRunningSum(TaskSuite):
    task = RunningSum


class TestFreshSum(TaskSuite):
    task = FreshSum


class TestNextToken(TaskSuite):
    task = NextToken


class TestParity(TaskSuite):
    task = Parity


class TestParityOfOneLength(TaskSuite):
    task = Parity
    options = MappingProxyType({"ragged": False})


@pytest.mark.parametrize(
    ("balance", "about"),
    [("weights", "loss"), ("weights", "baseline"), ("sampling", "baseline"), ("sampling", "sample_weights")],
)
def test_balanced_names_pass(balance, about):
    """Weights, and smoothed labels that punish being too sure of the truth."""

    class Balanced(TaskSuite):
        task = Names
        options = MappingProxyType({"balance": balance, "label_smoothing": 0.3})

    assert [outcome for outcome in run_suite(Balanced, about) if outcome.result != "passed"] == []


@pytest.mark.parametrize("right", RIGHT, ids=lambda right: right.__name__)
def test_odd_ones_that_are_right_pass(right):
    class Odd(TaskSuite):
        task = right

    assert [outcome for outcome in run_suite(Odd) if outcome.result == "failed"] == []


@pytest.mark.parametrize(("broken", "check"), CAUGHT, ids=lambda value: getattr(value, "__name__", value))
def test_each_fault_is_found(broken, check):
    class Faulty(TaskSuite):
        task = staticmethod(lambda: broken("here")) if check == "constructor_needs_nothing" else broken

    results = {outcome.check: outcome for outcome in run_suite(Faulty, check)}
    assert results[check].result == "failed"
    assert results[check].detail


def test_every_check_can_fail():
    assert {check for _, check in CAUGHT} == set(TaskSuite.checks())


def test_a_preprocessing_that_is_not_there_fails_one_check_and_no_other():
    class Faulty(TaskSuite):
        task = NamesAStrangePreprocessing

    failed = [outcome for outcome in run_suite(Faulty) if outcome.result == "failed"]
    assert [outcome.check for outcome in failed] == ["default_preprocessing"]
    assert "preprocessing=runes: there is no such preprocessing" in failed[0].detail


def test_each_check_says_what_it_demands():
    assert all(TaskSuite.checks().values())
