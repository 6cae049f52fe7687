"""Checks of what a kernel says of itself, of its options and of its range of numbers."""

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor, nn

from seqlab.contracts import Cell, Kernel
from seqlab.recurrence.choose import Loop
from seqlab.testing.choices import numeric, told, variants
from seqlab.testing.compare import TOLERANCES, accepts, computed, hold, short
from seqlab.testing.kernels.making import KernelMaking
from seqlab.testing.layer import Call, everything, starts
from seqlab.testing.making import RefusedError
from seqlab.testing.numbers import CASES, overflowed
from seqlab.testing.suite import agree, demand


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
        for chosen in variants(cell, self.options):
            yield "options", chosen
        for name, values in numeric(cell, self.options).items():
            for value in values:
                if self._takes({name: value}):
                    yield "options", {name: value}
                    break
        for chosen in variants(kernel, self.kernel_options):
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
