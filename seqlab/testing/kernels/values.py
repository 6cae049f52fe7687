"""Checks of the outputs and states of a kernel, and of what it says of itself."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor, nn

from seqlab.contracts import Cell, Kernel
from seqlab.testing.comparison import (
    CASES,
    TOLERANCES,
    accepted,
    accepts,
    check_overflow,
    compare_with_loop,
    refusal_everywhere,
    run_kernel,
    short,
)
from seqlab.testing.layer import (
    Call,
    RefusedError,
    is_random,
    loop_results,
    make_cell,
    random_normal,
    reached_states,
)
from seqlab.testing.options import combinations, format_options, numeric
from seqlab.testing.suite import Suite, assert_close, require

RAGGED = [0, 7, 3, 5]
_SMALL: tuple[tuple[str, list[int] | None, int], ...] = (
    ("full rows", None, 1),
    ("ragged rows, both directions", RAGGED, 2),
    ("ragged rows", RAGGED, 1),
)
"""Calls of most checks: a name, the rows' lengths, and the number of directions."""


class KernelBase(Suite):
    """Makes the kernel of a :class:`seqlab.testing.KernelSuite`, its cells and calls."""

    kernel: ClassVar[Callable[..., Kernel]]
    cell: ClassVar[Callable[..., Cell] | None] = None
    options: ClassVar[Mapping[str, Any]] = {}
    kernel_options: ClassVar[Mapping[str, Any]] = {}
    input_size: ClassVar[int] = 3

    def make(self) -> Kernel:
        """Return a new kernel."""
        kernel = type(self).kernel(**self.kernel_options)
        require(isinstance(kernel, Kernel), f"it is a {type(kernel).__name__}, not a seqlab.Kernel")
        return kernel

    def factory(self) -> Callable[..., Cell]:
        """Return what makes the cells."""
        return type(self).cell or self.make().cell

    def cells(
        self, count: int, dtype: torch.dtype = torch.float32, *, train: bool = True, seed: int = 0, **sizes: int
    ) -> list[Cell]:
        """Return one cell for each direction, in training mode unless it is then random."""
        arguments = {"input_size": self.input_size, **self.options, **sizes}
        made = [make_cell(self.factory(), arguments, seed=seed + n, dtype=dtype, train=train) for n in range(count)]
        return [cell.eval() for cell in made] if train and is_random(made[0]) else made

    def setup_method(self, method: Callable[..., Any]) -> None:
        """Skip the check if the kernel refuses everything here; seed torch."""
        super().setup_method(method)
        if reason := refusal_everywhere(self.make(), self.cells):
            raise SkipTest(f"it refuses here: {reason}")

    def call(
        self, where: str, rows: Sequence[int] | None, *, directions: int = 1, time: int = 7, batch: int = 4, **more: Any
    ) -> Call:
        """Return a call on rows of these lengths; further arguments are for the call or for its cells."""
        keep = {key: more.pop(key) for key in ("nan_padding", "grad", "last") if key in more}
        cells = self.cells(directions, **more)
        lengths = None if rows is None else torch.tensor(rows, dtype=torch.int64)
        x = random_normal((time, batch if rows is None else len(rows), cells[0].input_size), 5)
        return Call(cells, x, lengths, where, **keep)

    def compare(self, where: str, rows: Sequence[int] | None, **more: Any) -> bool:
        """Compare the kernel with the loop on one call; return whether it accepts the call."""
        return compare_with_loop(self.make(), self.call(where, rows, **more))

    def calls(self, *, gradients: bool = False, **more: Any) -> Iterator[Call]:
        """Yield small calls that the kernel accepts: full rows, and ragged ones in both directions, in each dtype.

        With ``gradients``, it must accept them with gradients; else those that it refuses so come without. Skip the
        check if it refuses all of them.
        """
        kernel, found = self.make(), 0
        for where, rows, directions in _SMALL:
            plain = self.call(where, rows, directions=directions, **more)
            asked = [accepted(kernel, plain.in_dtype(dtype).at(short(dtype))) for dtype in TOLERANCES]
            taken = [call for call in asked if call is not None and (call.grad or not gradients)]
            found += len(taken)
            yield from taken
            if taken and directions == 2:
                break
        if not found:
            raise SkipTest(f"it refuses them{' with gradients' if gradients else ''}, in float64 and in float32")

    def core(self, where: str) -> None:
        """Run the most important comparisons for one choice of options: modes, ragged rows, directions, sizes."""
        for train in (True, False):
            mode = "training" if train else "evaluation"
            self.compare(f"{where}, full rows, {mode}", None, train=train)
            both = f"{where}, ragged rows, both directions, {mode}"
            if not self.compare(both, RAGGED, directions=2, train=train):
                self.compare(f"{where}, ragged rows, {mode}", RAGGED, train=train)
            self.compare(f"{where}, full rows, {mode}, without gradients", None, train=train, grad=False)
        self.compare_size(f"{where}, 70 steps", None, time=70, batch=2)
        if "hidden_size" not in self.options:
            self.compare_size(f"{where}, 33 units", None, time=3, hidden_size=33)

    def compare_size(self, where: str, rows: Sequence[int] | None, **more: Any) -> bool:
        """Compare at a size that the cell's constructor may refuse."""
        with suppress(RefusedError):
            return self.compare(where, rows, **more)
        return False


_EDGES = (15, 16, 17, 31, 32, 33, 63, 64, 65)
"""Sizes around the tiles of kernels."""
_LONG = (128, 130, 300, 1030)
_ROWS = ([7, 1, 4, 6], [7, 6, 4, 1], [7, 7, 7], [3, 5, 2], [0, 7, 3, 0], [0, 0], [2, 5, 4])
"""Ragged, sorted, full, none full, some empty, all empty."""


class ValueChecks(KernelBase):
    """The loop's outputs, states and gradients, whatever the rows and the sizes."""

    def test_full_rows(self) -> None:
        """Rows that fill all steps: the loop's outputs, states and gradients."""
        self.compare("full rows", None)

    def test_ragged_rows(self) -> None:
        """Rows of unequal length, 0 included, in one and both directions: the same, with zeros as outputs of padding.

        An empty row keeps its initial state, and its last output is zero. A second cell reads each row backward within
        its length.
        """
        for rows in _ROWS:
            for nan_padding in (False, True):
                filled = "NaN" if nan_padding else "zeros"
                where = f"rows of {', '.join(map(str, rows))} steps, {filled} in the padding"
                self.compare(where, rows, nan_padding=nan_padding)
            self.compare(f"{where}, both directions", rows, directions=2)
            for directions in (1, 2):
                self.compare(
                    f"the last outputs of {where}, {directions} directions", rows, directions=directions, last=True
                )
        self.compare("full rows, both directions", None, directions=2)

    def test_one_step_and_one_row(self) -> None:
        """One step, one row and one feature are no special case."""
        for time, batch in ((1, 1), (1, 4), (7, 1), (2, 1)):
            for directions in (1, 2):
                way = "forward" if directions == 1 else "both directions"
                self.compare(f"{time} steps, {batch} rows, {way}", None, time=time, batch=batch, directions=directions)
                self.compare(f"{batch} rows of {time} steps, lengths given, {way}", [time] * batch, time=time)
        self.compare("rows of no step and of one, both directions", [0, 1, 1, 0], time=1, directions=2)
        for rows in ([0], [4]):
            for directions in (1, 2):
                self.compare(f"one row of {rows[0]} steps among 7", rows, directions=directions)
        self._sizes("one feature", 3, 2, input_size=1)
        self._sizes("one unit", 3, 2, hidden_size=1)
        self._sizes("one of everything", 1, 1, input_size=1, hidden_size=1)

    def test_sizes(self) -> None:
        """No size is a special case: steps, rows, units and input features around powers of two, and beyond."""
        for size in (*_EDGES, *_LONG):
            self._sizes(f"{size} steps", size, 2 if size > 300 else 3)
            self._sizes(f"{size} rows", 3, size)
        self._sizes("one row of 257 steps", 257, 1)
        for width in (*_EDGES, 128, 129, 257):
            self._sizes(f"{width} units", 4, 3, hidden_size=width)
            self._sizes(f"{width} input features", 4, 3, input_size=width)
        for time, batch, size, hidden in (
            (33, 65, 16, 64), (65, 17, 33, 63), (20, 130, 17, 33), (17, 33, 64, 65), (16, 16, 16, 16), (130, 130, 3, 5),
        ):  # fmt: skip
            where = f"{time} steps, {batch} rows, {size} input features, {hidden} units"
            self._sizes(where, time, batch, input_size=size, hidden_size=hidden)

    def _sizes(self, where: str, time: int, batch: int, **sizes: int) -> None:
        """Compare full rows forward, and ragged ones in both directions, or forward where that is refused."""
        wanted = {key: value for key, value in sizes.items() if key not in self.options}
        rows = torch.randint(0, time + 1, (batch,), generator=torch.Generator().manual_seed(batch)).tolist()
        rows[0] = time
        rows[2:3] = [0][: len(rows) - 2]
        self.compare_size(where, None, time=time, batch=batch, **wanted)
        if not self.compare_size(f"{where}, ragged, both directions", rows, time=time, directions=2, **wanted):
            self.compare_size(f"{where}, ragged", rows, time=time, **wanted)

    def test_no_steps_and_no_rows(self) -> None:
        """An empty input gives no outputs and leaves the states as they were, with their gradient."""
        for directions in (1, 2):
            self.compare("no steps", None, time=0, directions=directions)
            self.compare("no rows", None, batch=0, directions=directions)
            self.compare("no steps, lengths given", [0, 0, 0], time=0, directions=directions)


class ContractChecks(KernelBase):
    """The contract holds, for every option."""

    def test_names_its_cell(self) -> None:
        """It has a name, a type of cell, and implements ``scan_one`` or ``scan``."""
        kernel = self.make()
        require(isinstance(getattr(kernel, "name", None), str), "it has no name")
        cell = getattr(kernel, "cell", None)
        require(isinstance(cell, type) and issubclass(cell, Cell), f"its cell is {cell!r}, which is no type of Cell")
        own = type(kernel)
        implemented = own.scan_one is not Kernel.scan_one or own.scan is not Kernel.scan
        require(implemented, "it implements neither scan_one (one cell forward) nor scan (the whole layer)")

    def test_parameters_are_the_cells(self) -> None:
        """It has no parameters of its own, so that checkpoints fit every path."""
        owned = [name for name, value in vars(self.make()).items() if isinstance(value, Tensor | nn.Module)]
        require(not owned, f"it has parameters of its own: {', '.join(owned)}; they belong to the cell")

    def test_refuses_what_it_cannot_do(self) -> None:
        """``refuses`` returns None or a reason, whatever the input; what it does not refuse, it does."""
        kernel = self.make()
        small = self.call("", None)
        for dtype in (torch.float16, torch.bfloat16):
            for what, lengths in (("full rows", None), ("ragged rows", torch.tensor([7, 1, 0, 6]))):
                cells = [copy.deepcopy(cell).to(dtype) for cell in small.cells]
                call = Call(cells, small.x.to(dtype), lengths, f"{short(dtype)}, {what}")
                if accepts(kernel, call):
                    right = loop_results(replace(small, lengths=lengths))
                    assert_close(f"{call.where}: outputs", run_kernel(kernel, call)["outputs"], right["outputs"], 0.1)

    def test_estimates(self) -> None:
        """``speed`` is a positive number, ``defer_reason`` returns None or a reason, for what it does not refuse."""
        kernel = self.make()
        for call in self.calls():
            x = call.given()[1]
            speed = kernel.speed(call.cells, x, call.lengths)
            right = isinstance(speed, int | float) and math.isfinite(speed) and speed > 0
            require(right, f"{call.where}: speed returns {speed!r}; it must be a positive number")
            for calls in (None, 1, 10**6):
                late = kernel.defer_reason(call.cells, x, call.lengths, calls)
                reason = late is None or (isinstance(late, str) and late)
                require(reason, f"{call.where}: defer_reason returns {late!r}; it must be None or a reason")

    def test_state_carries_over_every_cut(self) -> None:
        """Two runs joined by the state are the run in one."""
        kernel = self.make()
        for where, rows in (("full rows", None), ("ragged rows", RAGGED)):
            plain = self.call(where, rows, nan_padding=False)
            for dtype in TOLERANCES:
                call = plain.in_dtype(dtype)
                with torch.no_grad():
                    if accepts(kernel, call):
                        _check_cuts(kernel, call.at(short(dtype)))

    def test_autocast(self) -> None:
        """Under autocast to bfloat16 it refuses, or stays near float32 and keeps the dtypes of states."""
        kernel = self.make()
        for call in self._float32_calls():
            expected = loop_results(call, torch.float32)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                one = call.at("autocast to bfloat16")
                if not accepts(kernel, one):
                    continue
                got = run_kernel(kernel, one)
            for name, value in got.items():
                assert_close(f"{one.where}: {name}", value, expected[name], 0.1)
                kept = name == "outputs" or value.dtype == expected[name].dtype
                require(kept, f"{one.where}: {name} is {value.dtype}, not {expected[name].dtype}")

    def test_large_and_small_numbers(self) -> None:
        """Inputs a thousand times larger, tiny, zero and constant ones: right in float32, forward and backward."""
        kernel = self.make()
        for call in self._float32_calls():
            for what, change in CASES.items():
                one = replace(call, x=change(call.x)).at(what)
                if accepts(kernel, one):
                    actual, right = run_kernel(kernel, one), loop_results(one)
                    check_overflow(one.where, actual, right, loop_results(one, torch.float32))
                    compare_with_loop(kernel, one, [torch.float32])

    def _float32_calls(self) -> Iterator[Call]:
        return (call for call in self.calls() if call.x.dtype == torch.float32)

    def test_every_option(self) -> None:
        """Every ``Literal``, ``bool`` and enum option of cell and kernel, and other numbers: the loop's results."""
        tried = 0
        for kind, target in (("options", self.factory()), ("kernel_options", type(self).kernel)):
            given: Mapping[str, Any] = getattr(self, kind)
            takes = partial(self._takes, kind)
            for chosen in [*filter(takes, combinations(target, given)), *numeric(target, given, takes)]:
                owner = "cell" if kind == "options" else "kernel"
                self._variant(kind, chosen).core(f"{owner} with {format_options(chosen)}")
                tried += 1
        if not tried:
            raise SkipTest("neither the cell nor the kernel has such an option")

    def _variant(self, kind: str, chosen: Mapping[str, Any]) -> KernelBase:
        """Return this suite with other ``options`` or ``kernel_options``."""
        made: KernelBase = type("Variant", (type(self),), {kind: {**getattr(self, kind), **chosen}})()
        return made

    def _takes(self, kind: str, chosen: Mapping[str, Any]) -> bool:
        """Return whether the constructor takes these options; some go with others only."""
        with suppress(RefusedError, ValueError):
            other = self._variant(kind, chosen)
            other.cells(1)
            other.make()
            return True
        return False


def _check_cuts(kernel: Kernel, call: Call) -> None:
    """Cut a run at every step."""
    _, x = call.given()
    (start,) = reached_states(call.cells, x)
    whole, (end,) = kernel.scan(call.cells, x, [start], call.lengths)
    for cut in range(1, len(x)):
        state, parts = start, []
        for begin, chunk in ((0, x[:cut]), (cut, x[cut:])):
            left = None if call.lengths is None else (call.lengths - begin).clamp(0, len(chunk))
            y, (state,) = kernel.scan(call.cells, chunk, [state], left)
            parts.append(y)
        where = f"{call.where}, a run cut at step {cut}"
        assert_close(f"{where}: the outputs", torch.cat(parts), whole, 1e-5)
        for name, actual, h in zip(call.cells[0].state_names, state, end, strict=True):
            assert_close(f"{where}: state {name}", actual, h, 1e-5)
