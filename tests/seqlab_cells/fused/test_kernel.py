"""The fused kernel in networks, with a compiler and without, and when ``kernel=auto`` takes it."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from seqlab import Recurrent
from seqlab.recurrence import Loop
from seqlab.testing import KernelSuite, run_suite
from seqlab_cells.fused.kernel import _warned
from seqlab_cells.fused.native import _known, library
from seqlab_cells.gru import GRU, GRUFused

from .layers import CELLS, KERNELS, every_cell


@every_cell
def test_second_derivative(name: str) -> None:
    """There is none, and it says so."""
    cell, x = CELLS[name](3, hidden_size=4), torch.randn(5, 2, 3, requires_grad=True)
    y, _ = KERNELS[name]().scan([cell], x, [cell.initial_state(x[0])], None)
    (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="kernel=fused has no second derivative"):
        torch.autograd.grad(first.sum(), x)


@every_cell
def test_autocast(name: str) -> None:
    """Under autocast it computes in the parameters' precision, whatever comes in."""
    cell, x = CELLS[name](3, hidden_size=4), torch.randn(5, 2, 3)
    state = cell.initial_state(x[0])
    expected, _ = Loop().scan([cell], x.bfloat16().float(), [state], None)
    with torch.autocast("cpu"):
        y, _ = KERNELS[name]().scan([cell], x.bfloat16(), [state], None)
    assert y.dtype == torch.float32
    assert_close(y, expected)


@every_cell
def test_wrapped_cells_keep_it(name: str) -> None:
    """Dropped weights and locked dropout are no reason to leave the fused path."""
    torch.manual_seed(0)
    recurrent = Recurrent(CELLS[name], 3, hidden_size=4, depth=2, kernel="fused", weight_drop=0.3, locked_dropout=0.2)
    y, _ = recurrent(torch.randn(6, 2, 3))
    y.sum().backward()
    assert recurrent.choice is not None
    assert recurrent.choice.kernel.name == "fused"


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CXX", "no-such-compiler")
    for memory in (library.cache_clear, _warned.clear, _known.clear):
        memory()
    yield
    for memory in (library.cache_clear, _warned.clear, _known.clear):
        memory()


CORE = (
    "autocast",
    "layout_of_the_gradient",
    "no_steps_and_no_rows",
    "parts_of_the_loss",
    "ragged_rows",
)
"""Checks for the fast tests: rows of all kinds, every part of the loss, other dtypes."""


def failures(name: str, save: str, checks: Sequence[str] = ("",)) -> list[tuple[str, str]]:
    """Run checks of the conformance kit on a kernel; give those that fail, and why."""
    kit = {"kernel": staticmethod(KERNELS[name]), "kernel_options": {"save": save}}
    suite = type("Suite", (KernelSuite,), kit)
    outcomes = [one for check in checks for one in run_suite(suite, check)]
    assert any(one.result == "passed" for one in outcomes)
    return [(one.check, one.detail) for one in outcomes if one.result == "failed"]


@every_cell
def test_autocast_without_a_compiler(name: str, no_compiler: None) -> None:
    """No product is in bfloat16, forward, and backward outside autocast, where torch wants it."""
    torch.manual_seed(0)
    cell, x = CELLS[name](3, hidden_size=4), torch.randn(5, 2, 3)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", enabled=enabled):
            y, _ = KERNELS[name]().scan([cell], x, [cell.initial_state(x[0])], None)
        found.append([y, *torch.autograd.grad(y.square().sum(), list(cell.parameters()))])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@every_cell
@pytest.mark.parametrize("save", ["gates", "recompute"])
def test_without_a_compiler(name: str, save: str, no_compiler: None, caplog: pytest.LogCaptureFixture) -> None:
    """Torch's routine is held to the same, and it is said why it runs."""
    assert failures(name, save, CORE) == []
    assert "CXX=no-such-compiler" in caplog.text


@pytest.mark.long  # what CORE does not show of it, the kit shows of the vendor kernel
@every_cell
@pytest.mark.parametrize("save", ["gates", "recompute", "checkpoint"])
def test_every_check_without_a_compiler(name: str, save: str, no_compiler: None) -> None:
    """All of the kit."""
    assert failures(name, save) == []


@every_cell
@pytest.mark.parametrize("save", ["gates", "recompute", "checkpoint"])
def test_what_changes_before_backward_is_noticed(name: str, save: str) -> None:
    """An error, or the right gradient, whatever is kept: never the gradient of weights that were not those."""
    assert failures(name, save, ["values_kept_for_backward"]) == []


@pytest.mark.long  # tests/seqlab_models/test_checkpoint_steps.py compares its gradients in fast tests
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_every_check_of_checkpoints(name: str) -> None:
    """The kit with save=checkpoint; test_conformance.py has the default, and the others by ``every_option``."""
    assert failures(name, "checkpoint") == []


def test_options() -> None:
    with pytest.raises(ValueError, match=r"every must be .* -1"):
        GRUFused(every=-1)


def test_refusals() -> None:
    """Half precision and a GPU are for others."""
    cell, x = GRU(3, hidden_size=4), torch.zeros(2, 1, 3)
    assert "float32 and float64" in (GRUFused().refuses([cell.half()], x.half(), None) or "")
    assert (
        GRUFused().refuses([cell.float()], x.to("meta"), None)
        == "the input is on meta; the fused kernel is for the CPU and for CUDA"
    )


class _Seen(TorchDispatchMode):
    """Writes down the operators that pass by."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@every_cell
def test_a_dispatch_mode_sees_an_operator_and_the_same_results(name: str) -> None:
    """Without a compiler, a mode or a transform the scan goes past torch's dispatcher."""
    torch.manual_seed(0)
    cell, x, lengths = CELLS[name](3, hidden_size=5), torch.randn(6, 4, 3), torch.tensor([6, 1, 3, 4])
    found, seen = [], _Seen()
    for watched in (False, True):
        cell.zero_grad()
        with seen if watched else nullcontext():
            y, _ = KERNELS[name]().scan([cell], x, [cell.initial_state(x[0])], lengths)
        y.square().sum().backward()
        found.append([y.detach(), *(each.grad.clone() for each in cell.parameters() if each.grad is not None)])
    assert any("fused_scan" in operator for operator in seen.names)
    assert len(found[0]) > 1
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


# ----------------------------------------------------------------------------------------------------- kernel=auto


@pytest.fixture
def nothing_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    monkeypatch.delenv("SEQLAB_COMPILE")
    _known.clear()
    yield
    _known.clear()


def test_a_run_must_be_worth_compiling(nothing_compiled: None) -> None:
    """It would save some milliseconds a call: a thousand calls are worth it, ten are not, and some are not known."""
    cells, x = [GRU(64, hidden_size=128)], torch.zeros(1000, 16, 64)
    assert GRUFused().defer_reason(cells, x, None, 10_000) is None
    for calls in (10, None):
        assert "too short" in (GRUFused().defer_reason(cells, x, None, calls) or "")


def test_a_short_run_compiles_nothing(nothing_compiled: None, tmp_path: Path) -> None:
    recurrent = Recurrent(GRU, 4, hidden_size=5)
    recurrent(torch.zeros(6, 3, 4))
    assert recurrent.choice is not None
    assert recurrent.choice.kernel.name == "vendor"
    assert "not compiled" in recurrent.choice.reason
    assert not list(tmp_path.rglob("*.so"))


def test_never(nothing_compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQLAB_COMPILE", "never")
    assert "SEQLAB_COMPILE=never" in (
        GRUFused().defer_reason([GRU(3, hidden_size=4)], torch.zeros(1, 1, 3), None, 9) or ""
    )


def test_without_a_compiler_it_waits_for_nothing(nothing_compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to wait for, and it knows that it is slower then."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    gru, x = GRU(3, hidden_size=4), torch.zeros(9, 8, 3)
    assert GRUFused().defer_reason([gru], x, None, None) is None
    assert GRUFused().speed([gru], x, None) < 1
