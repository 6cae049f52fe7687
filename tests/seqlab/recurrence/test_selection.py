"""auto takes the first kernel that can, a named one must, and both say why."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from seqlab import Cell, Kernel, Recurrent, State
from seqlab.recurrence import Loop, choose

from .odd_cells import Leaky, Projected


class Picky(Kernel):
    """Refuses with the reason that it was given; scans as the loop does, and remembers that it did."""

    cell = Leaky

    def __init__(self, name: str, reason: str | None = None) -> None:
        self.name, self.reason, self.calls = name, reason, 0  # type: ignore[misc]  # each has its own name

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        return self.reason

    def scan(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        self.calls += 1
        return Loop().scan(cells, x, states, lengths)


class Tuned(Leaky):
    """A subclass, whose step may be another."""


def pick(requested: Any, kernels: Sequence[Kernel], cell: type[Cell] = Leaky) -> Any:
    return choose(requested, kernels, [cell(4, 3)], torch.zeros(2, 1, 4), None)


def test_auto_takes_the_first_that_does_not_refuse_and_says_who_did() -> None:
    kernels = [Picky("fast", "only on Sundays"), Picky("slow")]
    choice = pick("auto", kernels)
    assert choice.kernel is kernels[1]
    assert "fast refuses: only on Sundays" in choice.reason


def test_auto_without_a_willing_kernel_loops() -> None:
    assert isinstance(pick("auto", []).kernel, Loop)
    choice = pick("auto", [Picky("fast", "only on Sundays")])
    assert isinstance(choice.kernel, Loop)
    assert choice.reason == "fast refuses: only on Sundays"


def test_a_named_kernel_that_refuses_raises_its_reason() -> None:
    with pytest.raises(ValueError, match="kernel=fast refuses Leaky: only on Sundays"):
        pick("fast", [Picky("slow"), Picky("fast", "only on Sundays")])


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match="Leaky has no such kernel; it has auto, loop, compiled, fast, slow"):
        pick("fats", [Picky("fast"), Picky("slow")])


def test_a_kernel_serves_exactly_its_own_cell() -> None:
    kernel = Picky("fast")
    assert pick(kernel, []).kernel is kernel
    for other in (Tuned, Projected):
        with pytest.raises(ValueError, match=f"kernel=fast: {other.__name__} has no such kernel"):
            pick(kernel, [], other)


def test_recurrent_runs_the_kernel_on_every_layer_and_records_it() -> None:
    kernel = Picky("fast")
    recurrent = Recurrent(Leaky, 4, depth=3, kernel=kernel)
    assert recurrent.choice is None
    recurrent(torch.zeros(2, 1, 4))
    assert kernel.calls == 3
    assert recurrent.choice is not None
    assert recurrent.choice.kernel is kernel
