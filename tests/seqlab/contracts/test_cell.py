"""What a cell gets from its base class."""

from typing import Any

import pytest
import torch
from torch import Tensor

from seqlab import Cell, State


class Echo(Cell):
    """The least that a cell must say."""

    state_names = ("a", "b")

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return x, state


def test_a_cell_without_a_step_cannot_be_made() -> None:
    class Stepless(Cell):
        """Says nothing."""

    with pytest.raises(TypeError, match="step"):
        Stepless(2, 3)  # type: ignore[abstract]  # that is the point


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((0, 3), "input_size must be >= 1, got 0"), ((2, -1), "hidden_size must be >= 1, got -1")],
)
def test_sizes_are_positive(sizes: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Echo(*sizes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5,), (5, 2), (0, 2)])
def test_the_state_begins_as_zeros_for_each_name(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """With the batch, the dtype and the device of the tensor that it is made like, whatever else its shape."""
    state = Echo(2, 3).initial_state(torch.full(shape, float("nan"), dtype=dtype))
    assert len(state) == 2
    for leaf in state:
        assert leaf.dtype == dtype
        assert torch.equal(leaf, torch.zeros(shape[0], 3, dtype=dtype))


def test_a_cell_that_projects_nothing_reads_its_input_and_gives_its_hidden_size() -> None:
    cell, x = Echo(2, 3), torch.randn(4, 5, 2)
    assert cell.project(x) is x
    assert cell.output_size == 3


@pytest.mark.parametrize("name", ["Cell", "Kernel", "Model", "Task", "Preprocessor"])
def test_contracts_are_abstract(name: str) -> None:
    import seqlab

    contract: Any = getattr(seqlab, name)
    with pytest.raises(TypeError, match="abstract"):
        contract()
