"""kernel=auto goes by what was measured, or by what each kernel expects."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seqlab import Cell, Kernel, State
from seqlab.recurrence import Loop, choose, scan, selection
from seqlab.recurrence.selection import CompilePolicy, Entry, measured_speeds, write

CPU = torch.device("cpu")


class Echo(Cell):
    """Gives back what it reads."""

    def __init__(self, input_size: int, hidden_size: int = 4) -> None:
        super().__init__(input_size, hidden_size)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return x, state


def kernel(called: str, fast: float, late: str | None = None) -> Kernel:
    class Made(Kernel):
        name = called
        cell = Echo

        def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
            return "it is never" if not fast else None

        def scan(
            self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
        ) -> tuple[Tensor, list[State]]:
            y, state = scan(cells[0], x, states[0], lengths)
            return y, [state]

        def speed(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> float:
            return fast

        def postpones(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None, calls: int | None) -> str | None:
            return late

    return Made()


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    selection._read.cache_clear()


def taken(*kernels: Kernel, batch: int = 2, time: int = 10, policy: CompilePolicy | None = None) -> tuple[str, str]:
    chosen = choose("auto", kernels, [Echo(4)], torch.zeros(time, batch, 4), None, policy)
    return chosen.kernel.name, chosen.reason


def test_the_one_that_expects_to_be_faster() -> None:
    assert taken(kernel("slow", 1.0), kernel("quick", 2.0)) == ("quick", "the fastest, as far as is known")
    assert taken(kernel("never", 0.0), kernel("slow", 1.0))[0] == "slow"


def test_one_that_waits_lets_the_next_go_first() -> None:
    name, reason = taken(kernel("slow", 1.0), kernel("quick", 2.0, late="not compiled"))
    assert name == "slow"
    assert "quick waits: not compiled" in reason
    assert taken(kernel("quick", 2.0, late="not compiled")) == (Loop.name, "quick waits: not compiled")


def test_it_is_asked_once_in_a_run() -> None:
    """What is ready in the middle of a run, or while it was stopped, changes nothing in it."""
    began, resumed = CompilePolicy(), CompilePolicy()
    both = kernel("slow", 1.0), kernel("quick", 2.0, late="not compiled")
    assert taken(*both, policy=began)[0] == "slow"
    both = kernel("slow", 1.0), kernel("quick", 2.0)
    assert taken(*both, policy=began)[0] == "slow"
    assert taken(*both)[0] == "quick"
    resumed.reasons = dict(began.reasons)
    assert taken(*both, policy=resumed)[0] == "slow"


def test_what_was_measured_counts_more() -> None:
    both = kernel("slow", 1.0), kernel("quick", 2.0)
    write(CPU, [Entry("Echo", 2, 10, 4, 4, 1.0, {"slow": 3.0, "quick": 1.0})])
    assert taken(*both) == ("slow", "the fastest in the table of `bench --tune`")
    assert taken(*both, batch=200, time=9000)[0] == "quick", "nothing near it was measured"


def test_the_nearest_shape_speaks() -> None:
    x = torch.zeros(16, 8, 4)
    near, far = {"a": 2.0}, {"a": 1.0}
    write(CPU, [Entry("Echo", 8, 20, 4, 4, 1.0, near), Entry("Echo", 32, 20, 4, 4, 1.0, far)])
    assert measured_speeds("Echo", 4, x, None) == near
    assert measured_speeds("Other", 4, x, None) == {}


def test_a_damaged_table_is_none() -> None:
    selection.table_path(CPU).write_text("{", "utf-8")
    assert measured_speeds("Echo", 4, torch.zeros(2, 2, 4), None) == {}
