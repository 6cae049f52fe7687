"""The kit must catch the faulty cells and spare the odd ones."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import pytest

from seqlab import Cell
from seqlab.plugins import plugins
from seqlab.testing import CellSuite, run_suite
from seqlab_cells.gru import GRU

from ..recurrence import odd_cells as odd
from . import broken_cells as broken
from . import odd_cells as odder
from . import subtle_cells as subtle
from .faults import FAULTS as ALL

COMPILED = "compiled_equals_the_loop"
"""Takes ten seconds a cell; it has a test of its own below."""
LARGE = (
    "causality", "every_option", "gradients_are_right",
    "large_and_small_numbers", "rows_are_independent", "state_carries_over_every_cut",
)  # fmt: skip
"""Run many sizes or options."""


ROOT = Path(__file__).parents[3]
FAULTS = [(fault, check) for fault, check in ALL if issubclass(fault, Cell | broken.NoCell)]
SLOW = {subtle.DetachesWithRelu, subtle.CentresOverRows, subtle.SmoothsOverTheFuture}
"""Every check runs before the one that fails."""
LARGE_IN_CI = {"MatrixMemory", "Delayed", "LearnedStart"}
"""Odd in their state, in time and at the start; these checks of the others are in ``make verify-long``."""
SPARED = {COMPILED, "every_kernel_equals_the_loop", "every_option"}


def suite_of(made, **skips):
    return type("Suite", (CellSuite,), {"cell": staticmethod(made), "skips": skips})


class TestSpares(CellSuite):
    """As a plugin's tests use it."""

    cell = GRU
    skips: ClassVar[dict[str, str]] = dict.fromkeys((COMPILED, *LARGE), "slow tests of tests/seqlab_cells do")


def outcomes_of(cell, chosen):
    """Run the chosen checks; return those that failed."""
    skips = {check: "not chosen" for check in CellSuite.checks() if check not in chosen}
    outcomes = list(run_suite(suite_of(cell, **skips)))
    assert {one.check for one in outcomes if one.result == "skipped"} <= {*SPARED, *skips}
    return [(one.check, one.detail) for one in outcomes if one.result == "failed"]


@pytest.mark.parametrize(
    "cell",
    [
        cell if cell is odd.Counting else pytest.param(cell, marks=pytest.mark.slow)
        for cell in (broken.Right, *odd.ODD, *odder.ODD)
    ],
    ids=lambda cell: cell.__name__,
)
@pytest.mark.usefixtures("no_shape_checks")
def test_spares_what_is_odd_but_right(cell):
    left_out = {COMPILED, *LARGE} if cell in odd.ODD else {COMPILED, "exports", *LARGE}
    assert outcomes_of(cell, set(CellSuite.checks()) - left_out) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [
        cell if cell.__name__ in LARGE_IN_CI else pytest.param(cell, marks=pytest.mark.long)
        for cell in (broken.Right, *odd.ODD, *odder.ODD)
    ],
    ids=lambda cell: cell.__name__,
)
@pytest.mark.usefixtures("no_shape_checks")
def test_spares_it_at_large_sizes_and_with_every_option(cell):
    assert outcomes_of(cell, LARGE) == []


@pytest.mark.filterwarnings("ignore:.*degrees of freedom.*:UserWarning")
@pytest.mark.parametrize(
    ("cell", "check"),
    [pytest.param(*fault, marks=pytest.mark.slow) if fault[0] in SLOW else fault for fault in FAULTS],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_catches_the_fault_by_the_check_that_is_for_it(cell, check):
    (outcome,) = [one for one in run_suite(suite_of(cell), only=check) if one.check == check]
    assert outcome.result == "failed"
    assert outcome.detail


def test_every_check_was_shown_to_fail():
    elsewhere = {COMPILED, "every_kernel_equals_the_loop"}
    assert {check for _, check in FAULTS} | elsewhere == set(CellSuite.checks())


def test_determinism_memory_and_changes_in_place_come_first():
    first = ["shapes_and_dtypes", "evaluation_is_deterministic", "no_memory_between_calls"]
    assert list(CellSuite.checks())[:5] == [*first, "sees_changed_parameters", "input_is_left_alone"]


def test_later_failures_name_the_root():
    outcomes = {
        one.check: one for one in run_suite(suite_of(broken.RemembersTheLastCall, exports="slow", **{COMPILED: ""}))
    }
    assert outcomes["no_memory_between_calls"].follows == ""
    after = [one for one in outcomes.values() if one.result == "failed" and one.follows == "no_memory_between_calls"]
    assert len(after) > 3


def test_a_crash_names_the_plugins_line():
    class Crashing(broken.Right):
        def step(self, x, state):
            return {}["nothing"]

    (outcome,) = run_suite(suite_of(Crashing), only="shapes")
    assert outcome.detail.startswith("KeyError: 'nothing' (test_cells.py, line ")


def test_a_cell_that_ends_the_process_fails():
    class Leaving(broken.Right):
        def step(self, x, state):
            raise SystemExit(0)

    (outcome,) = run_suite(suite_of(Leaving), only="shapes")
    assert outcome.result == "failed"
    assert "SystemExit" in outcome.detail


@pytest.mark.slow
def test_catches_a_step_that_compiles_to_something_else():
    outcome = run_elsewhere("from tests.seqlab.testing.broken_cells import CompilesToSomethingElse as Made", COMPILED)
    assert "failed kernel compiled, full rows, forward" in outcome
    assert "outputs: differs by" in outcome


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """Give a folder of plugins, which are gone afterwards."""
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    plugins.cache_clear()


def test_catches_a_registered_kernel_that_differs(registered):
    (registered / "faulty.py").write_text(
        "from tests.seqlab.testing.broken_kernels import Right, WrongOutput\n"
        "class Made(Right):\n    pass\n"
        "class Fast(WrongOutput):\n    cell = Made\n",
        encoding="utf-8",
    )
    info = registered / "faulty-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[seqlab.cells]\nfaulty = faulty:Made\n[seqlab.kernels]\nfaulty.fast = faulty:Fast\n", encoding="utf-8"
    )
    plugins.cache_clear()
    (outcome,) = run_suite(suite_of(import_module("faulty").Made), only="every_kernel")
    assert outcome.result == "failed"
    assert "kernel faultless, full rows, forward" in outcome.detail


def run_elsewhere(imports, check):
    """Run one check in a process of its own: the hook that checks shapes does not go with the compiler."""
    program = (
        f"{imports}\nfrom seqlab.testing import CellSuite, run_suite\n"
        "class S(CellSuite):\n    cell = Made\n"
        f"(one,) = run_suite(S, only={check!r})\nprint(one.result, one.detail)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAXTYPING_DISABLE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_skip_says_why():
    (outcome,) = run_suite(suite_of(GRU, gradients_are_right="its gradient is a surrogate"), only="gradients_are_right")
    assert (outcome.result, outcome.detail) == ("skipped", "its gradient is a surrogate")
