"""The Triton kernels without a GPU: tiles, interpreted, and compiled ahead of time.

In processes of their own: Triton decides between compiler and interpreter when it is imported, and both read the
kernels' source, which the checks of shapes change.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seqlab_cells.gpu import limits
from seqlab_cells.weights import EPILOGUES

pytest.importorskip("triton", reason="Triton is not installed")
HERE = Path(__file__).parent


def passes(suite: str, folder: Path, *options: str, **variables: str) -> None:
    """Run a suite in a process; one of its tests must have passed."""
    environment = {**os.environ, "JAXTYPING_DISABLE": "1", "SEQLAB_COMPILE": "never", **variables}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-rp", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
    done = subprocess.run(
        [*command, str(HERE / suite)],
        env=environment,
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "\nPASSED" in done.stdout, done.stdout[-4000:]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("suite", ["test_kernels.py", "test_replicas.py"])
def test_by_the_interpreter(suite: str, tmp_path: Path) -> None:
    passes(suite, tmp_path, TRITON_INTERPRET="1", SEQLAB_TRITON_ON_CPU="1")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_ahead(tmp_path: Path) -> None:
    """Each kernel once, in one dtype."""
    _needs_an_assembler()
    passes("test_ahead.py", tmp_path, "-m", "not long", TRITON_INTERPRET="0")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_all_compiled_ahead(tmp_path: Path) -> None:
    """Each kernel in each dtype and three sizes."""
    _needs_an_assembler()
    passes("test_ahead.py", tmp_path, "--timeout", "600", "-m", "long", TRITON_INTERPRET="0")


def _needs_an_assembler() -> None:
    import gpu_compile

    try:
        gpu_compile.assembler()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("how", ["ieee", "tf32"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("hidden", [1, 17, 64, 100, 128, 256])
@pytest.mark.parametrize("epilogue", list(EPILOGUES))
def test_warps_are_a_power_of_two(epilogue: str, hidden: int, dtype: torch.dtype, how: str, back: bool) -> None:
    """As Triton has it; three gates would make other numbers."""
    rows, warps = limits.tile(EPILOGUES[epilogue], hidden, dtype, how, back=back)
    assert rows == 16
    assert warps in (4, 8, 16)
