"""Every shipped cell and kernel by the kit that strangers use."""

from importlib.metadata import distribution

import pytest

from seqlab.testing import CellSuite, KernelSuite, run_suite

ENTRIES = distribution("seqlab").entry_points
COMPILED = "compiled_equals_the_loop"


@pytest.mark.parametrize("entry", ENTRIES.select(group="seqlab.cells"), ids=lambda entry: entry.name)
def test_cell(entry):
    skips = {COMPILED: "test_compiled.py has it for two cells, `seqlab check` for all"}
    suite = type("Suite", (CellSuite,), {"cell": staticmethod(entry.load()), "skips": skips})
    assert [(one.check, one.detail) for one in run_suite(suite) if one.result == "failed"] == []


@pytest.mark.parametrize("entry", ENTRIES.select(group="seqlab.kernels"), ids=lambda entry: entry.name)
def test_kernel(entry):
    suite = type("Suite", (KernelSuite,), {"kernel": staticmethod(entry.load())})
    outcomes = list(run_suite(suite))
    assert [(one.check, one.detail) for one in outcomes if one.result == "failed"] == []
    assert any(one.result == "passed" for one in outcomes)
