"""Every cell and kernel by the conformance kit, and compiled."""

import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from seqlab.testing import CellSuite, KernelSuite, run_suite

pytestmark = pytest.mark.usefixtures("no_shape_checks")  # test_cells.py has them; ``seqlab check`` runs without, too

ENTRIES = distribution("seqlab").entry_points
CELLS, KERNELS = (list(ENTRIES.select(group=f"seqlab.{kind}s")) for kind in ("cell", "kernel"))
COMPILED = "compiled_equals_the_loop"
LARGE = {
    "causality", "every_option", "gradients_are_right",
    "large_and_small_numbers", "rows_are_independent", "state_carries_over_every_cut",
}  # fmt: skip
"""Checks of a cell that run many sizes or options: in ``make test-slow``."""
IN_CI = {"lstm", "indrnn", "lru", "deltanet"}
"""One of each kind of state: gated, elementwise, complex, a matrix; the others are in ``make verify-long``."""
SLOW = {"gru.fused", "lstm.vendor", "lru.parallel", "gated_deltanet.chunked"}
"""One of each way to compute; those of the rest, which share their code, in ``make verify-long``."""
CORE = {
    "autocast", "estimates", "full_rows", "layout_of_the_gradient", "names_its_cell",
    "no_memory_between_calls", "no_steps_and_no_rows", "parameters_are_the_cells", "parts_of_the_loss", "ragged_rows",
    "same_call_twice", "values_kept_for_backward",
}  # fmt: skip
"""Checks that every kernel passes in the fast tests."""
COMPILED_HERE = [entry for entry in CELLS if entry.name not in ("rnn", "lstm", "gru")]
"""Cells that tests/seqlab/recurrence/test_compiled.py does not compile; all but one in ``make verify-long``."""


def named(entry):
    return entry.name


def marked(entries, fast):
    return [pytest.param(each, id=each.name, marks=[] if each.name in fast else [pytest.mark.long]) for each in entries]


def failures(suite, kind, target, checks):
    skips = {name: "elsewhere" for name in suite.checks() if name not in checks or name == COMPILED}
    outcomes = list(run_suite(type("Suite", (suite,), {kind: staticmethod(target), "skips": skips})))
    assert any(one.result == "passed" for one in outcomes)
    return [(one.check, one.detail) for one in outcomes if one.result == "failed"]


@pytest.mark.parametrize("entry", CELLS, ids=named)
def test_cell(entry):
    assert failures(CellSuite, "cell", entry.load(), set(CellSuite.checks()) - LARGE) == []


@pytest.mark.slow
@pytest.mark.parametrize("entry", marked(CELLS, IN_CI))
def test_cell_at_large_sizes(entry):
    assert failures(CellSuite, "cell", entry.load(), LARGE) == []


@pytest.mark.parametrize("entry", KERNELS, ids=named)
def test_kernel(entry):
    assert failures(KernelSuite, "kernel", entry.load(), CORE) == []


@pytest.mark.slow
@pytest.mark.parametrize("entry", marked(KERNELS, SLOW))
def test_all_else_of_a_kernel(entry):
    assert failures(KernelSuite, "kernel", entry.load(), set(KernelSuite.checks()) - CORE) == []


def compiles(*names):
    """In a process of its own, without shape checks: the compiler cannot trace them."""
    program = Path(__file__).with_name("compiled_program.py")
    command = [sys.executable, "-W", "ignore", str(program), *names]
    environment = {**os.environ, "JAXTYPING_DISABLE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=270)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("entry", marked(COMPILED_HERE, {"indrnn"}))
def test_compiled_equals_the_loop(entry):
    compiles(entry.name)


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("cell", ["gru", *(pytest.param(each, marks=pytest.mark.long) for each in ("rnn", "lstm"))])
def test_fused_compiles_in_one_graph(cell):
    """They share the operator and its derivative."""
    compiles(f"fused {cell}")
