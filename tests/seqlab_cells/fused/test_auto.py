"""When kernel=auto takes the fused kernel: not before compiling it pays."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seqlab import Recurrent
from seqlab.recurrence.selection import compile_policy
from seqlab_cells.fused import build
from seqlab_cells.gru import GRU
from seqlab_cells.gru.fused import GRUFused
from seqlab_cells.lstm import LSTM
from seqlab_cells.lstm.fused import LSTMFused


@pytest.fixture
def nothing_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    monkeypatch.delenv("SEQLAB_COMPILE")
    build._known.clear()
    compile_policy.begin()
    yield
    build._known.clear()
    compile_policy.begin()


def test_a_run_must_be_worth_compiling(nothing_compiled: None) -> None:
    """It would save some milliseconds a call: a thousand calls are worth it, ten are not, and some are not known."""
    cells, x = [GRU(64, hidden_size=128)], torch.zeros(1000, 16, 64)
    assert GRUFused().postpones(cells, x, None, 10_000) is None
    for calls in (10, None):
        assert "too little work" in (GRUFused().postpones(cells, x, None, calls) or "")


def test_a_short_run_compiles_nothing(nothing_compiled: None, tmp_path: Path) -> None:
    recurrent = Recurrent(GRU, 4, hidden_size=5)
    recurrent(torch.zeros(6, 3, 4))
    assert recurrent.choice is not None
    assert recurrent.choice.kernel.name == "vendor"
    assert "fused deferred: it is not compiled" in recurrent.choice.reason
    assert not list(tmp_path.rglob("*.so"))


def test_never(nothing_compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQLAB_COMPILE", "never")
    assert "SEQLAB_COMPILE=never" in (
        GRUFused().postpones([GRU(3, hidden_size=4)], torch.zeros(1, 1, 3), None, 9) or ""
    )


def test_without_a_compiler_it_waits_for_nothing(nothing_compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to wait for, and it knows that it is slower then."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    gru, lstm, x = GRU(3, hidden_size=4), LSTM(3, hidden_size=4), torch.zeros(9, 8, 3)
    assert GRUFused().postpones([gru], x, None, None) is None
    assert LSTMFused().speed([lstm], x, None) < 1 <= GRUFused().speed([gru], x, None)
