"""The kernels for GPUs on a CPU: interpreted, and compiled for a GPU that is not there.

In processes of their own: Triton decides between compiler and interpreter when it is imported, and both read the
kernels' source, which the checks of shapes change.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
HERE = Path(__file__).parent


def passes(suites: Sequence[str], folder: Path, *options: str, **variables: str) -> None:
    """Run suites in one process, for one takes longer to start than they take; a test of each must have passed."""
    environment = {**os.environ, "JAXTYPING_DISABLE": "1", "SEQLAB_COMPILE": "never", **variables}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-rp", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
    done = subprocess.run(
        [*command, *(str(HERE / suite) for suite in suites)],
        env=environment,
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    passed = [line for line in done.stdout.splitlines() if line.startswith("PASSED")]
    assert all(any(suite in line for line in passed) for suite in suites), done.stdout[-4000:]


@pytest.mark.timeout(900)
def test_by_the_interpreter(tmp_path: Path) -> None:
    """Each suite passes as a whole, and is not skipped as a whole."""
    passes(["test_kernels.py", "test_linear.py"], tmp_path, TRITON_INTERPRET="1", SEQLAB_TRITON_ON_CPU="1")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_ahead(tmp_path: Path) -> None:
    """Each kernel once, in one type of number."""
    _needs_an_assembler()
    passes(["test_ahead.py"], tmp_path, "-m", "not long", TRITON_INTERPRET="0")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_all_compiled_ahead(tmp_path: Path) -> None:
    """Each kernel in each type of number and three sizes."""
    _needs_an_assembler()
    passes(["test_ahead.py"], tmp_path, "--timeout", "600", "-m", "long", TRITON_INTERPRET="0")


def _needs_an_assembler() -> None:
    from seqlab_cells.gpu import ahead

    try:
        ahead.assembler()
    except FileNotFoundError as error:
        pytest.skip(str(error))
