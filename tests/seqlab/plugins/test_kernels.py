"""kernel=auto uses a third-party kernel only after it passed its conformance tests on this machine."""

import importlib
import os
from pathlib import Path

import pytest
import torch

from seqlab import Recurrent
from seqlab.cli.commands import bench, check
from seqlab.plugins import kernels
from seqlab.recurrence import selection
from seqlab.recurrence.selection import CompilePolicy

CELL = """
import torch
from torch import nn
from seqlab import Cell, Kernel
from seqlab.recurrence import Loop

class Plain(Cell):
    def __init__(self, input_size: int, hidden_size: int = 5):
        super().__init__(input_size, hidden_size)
        self.maps = nn.Linear(input_size, hidden_size)
        self.back = nn.Linear(hidden_size, hidden_size, bias=False)
    def project(self, x):
        return self.maps(x)
    def step(self, x, state):
        h = torch.tanh(x + self.back(state[0]))
        return h, (h,)
"""
KERNEL = """
from acme_cell import Loop, Kernel, Plain

class Fast(Kernel):
    name, cell = "{name}", Plain
    def refuses(self, cells, x, lengths):
        return None
    def scan(self, cells, x, states, lengths):
        return Loop().scan(cells, x{detached}, states, lengths)
"""


def forget():
    for each in (kernels.kernels_for, kernels.kernel_types, kernels._passed):
        each.cache_clear()


@pytest.fixture
def acme(distribution, tmp_path, monkeypatch):
    """A third-party cell with a right kernel and one whose gradient is cut, and an empty cache."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    distribution("acme-cell", "[seqlab.cells]\nplain = acme_cell:Plain\n", {"acme_cell": CELL})
    sources = {
        "acme_right": KERNEL.format(name="right", detached=""),
        "acme_wrong": KERNEL.format(name="awrong", detached=".detach()"),
    }
    entries = "[seqlab.kernels]\nplain.right = acme_right:Fast\nplain.awrong = acme_wrong:Fast\n"
    distribution("acme-kernels", entries, sources)
    forget()
    yield
    forget()


def chosen(policy=None):
    network = Recurrent(importlib.import_module("acme_cell").Plain, 3, hidden_size=5)
    network.policy = policy or CompilePolicy()
    network(torch.randn(4, 2, 3))
    return network.choice.kernel.name, network.choice.reason


def test_unchecked_kernel_is_not_used_but_named(acme):
    name, reason = chosen()
    assert name == "loop"
    assert "right of acme-kernels 1.0 is not checked: run python -m seqlab check kernel=plain.right" in reason
    assert "awrong of acme-kernels 1.0 is not checked" in reason


def test_chosen_by_name_it_is_used(acme):
    network = Recurrent(importlib.import_module("acme_cell").Plain, 3, hidden_size=5, kernel="right")
    network(torch.randn(4, 2, 3))
    assert network.choice.kernel.name == "right"


@pytest.mark.slow
def test_after_its_check_it_is_used_and_the_wrong_one_never(acme, capsys):
    assert check.main(["kernel=plain.right"]) == 0
    assert "kernel=auto may now use right on this machine" in capsys.readouterr().out
    assert check.main(["kernel=plain.awrong"]) == 1
    assert "kernel=auto does not use awrong" in capsys.readouterr().out
    forget()
    name, reason = chosen()
    assert name == "right"
    assert "awrong of acme-kernels 1.0 is not checked" in reason


def test_all_checks_must_pass(acme):
    assert check.main(["kernel=plain.right", "--only", "full_rows"]) == 0
    forget()
    assert chosen()[0] == "loop"


def test_changed_code_must_be_checked_again(acme, tmp_path):
    kernels.record_trust("plain.right", passed=True)
    assert kernels.untrusted_reason("plain.right") is None
    assert "is not checked on cuda" in kernels.untrusted_reason("plain.right", "cuda")
    for changed in ("acme-kernels/acme_right.py", "acme-cell/acme_cell.py"):
        path = Path(tmp_path, changed)
        before = path.read_text("utf-8")
        path.write_text(before + "\n# changed\n", "utf-8")
        kernels._passed.cache_clear()
        assert "is not checked" in kernels.untrusted_reason("plain.right")
        path.write_text(before, "utf-8")
        kernels._passed.cache_clear()
        assert kernels.untrusted_reason("plain.right") is None
    kernels.record_trust("plain.right", passed=False)
    assert kernels.untrusted_reason("plain.right")


def resumed(policy):
    other = CompilePolicy()
    other.reasons = dict(policy.reasons)
    return other


def test_a_run_that_began_without_it_goes_on_without_it(acme):
    policy = CompilePolicy()
    assert chosen(policy)[0] == "loop"
    kernels.record_trust("plain.right", passed=True)
    assert chosen(policy)[0] == "loop", "in the middle of a run"
    assert chosen(resumed(policy))[0] == "loop", "after the run was resumed"
    assert chosen()[0] == "right", "in a new run"


def test_what_was_checked_elsewhere_is_not_trusted(acme):
    policy = CompilePolicy()
    kernels.record_trust("plain.right", passed=True)
    assert chosen(policy)[0] == "right"
    kernels.record_trust("plain.right", passed=False)
    assert chosen(resumed(policy))[0] == "loop"


def test_tuning_table_skips_unchecked_kernels(acme, capsys, monkeypatch):
    monkeypatch.setattr(os, "execve", lambda *_: None)
    kernels.record_trust("plain.right", passed=True)
    threads = torch.get_num_threads()
    assert (
        bench.main(["--cells", "plain", "--shapes", "2x3x3x5", "--runs", "1", "--tune", "--threads", str(threads)]) == 0
    )
    assert "plain: awrong of acme-kernels 1.0 is not checked" in capsys.readouterr().err
    entries = selection._read(torch.device("cpu"), torch.get_num_threads())
    assert [set(entry.speeds) for entry in entries] == [{"right"}]


def test_damaged_record_is_ignored(acme):
    kernels.record_trust("plain.right", passed=True)
    kernels._path("plain.right").write_text("{", "utf-8")
    kernels._passed.cache_clear()
    assert kernels.untrusted_reason("plain.right")
