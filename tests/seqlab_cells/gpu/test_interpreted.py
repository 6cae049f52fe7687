"""The kernels for GPUs on a CPU: Triton decides between compiler and interpreter when it is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
HERE = Path(__file__).parent


@pytest.mark.parametrize("suite", ["test_kernels.py", "test_linear.py"])
@pytest.mark.timeout(900)
def test_by_the_interpreter(suite: str, tmp_path: Path) -> None:
    """A suite passes as a whole, and is not skipped as a whole."""
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "1",
        "SEQLAB_TRITON_ON_CPU": "1",
        "JAXTYPING_DISABLE": "1",  # the interpreter reads the kernels' source
        "SEQLAB_COMPILE": "never",
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        str(HERE / suite),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
