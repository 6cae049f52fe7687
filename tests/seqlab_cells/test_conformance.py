"""Every shipped cell and kernel by the kit that strangers use."""

from importlib.metadata import distribution

import pytest

from seqlab.testing import CellSuite, KernelSuite, run_suite

ENTRIES = distribution("seqlab").entry_points
COMPILED = "compiled_equals_the_loop"
COMPILED_ELSEWHERE = "test_compiled.py has it for two cells, `seqlab check` for all"
LARGE = {
    "causality_by_gradient", "causality_by_perturbation", "every_option", "gradients_are_right",
    "large_and_small_numbers", "rows_are_independent", "state_carries_over_every_cut",
}  # fmt: skip
"""Checks of a cell that run many sizes or options: in ``make test-slow``."""
SLOW = {"gru.fused", "lstm.vendor", "rnn.fused", "minlstm.parallel"}
"""Kernels whose other checks run there; those of the rest, which share their code, in ``make verify-long``."""


CORE = {
    "autocast", "both_directions", "empty_rows", "estimates", "full_rows", "layout_of_the_gradient", "names_its_cell",
    "no_memory_between_calls", "no_steps_and_no_rows", "parameters_are_the_cells", "parts_of_the_loss", "ragged_rows",
    "same_call_twice", "values_kept_for_backward",
}  # fmt: skip
"""Checks that every kernel passes in the fast tests."""


def cell_suite(target, *, large):
    left_out = {name: "elsewhere" for name in CellSuite.checks() if (name in LARGE) != large}
    made = {"cell": staticmethod(target), "skips": {**left_out, COMPILED: COMPILED_ELSEWHERE}}
    return type("Suite", (CellSuite,), made)


def kernel_suite(target, *, core):
    left_out = {name: "elsewhere" for name in KernelSuite.checks() if (name in CORE) != core}
    return type("Suite", (KernelSuite,), {"kernel": staticmethod(target), "skips": left_out})


def failures(suite):
    outcomes = list(run_suite(suite))
    assert any(one.result == "passed" for one in outcomes)
    return [(one.check, one.detail) for one in outcomes if one.result == "failed"]


@pytest.mark.parametrize("entry", ENTRIES.select(group="seqlab.cells"), ids=lambda entry: entry.name)
def test_cell(entry):
    assert failures(cell_suite(entry.load(), large=False)) == []


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES.select(group="seqlab.cells"), ids=lambda entry: entry.name)
def test_cell_at_large_sizes(entry):
    assert failures(cell_suite(entry.load(), large=True)) == []


@pytest.mark.parametrize("entry", ENTRIES.select(group="seqlab.kernels"), ids=lambda entry: entry.name)
def test_kernel(entry):
    assert failures(kernel_suite(entry.load(), core=True)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=entry.name, marks=[] if entry.name in SLOW else [pytest.mark.long])
        for entry in ENTRIES.select(group="seqlab.kernels")
    ],
)
def test_all_else_of_a_kernel(entry):
    assert failures(kernel_suite(entry.load(), core=False)) == []
