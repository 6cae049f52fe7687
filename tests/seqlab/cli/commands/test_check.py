"""``check``: conformance tests from the command line."""

import json

import pytest

FAULTY = """
from seqlab import Cell
from torch import nn

class Faulty(Cell):
    \"\"\"It sees the future.\"\"\"

    def __init__(self, input_size: int, hidden_size: int = 4, look: bool = True):
        super().__init__(input_size, hidden_size)
        self.look = look
        self.maps = nn.Linear(input_size, hidden_size)
        self.back = nn.Linear(hidden_size, hidden_size, bias=False)

    def project(self, x):
        return self.maps(x.flip(0) if self.look else x)

    def step(self, x, state):
        h = (x + self.back(state[0])).tanh()
        return h, (h,)
"""


@pytest.fixture
def faulty(distribution):
    distribution("acme", "[seqlab.cells]\nfaulty = acme_faulty:Faulty\n", {"acme_faulty": FAULTY})


def test_a_right_cell_passes(cli):
    done = cli("check", "cell=rnn", "cell.nonlinearity=relu", "--only", "causality")
    assert done.code == 0, done.out
    assert len(done.out.strip().splitlines()) == 1
    assert done.out.startswith("cell=rnn (seqlab ")
    assert "1 passed, 0 failed, 0 skipped" in done.out


def test_verbose_lists_passed_tests(cli):
    assert "causality" in cli("check", "cell=rnn", "--only", "causality", "-v").out


def test_failures_are_last_in_two_lines_each_and_later_ones_folded(cli, distribution):
    source = FAULTY.replace("return h, (h,)", "self.last = getattr(self, 'last', 0) + 0.1; return h + self.last, (h,)")
    distribution("acme", "[seqlab.cells]\nfaulty = acme_faulty:Faulty\n", {"acme_faulty": source})
    done = cli("check", "cell=faulty", "cell.look=false", "--only", "e")
    lines = [line for line in done.out.splitlines() if line]
    assert done.code == 1
    counts = next(n for n, line in enumerate(lines) if line.startswith("cell=faulty (acme 1.0): "))
    assert lines[counts + 1].startswith("failed: no memory between calls: ")
    assert lines[counts + 2].startswith("  the same call in evaluation, after others in evaluation")
    assert "more failed, which may follow from it" in lines[counts + 3]
    assert "sees changed parameters" in lines[counts + 3]
    assert len(lines) == counts + 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("cell=gru", "kernel=vendor"),
        ("cell=gru", "kernel=gru.vendor"),
        ("kernel=vendor", "cell=gru"),
        ("cell=fused_gru",),
    ],
)
def test_a_kernel_over_its_cell(cli, arguments):
    done = cli("check", *arguments, "--only", "full_rows")
    assert done.code == 0, done.err
    assert "1 passed" in done.out
    assert done.out.startswith("kernel=gru.")


def test_options_of_the_cell_and_of_the_kernel(cli):
    options = ("cell.nonlinearity=relu", "kernel.save=recompute")
    done = cli("check", "cell=rnn", "kernel=fused", *options, "--only", "full_rows")
    assert done.code == 0, done.err


def test_a_faulty_cell_fails_with_the_number(cli, faulty):
    done = cli("check", "cell=faulty", "--json", "--only", "causality")
    record = json.loads(done.out)
    assert done.code == 1
    assert not record["passed"]
    assert {one["result"] for one in record["checks"]} == {"failed"}
    assert "differs by 1.39; at most 1e-09 is allowed" in record["checks"][0]["detail"]
    assert cli("check", "cell=faulty", "cell.look=false", "--only", "causality").code == 0


@pytest.mark.parametrize(
    ("plugin", "only"), [("kernel=gru.vendor", "the"), ("task=names", "loss"), ("preprocessing=characters", "text")]
)
def test_other_kinds_have_their_suites(cli, plugin, only):
    done = cli("check", plugin, "--only", only, "--json")
    record = json.loads(done.out)
    assert done.code == 0, [one for one in record["checks"] if one["result"] == "failed"]
    assert len(record["checks"]) > 2
