"""What fits a GPU, and how programs are cut."""

import pytest
import torch

from seqlab_cells.weights import EPILOGUES
from seqlab_cells.gpu import limits


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("how", ["ieee", "tf32"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("hidden", [1, 17, 64, 100, 128, 256])
@pytest.mark.parametrize("tail", list(TAILS))
def test_warps_are_a_power_of_two(tail: str, hidden: int, dtype: torch.dtype, how: str, back: bool) -> None:
    """As Triton has it; three gates would make other numbers."""
    rows, warps = limits.tile(TAILS[tail], hidden, dtype, how, back=back)
    assert rows == 16
    assert warps in (4, 8, 16)
