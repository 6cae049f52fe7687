"""What the checks of a kernel are made of."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor, nn

from seqlab.contracts import Cell, Kernel
from seqlab.recurrence.selection import Loop
from seqlab.testing.comparison import (
    CASES,
    TOLERANCES,
    accepts,
    computed,
    hold,
    overflowed,
    refusal_everywhere,
    short,
    taken,
)
from seqlab.testing.inputs import RefusedError, is_random, make_cell
from seqlab.testing.layer import Call, everything, noise, starts
from seqlab.testing.options import combinations, numeric, told
from seqlab.testing.suite import Suite, agree, demand

_SMALL: tuple[tuple[str, list[int] | None, int], ...] = (
    ("full rows", None, 1),
    ("ragged rows, both directions", [0, 7, 3, 5], 2),
    ("ragged rows", [0, 7, 3, 5], 1),
)
"""What is tried in each check: a name, the rows' lengths, and the number of directions."""


class KernelMaking(Suite):
    """Names a kernel and makes it and its cells ready for the checks.

    Attributes:
        kernel: its type, or a factory that takes its options.
        cell: makes the cell it scans; the type in ``Kernel.cell`` unless stated.
        options: what the cell's constructor is to be given besides the sizes.
        kernel_options: what the kernel's constructor is to be given.
        input_size: features of one input step.
    """

    kernel: ClassVar[Callable[..., Kernel]]
    cell: ClassVar[Callable[..., Cell] | None] = None
    options: ClassVar[Mapping[str, Any]] = {}
    kernel_options: ClassVar[Mapping[str, Any]] = {}
    input_size: ClassVar[int] = 3

    def make(self) -> Kernel:
        """Make the kernel."""
        kernel = type(self).kernel(**self.kernel_options)
        demand(isinstance(kernel, Kernel), f"it is a {type(kernel).__name__}, and no seqlab.Kernel")
        return kernel

    def factory(self) -> Callable[..., Cell]:
        """Say what makes the cells."""
        return type(self).cell or self.make().cell

    def cells(
        self, count: int, dtype: torch.dtype = torch.float32, *, train: bool = True, seed: int = 0, **sizes: int
    ) -> list[Cell]:
        """Make one cell for each direction, in training unless it then is random."""
        arguments = {"input_size": self.input_size, **self.options, **sizes}
        made = [
            make_cell(self.factory(), arguments, seed=seed + each, dtype=dtype, train=train) for each in range(count)
        ]
        return [cell.eval() for cell in made] if train and is_random(made[0]) else made

    def setup_method(self, method: Callable[..., Any]) -> None:
        """Seed the random numbers; skip where the kernel refuses all that could be asked of it here."""
        super().setup_method(method)
        if reason := refusal_everywhere(self.make(), self.cells):
            raise SkipTest(f"it refuses here: {reason}")

    def inputs(self, time: int, batch: int, *, size: int | None = None, seed: int = 5) -> Tensor:
        """Draw an input in float32."""
        return noise((time, batch, self.input_size if size is None else size), seed)

    def call(
        self, where: str, rows: Sequence[int] | None, *, directions: int = 1, time: int = 7, batch: int = 4, **more: Any
    ) -> Call:
        """Describe a call: rows of these lengths, of cells that are made with the rest of the arguments."""
        keep = {key: more.pop(key) for key in ("poison", "results", "sources", "grad") if key in more}
        cells = self.cells(directions, **more)
        batch = batch if rows is None else len(rows)
        lengths = None if rows is None else torch.tensor(rows, dtype=torch.int64)
        x = self.inputs(time, batch, size=cells[0].input_size)
        return Call(cells, x, lengths, where, **keep)

    def hold(self, where: str, rows: Sequence[int] | None, **more: Any) -> bool:
        """Hold the kernel against the loop on one call."""
        return hold(self.make(), self.call(where, rows, **more))

    def calls(self, *, gradients: bool = False, **more: Any) -> Iterator[Call]:
        """Give the small calls that the kernel takes: full rows, and ragged ones in both directions, in each dtype.

        Args:
            gradients: whether they must be taken with gradients; else those that are refused are asked without.
            more: how the cells are made.

        Raises:
            SkipTest: it refuses all of them.
        """
        kernel, found = self.make(), 0
        for where, rows, directions in _SMALL:
            plain = self.call(where, rows, directions=directions, **more)
            asked = [taken(kernel, plain.in_dtype(dtype).at(short(dtype))) for dtype in TOLERANCES]
            accepted = [call for call in asked if call is not None and (call.grad or not gradients)]
            found += len(accepted)
            yield from accepted
            if accepted and directions == 2:
                break
        if not found:
            raise SkipTest(f"it refuses them{' with gradients' if gradients else ''}, in float64 and in float32")

    def core(self, where: str) -> None:
        """Hold what matters most of one choice of options: both modes, ragged rows, directions, some sizes."""
        for train in (True, False):
            mode = "training" if train else "evaluation"
            self.hold(f"{where}, full rows, {mode}", None, train=train)
            if not self.hold(f"{where}, ragged rows, both directions, {mode}", [0, 7, 3, 5], directions=2, train=train):
                self.hold(f"{where}, ragged rows, {mode}", [0, 7, 3, 5], train=train)
            self.hold(f"{where}, full rows, {mode}, without gradients", None, train=train, grad=False)
        self.sized(f"{where}, 70 steps", None, time=70, batch=2)
        if "hidden_size" not in self.options:
            self.sized(f"{where}, 33 units", None, time=3, hidden_size=33)

    def sized(self, where: str, rows: Sequence[int] | None, **more: Any) -> bool:
        """Hold the kernel at a size that its cell may refuse."""
        with suppress(RefusedError):
            return self.hold(where, rows, **more)
        return False


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


class ContractChecks(KernelMaking):
    """What it says of itself holds, for every option."""

    def test_names_its_cell(self) -> None:
        """It has a name, a type of cell, and implements ``scan_one`` or ``scan``."""
        kernel = self.make()
        demand(isinstance(getattr(kernel, "name", None), str), "it has no name")
        cell = getattr(kernel, "cell", None)
        demand(isinstance(cell, type) and issubclass(cell, Cell), f"its cell is {cell!r}, which is no type of Cell")
        own = type(kernel)
        implemented = own.scan_one is not Kernel.scan_one or own.scan is not Kernel.scan
        demand(implemented, "it implements neither scan_one (one cell forward) nor scan (the whole layer)")

    def test_parameters_are_the_cells(self) -> None:
        """It holds no parameters of its own, so that checkpoints fit every path."""
        kernel = self.make()
        owned = [name for name, value in vars(kernel).items() if isinstance(value, Tensor | nn.Module)]
        demand(not owned, f"it holds {', '.join(owned)}")

    def test_refuses_what_it_cannot_do(self) -> None:
        """``refuses`` gives None or a reason, whatever the input; what it does not refuse, it does."""
        kernel = self.make()
        small = self.call("", None)
        odd: dict[str, tuple[torch.dtype, Tensor | None]] = {
            "float16": (torch.float16, None),
            "bfloat16": (torch.bfloat16, None),
            "float16, ragged rows": (torch.float16, torch.tensor([7, 1, 0, 6])),
            "bfloat16, ragged rows": (torch.bfloat16, torch.tensor([7, 1, 0, 6])),
        }
        for what, (dtype, lengths) in odd.items():
            cells = [copy.deepcopy(cell).to(dtype) for cell in small.cells]
            call = Call(cells, small.x.to(dtype), lengths, what)
            if accepts(kernel, call):
                got = computed(kernel, call)
                right = everything(Loop(), replace(small, lengths=lengths).in_dtype(torch.float64))
                agree(f"{what}: outputs", got["outputs"], right["outputs"], 0.1)

    def test_estimates(self) -> None:
        """``speed`` is a positive number, and ``postpones`` gives None or a reason, for what it does not refuse."""
        kernel = self.make()
        for call in self.calls():
            x = call.given()[1]
            speed = kernel.speed(call.cells, x, call.lengths)
            right = isinstance(speed, int | float) and math.isfinite(speed) and speed > 0
            demand(right, f"{call.where}: speed gives {speed!r}; it must be a positive number")
            for calls in (None, 1, 10**6):
                late = kernel.postpones(call.cells, x, call.lengths, calls)
                demand(late is None or (isinstance(late, str) and late), f"{call.where}: postpones gives {late!r}")

    def test_state_carries_over_every_cut(self) -> None:
        """Two runs joined by the state are the run in one."""
        kernel = self.make()
        for where, rows in (("full rows", None), ("ragged rows", [0, 7, 3, 5])):
            plain = self.call(where, rows, poison=False)
            for dtype in TOLERANCES:
                call = plain.in_dtype(dtype)
                with torch.no_grad():
                    if accepts(kernel, call):
                        _cuts(kernel, call.at(short(dtype)))

    def test_autocast(self) -> None:
        """Under autocast to bfloat16 it refuses, or stays near float32 and keeps the dtypes of states."""
        kernel = self.make()
        for call in self.calls():
            if call.x.dtype != torch.float32:
                continue
            expected = everything(Loop(), call)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                one = call.at("autocast to bfloat16")
                if not accepts(kernel, one):
                    continue
                got = computed(kernel, one)
            for name, value in got.items():
                agree(f"{one.where}: {name}", value, expected[name], 0.1)
                kept = name == "outputs" or value.dtype == expected[name].dtype
                demand(kept, f"{one.where}: {name} is {value.dtype}, not {expected[name].dtype}")

    def test_large_and_small_numbers(self) -> None:
        """Inputs a thousand times larger, tiny, zero and constant ones: right in float32, forward and backward."""
        kernel = self.make()
        for call in self.calls():
            if call.x.dtype != torch.float32:
                continue
            for what, change in CASES.items():
                one = replace(call, x=change(call.x)).at(what)
                if accepts(kernel, one):
                    right = everything(Loop(), one.in_dtype(torch.float64))
                    overflowed(one.where, computed(kernel, one), right, everything(Loop(), one.in_dtype(torch.float32)))
                    hold(kernel, one, [torch.float32])

    def test_every_option(self) -> None:
        """Every ``Literal``, ``bool`` and enum option of cell and kernel, and other numbers: the loop's results."""
        tried = 0
        for kind, chosen in self._variants():
            options = {**getattr(self, kind), **chosen}
            other: KernelMaking = type("Variant", (type(self),), {kind: options})()
            owner = "cell" if kind == "options" else "kernel"
            try:
                other.core(f"{owner} with {told(chosen)}")
            except RefusedError:  # this value goes with another one only
                continue
            tried += 1
        if not tried:
            raise SkipTest("neither the cell nor the kernel has such an option")

    def _variants(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        cell, kernel = self.factory(), type(self).kernel
        for chosen in combinations(cell, self.options):
            yield "options", chosen
        for name, values in numeric(cell, self.options).items():
            for value in values:
                if self._takes({name: value}):
                    yield "options", {name: value}
                    break
        for chosen in combinations(kernel, self.kernel_options):
            yield "kernel_options", chosen
        for name, values in numeric(kernel, self.kernel_options).items():
            for value in values:
                with suppress(ValueError):
                    kernel(**{**self.kernel_options, name: value})
                    yield "kernel_options", {name: value}
                    break

    def _takes(self, chosen: Mapping[str, Any]) -> bool:
        try:
            type("Variant", (type(self),), {"options": {**self.options, **chosen}})().cells(1)
        except RefusedError:
            return False
        return True


def _cuts(kernel: Kernel, call: Call) -> None:
    """Cut a run at every step."""
    _, x = call.given()
    (start,) = starts(call.cells, x)
    whole, (end,) = kernel.scan(call.cells, x, [start], call.lengths)
    for cut in range(1, len(x)):
        state, parts = start, []
        for begin, chunk in ((0, x[:cut]), (cut, x[cut:])):
            left = None if call.lengths is None else (call.lengths - begin).clamp(0, len(chunk))
            y, (state,) = kernel.scan(call.cells, chunk, [state], left)
            parts.append(y)
        agree(f"{call.where}: the outputs of a run cut at step {cut}", torch.cat(parts), whole, 1e-5)
        for name, actual, leaf in zip(call.cells[0].state_names, state, end, strict=True):
            agree(f"{call.where}: state {name} of a run cut at step {cut}", actual, leaf, 1e-5)
