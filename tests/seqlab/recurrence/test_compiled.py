"""The compiled scan against the loop: outputs, states and every gradient; one graph for every batch and length."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("compiled_program.py")


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("case", ["gru", "lstm", "bidirectional", "matrix", "counting", "refused"])
def test_compiled_equals_the_loop(case):
    """In a process of its own, without shape checks: the compiler cannot see through them."""
    environment = {**os.environ, "JAXTYPING_DISABLE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAM), case],
        env=environment,
        capture_output=True,
        text=True,
        timeout=270,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_to_scan_goes_to_the_loop(caplog):
    import torch

    from seqlab import Recurrent
    from seqlab_cells.gru import GRU

    with caplog.at_level(logging.WARNING):
        net = Recurrent(GRU, 3, hidden_size=4, kernel="compiled")
        y, _ = net(torch.randn(0, 2, 3))
    assert y.shape == (0, 2, 4)
    assert net.choice.kernel.name == "loop"
    assert "nothing to scan" in net.choice.reason
