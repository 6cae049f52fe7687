"""The Triton kernels compile without a GPU, and fit one: registers, spills, shared memory."""

import os

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")
import gpu_compile

from seqlab_cells.gpu import limits
from seqlab_cells.weights import EPILOGUES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"),
    pytest.mark.skipif(os.environ.get("JAXTYPING_DISABLE") != "1", reason="run by test_without_a_gpu.py"),
]
DTYPES = {"bf16": (torch.bfloat16, "ieee"), "fp16": (torch.float16, "ieee"), "tf32": (torch.float32, "tf32"),
          "fp32": (torch.float32, "ieee")}  # fmt: skip
SPILLED = 512
"""Bytes that a thread may spill, most of them before the loop."""


def fits(direction: str, epilogue: str, hidden: int, kind: str, capability: int) -> None:
    dtype, precision = DTYPES[kind]
    made = EPILOGUES[epilogue]
    found = gpu_compile.resources(direction, made, hidden, dtype, precision=precision, capability=capability)
    assert found.tensor_cores == (kind != "fp32")
    assert found.registers <= 255
    assert found.spilled <= SPILLED
    assert found.shared <= limits.w_bytes(made, hidden, dtype) + limits.AROUND


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(
    ("epilogue", "hidden", "kind", "capability"),
    [("Lstm", 64, "bf16", 90), ("Gru", 50, "fp16", 80), ("RnnRelu", 64, "tf32", 90), ("Gru", 32, "fp32", 90)],
)
def test_a_scan_fits(direction: str, epilogue: str, hidden: int, kind: str, capability: int) -> None:
    """Every kind of cell and of number; a size that is no power of two, and an older architecture."""
    fits(direction, epilogue, hidden, kind, capability)


@pytest.mark.long
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("epilogue", list(EPILOGUES))
@pytest.mark.parametrize("kind", list(DTYPES))
@pytest.mark.parametrize("hidden", [16, 64, 128])
def test_every_scan_fits(direction: str, epilogue: str, hidden: int, kind: str) -> None:
    """All of them, on the architecture they were made for."""
    if limits.too_large(EPILOGUES[epilogue], hidden, DTYPES[kind][0]):
        pytest.skip("refused: W is too large")
    fits(direction, epilogue, hidden, kind, 90)


@pytest.mark.parametrize("name", ["effects", "scan", "scan_back"])
def test_the_linear_scan_fits(name: str) -> None:
    """Nothing is spilled where all is to be in flight."""
    found = gpu_compile.linear_resources(name, torch.bfloat16, backward=name == "scan_back")
    assert found.spilled == 0
