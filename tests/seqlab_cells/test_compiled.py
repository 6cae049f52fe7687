"""Each cell that torch does not have goes through ``kernel=compiled`` as well."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .test_every_cell import CELLS

PROGRAM = Path(__file__).with_name("compiled_program.py")


LONG = ("coupled_lstm", "peephole_lstm", "mingru", "minlstm", "layer_norm_lstm")
"""Cells of which another one here has the same kind of step, or whose command in the README compiles them."""


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    "name", [pytest.param(cell, marks=pytest.mark.long) if cell in LONG else cell for cell in CELLS]
)
def test_compiled_equals_the_loop(name: str) -> None:
    """In a process of its own, without shape checks: the compiler cannot see through them."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAM), name],
        env={**os.environ, "JAXTYPING_DISABLE": "1"},
        capture_output=True,
        text=True,
        timeout=270,
    )
    assert done.returncode == 0, done.stdout + done.stderr
