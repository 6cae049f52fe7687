"""Checks of a kernel's outputs, states and gradients over rows and sizes."""

import torch

from seqlab.testing.kernels.making import KernelMaking

EDGES = (15, 16, 17, 31, 32, 33, 63, 64, 65)
"""Sizes around the tiles of kernels."""
LONG = (128, 130, 300, 1030)


class ValueChecks(KernelMaking):
    """The loop's outputs, states and gradients, whatever the rows and the sizes."""

    def test_full_rows(self) -> None:
        """Rows that fill all steps: the loop's outputs, states and gradients."""
        self.hold("full rows", None)

    def test_ragged_rows(self) -> None:
        """Rows of unequal length: the same, with zeros as the outputs of padding."""
        self.hold("ragged rows", [7, 1, 4, 6], poison=False)
        self.hold("ragged rows in order of length", [7, 6, 4, 1], poison=False)
        self.hold("lengths that are all full", [7, 7, 7], poison=False)
        self.hold("rows that all end before the last step", [3, 5, 2], poison=False)

    def test_empty_rows(self) -> None:
        """A row of length 0 keeps its initial state."""
        self.hold("rows of length 0", [0, 7, 3, 0], poison=False)
        self.hold("rows of length 0 alone", [0, 0], poison=False)

    def test_nan_in_the_padding(self) -> None:
        """What stands in the padding reaches no output, state or gradient."""
        self.hold("NaN in the padding", [7, 1, 4, 6])
        self.hold("NaN in rows of length 0", [0, 7, 0, 6])

    def test_both_directions(self) -> None:
        """A second cell reads each row backward within its length."""
        self.hold("both directions", None, directions=2)
        for rows in ([3, 7, 1, 5], [0, 7, 3, 0], [0, 0, 0], [7, 7], [2, 5, 4]):
            self.hold(f"both directions, rows of {', '.join(map(str, rows))} steps", rows, directions=2)

    def test_one_step_and_one_row(self) -> None:
        """One step, one row and one feature are no special case."""
        for time, batch in ((1, 1), (1, 4), (7, 1), (2, 1)):
            for directions in (1, 2):
                way = "forward" if directions == 1 else "both directions"
                self.hold(f"{time} steps, {batch} rows, {way}", None, time=time, batch=batch, directions=directions)
                self.hold(f"{batch} rows of {time} steps, lengths given, {way}", [time] * batch, time=time)
        self.hold("rows of no step and of one, both directions", [0, 1, 1, 0], time=1, directions=2)
        for rows in ([0], [4]):
            for directions in (1, 2):
                self.hold(f"one row of {rows[0]} steps among 7", rows, directions=directions)
        self._sizes("one feature", 3, 2, input_size=1)
        self._sizes("one unit", 3, 2, hidden_size=1)
        self._sizes("one of everything", 1, 1, input_size=1, hidden_size=1)

    def test_long_rows(self) -> None:
        """Many steps are no special case, around powers of two and beyond a thousand."""
        for time in (*EDGES, *LONG):
            self._sizes(f"{time} steps", time, 2 if time > 300 else 3)
        self._sizes("one row of 257 steps", 257, 1)

    def test_many_rows(self) -> None:
        """Many rows are no special case, around powers of two and beyond a thousand."""
        for batch in (*EDGES, *LONG):
            self._sizes(f"{batch} rows", 3, batch)

    def test_sizes_of_the_cell(self) -> None:
        """Widths around 16, 32, 64 and beyond 100 are no special case: of units, of input features, and of both."""
        for width in (*EDGES, 128, 129, 257):
            self._sizes(f"{width} units", 4, 3, hidden_size=width)
            self._sizes(f"{width} input features", 4, 3, input_size=width)
        for time, batch, size, hidden in (
            (33, 65, 16, 64),
            (65, 17, 33, 63),
            (20, 130, 17, 33),
            (17, 33, 64, 65),
            (16, 16, 16, 16),
            (130, 130, 3, 5),
        ):
            where = f"{time} steps, {batch} rows, {size} input features, {hidden} units"
            self._sizes(where, time, batch, input_size=size, hidden_size=hidden)

    def _sizes(self, where: str, time: int, batch: int, **sizes: int) -> None:
        """Hold full rows forward, and ragged ones in both directions, or forward where that is refused."""
        wanted = {key: value for key, value in sizes.items() if key not in self.options}
        rows = torch.randint(0, time + 1, (batch,), generator=torch.Generator().manual_seed(batch)).tolist()
        rows[0] = time
        rows[2:3] = [0][: len(rows) - 2]
        self.sized(where, None, time=time, batch=batch, **wanted)
        if not self.sized(f"{where}, ragged, both directions", rows, time=time, directions=2, **wanted):
            self.sized(f"{where}, ragged", rows, time=time, **wanted)

    def test_no_steps_and_no_rows(self) -> None:
        """Nothing to scan gives no outputs and leaves the states as they were, with their gradient."""
        for directions in (1, 2):
            self.hold("no steps", None, time=0, directions=directions)
            self.hold("no rows", None, batch=0, directions=directions)
            self.hold("no steps, lengths given", [0, 0, 0], time=0, directions=directions)
