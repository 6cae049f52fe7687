"""The kernels for GPUs on a CPU: interpreted, and compiled for a GPU that is not there.

In processes of their own: Triton decides between compiler and interpreter when it is imported, and both read the
kernels' source, which the checks of shapes change.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
HERE = Path(__file__).parent


def passes(suite: str, folder: Path, *options: str, **variables: str) -> None:
    environment = {**os.environ, "JAXTYPING_DISABLE": "1", "SEQLAB_COMPILE": "never", **variables}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
    done = subprocess.run(
        [*command, str(HERE / suite)], env=environment, capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("suite", ["test_kernels.py", "test_linear.py"])
@pytest.mark.timeout(900)
def test_by_the_interpreter(suite: str, tmp_path: Path) -> None:
    """A suite passes as a whole, and is not skipped as a whole."""
    passes(suite, tmp_path, TRITON_INTERPRET="1", SEQLAB_TRITON_ON_CPU="1")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_ahead(tmp_path: Path) -> None:
    """Each kernel once, in one type of number."""
    _needs_an_assembler()
    passes("test_ahead.py", tmp_path, "-m", "not long", TRITON_INTERPRET="0")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_all_compiled_ahead(tmp_path: Path) -> None:
    """Each kernel in each type of number and three sizes."""
    _needs_an_assembler()
    passes("test_ahead.py", tmp_path, "--timeout", "600", "-m", "long", TRITON_INTERPRET="0")


def _needs_an_assembler() -> None:
    from seqlab_cells.gpu import ahead

    try:
        ahead.assembler()
    except FileNotFoundError as error:
        pytest.skip(str(error))
