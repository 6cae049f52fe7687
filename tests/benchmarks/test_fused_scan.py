"""The benchmark of the fused scan: against torch.nn, and against a kernel that is given by its folder."""

import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest


@pytest.fixture
def fused_scan(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import fused_scan

    return fused_scan


@pytest.fixture
def prototype(tmp_path, monkeypatch):
    """A folder with a plain loop, for RNNs alone."""
    loop = """
        import torch

        class Fn:
            @staticmethod
            def apply(kind, x, h, c, w_ih, w_hh, b_ih, b_hh):
                assert kind == 2
                outputs = []
                for step in x:
                    h = torch.tanh(step @ w_ih.T + b_ih + h @ w_hh.T + b_hh)
                    outputs.append(h)
                return torch.stack(outputs)
        """
    (tmp_path / "lib.py").write_text(dedent(loop), "utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("lib", None)


def test_ratios_to_torch_and_to_the_prototype(fused_scan, prototype, capsys):
    fused_scan.compare("rnn", fused_scan.read_shape("3x5x2x4"), 4, fused_scan.load(prototype))
    printed = capsys.readouterr().out
    assert re.findall(r"fused / (\S+): \d+\.\d+ \(", printed) == ["torch.nn.RNN", "prototype"]


def test_a_ratio_is_that_of_each_round(fused_scan):
    """The median does not depend on rounds in which both were slow."""
    assert fused_scan.ratio([1.0, 20.0, 1.5], [2.0, 40.0, 3.0]) == "0.500 (0.500-0.500), shortest 0.500"
