"""Checks of a cell as one step."""

from typing import Any

import torch

from seqlab.contracts import Cell, State
from seqlab.recurrence.state import same_structure
from seqlab.testing.cells.making import MODES, CellMaking
from seqlab.testing.making import RefusedError
from seqlab.testing.suite import demand


class StepChecks(CellMaking):
    """Shapes and dtypes, at every size."""

    def test_shapes_and_dtypes(self) -> None:
        """Outputs are [time, batch, output_size] in the input's dtype, and a step keeps the state's structure."""
        for mode, train in MODES.items():
            for dtype in (torch.float32, torch.float64):
                cell, x = self.make(dtype=dtype, train=train), self.inputs(4, 3, dtype=dtype)
                start = cell.initial_state(x[0])
                _check_start(cell, start, dtype)
                projected = cell.project(x)
                demand(projected.shape[:2] == (4, 3), f"project gives {tuple(projected.shape)}, not [4, 3, ...]")
                y, new = cell.step(projected[0], start)
                expected = (3, cell.output_size)
                demand(y.shape == expected, f"the output is {tuple(y.shape)}; output_size says {expected}")
                demand(y.dtype == dtype, f"the output is {y.dtype} for an input of {dtype}")
                fault = same_structure(new, start)
                demand(not fault, f"{fault} ({dtype}, {mode})")

        for one in self.settings():
            y, end = self.run(one.cell, one.x)
            expected = (*one.x.shape[:2], one.cell.output_size)
            demand(tuple(y.shape) == expected, f"{one.where}: the outputs are {tuple(y.shape)}, not {expected}")
            for name, leaf in zip(one.cell.state_names, end, strict=True):
                right = leaf.shape[:1] == one.x.shape[1:2]
                demand(right, f"{one.where}: state {name} is {tuple(leaf.shape)} for {one.x.shape[1]} rows")
        elsewhere = self.make().to("meta")
        for name, leaf in zip(
            elsewhere.state_names, elsewhere.initial_state(self.inputs(1, 3)[0].to("meta")), strict=True
        ):
            demand(leaf.is_meta, f"state {name} is on {leaf.device} for an input on another device")

    def test_small_sizes(self) -> None:
        """One step, one row, one unit and one feature work as well as many."""
        for mode, train in MODES.items():
            for time, batch in ((1, 1), (1, 3), (5, 1)):
                cell, x = self.make(train=train), self.inputs(time, batch)
                y, _ = self.run(cell, x)
                right = (time, batch, cell.output_size)
                demand(y.shape == right, f"time {time}, batch {batch}, {mode}: {tuple(y.shape)}")
                demand(bool(y.isfinite().all()), f"time {time}, batch {batch}, {mode}: the output is not finite")
            for what in ("input_size", "hidden_size"):
                size: dict[str, Any] = {what: 1}
                try:
                    narrow = self.make(train=train, **size)
                except RefusedError:
                    continue
                y, _ = self.run(narrow, self.inputs(3, 2, size=narrow.input_size))
                demand(bool(y.isfinite().all()), f"{what} 1, {mode}: the output is not finite")


def _check_start(cell: Cell, start: State, dtype: torch.dtype) -> None:
    demand(isinstance(start, tuple), f"initial_state gives a {type(start).__name__}; it must be a tuple of tensors")
    names = cell.state_names
    demand(len(start) == len(names), f"the state has {len(start)} leaves, and state_names has {len(names)}")
    for name, leaf in zip(names, start, strict=True):
        shape = tuple(leaf.shape)
        demand(shape[:1] == (3,), f"state {name} is {shape} for a batch of 3: the batch must be its first axis")
        if leaf.is_floating_point():
            demand(leaf.dtype == dtype, f"state {name} is {leaf.dtype} for an input of {dtype}")
            demand(not bool(leaf.isnan().any()), f"state {name} starts with NaN")
