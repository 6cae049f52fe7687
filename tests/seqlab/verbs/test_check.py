"""``check``: the conformance kit from the command line."""

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
    assert "causality by gradient" in done.out
    assert "2 passed, 0 failed, 0 skipped" in done.out
    assert "s of compiling" in done.out


def test_a_faulty_cell_fails_with_the_number(cli, faulty):
    done = cli("check", "cell=faulty", "--json", "--only", "causality")
    record = json.loads(done.out)
    assert done.code == 1
    assert not record["passed"]
    assert {one["result"] for one in record["checks"]} == {"failed"}
    assert "has a gradient of 0." in record["checks"][0]["detail"]


def test_its_options_are_the_configs(cli, faulty):
    assert cli("check", "cell=faulty", "cell.look=false", "--only", "causality").code == 0


@pytest.mark.parametrize("plugin", ["kernel=gru.vendor", "task=names", "preprocessing=characters"])
def test_other_kinds_have_their_suites(cli, plugin):
    done = cli("check", plugin, "--only", "a", "--json")
    record = json.loads(done.out)
    assert done.code == 0, [one for one in record["checks"] if one["result"] == "failed"]
    assert len(record["checks"]) > 5


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["cell=lstmm"], "cell=lstmm: there is no such cell; there are "),
        (["lstm"], "lstm: what is to be checked must be KIND=NAME, KIND one of cell, kernel, task, preprocessing"),
        (["model=bow"], "model=bow: what is to be checked must be KIND=NAME"),
        (["cell=lstm", "hidden_size=3"], "hidden_size=3: an option must be cell.KEY=VALUE"),
        (["cell=lstm", "cell.hidden=3"], "cell.hidden: "),
        (["cell=lstm", "cell.hidden_size=x"], "cell.hidden_size: "),
        (["cell=lstm", "--only", "nothing"], "nothing: there is no such check; there are shapes_and_dtypes, "),
    ],
)
def test_a_mistake_is_one_line(cli, arguments, line):
    done = cli("check", *arguments)
    assert done.code == 1
    assert done.err.strip().startswith(line)
    assert "\n" not in done.err.strip()
