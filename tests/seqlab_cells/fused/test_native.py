"""Compilation once, for the machine at hand, and memory that is used again."""

import ctypes
import gc
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seqlab_cells.fused import native
from seqlab_cells.fused.native import HUGE, LARGE, NoCompilerError, Pool, library, library_path


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    library.cache_clear()
    native._known.clear()
    yield
    library.cache_clear()
    native._known.clear()


def test_another_cpu_gets_another_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home folder that machines share holds one library for each kind."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    paths = {
        library_path("Gru", torch.float32),
        library_path("Gru", torch.float64),
        library_path("Lstm", torch.float32),
    }
    monkeypatch.setattr(native, "_cpu", lambda: "another one")
    paths.add(library_path("Gru", torch.float32))
    monkeypatch.setenv("SEQLAB_MARCH", "x86-64-v3")
    paths.add(library_path("Gru", torch.float32))
    assert len(paths) == 5


def test_a_compiler_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first line of its complaint is the reason."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    monkeypatch.setenv("SEQLAB_MARCH", "no-such-cpu")
    with pytest.raises(NoCompilerError, match=r"failed: .*no-such-cpu"):
        library("Gru", torch.float32)
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.slow
def test_one_notice_and_one_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is compiled once, and said; here without optimisation, which takes a fifth of the time."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "FLAGS", tuple("-O0" if flag == "-O2" else flag for flag in native.FLAGS))
    with caplog.at_level(logging.INFO, "seqlab"):
        library("RnnTanh", torch.float32)
        library.cache_clear()
        library("RnnTanh", torch.float32)
    assert caplog.text.count("compiling the fused kernel") == 1
    assert len(list(tmp_path.rglob("*.so"))) == 1


def test_memory_of_a_freed_tensor_is_used_again() -> None:
    pool = Pool()
    first = pool.empty((LARGE // 4, 2), torch.float32)
    assert first.shape == (LARGE // 4, 2)
    address = first.data_ptr()
    del first
    gc.collect()
    assert pool.held == 2 * LARGE
    assert pool.empty((LARGE // 4, 2), torch.float32).data_ptr() == address


def test_memory_in_use_is_not_shared() -> None:
    pool = Pool()
    first, second = (pool.empty((LARGE,), torch.uint8) for _ in range(2))
    view = first.fill_(1)[: LARGE // 2]
    del first
    gc.collect()
    assert pool.held == 0
    second.fill_(2)
    assert int(view.max()) == 1


def test_memory_may_have_huge_pages() -> None:
    """It starts at one and is a whole number of them; the workspace of a small call, too."""
    pool = Pool()
    tensor, piece = pool.empty((LARGE + 4,), torch.uint8), pool.take(1)
    assert tensor.data_ptr() % HUGE == piece.address % HUGE == 0
    assert piece.size == HUGE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_has_memory_of_its_own() -> None:
    pool = Pool()
    tensor = pool.empty((LARGE,), torch.uint8).fill_(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the child does not use
        child = os.fork()
    if child == 0:
        ctypes.memset(tensor.data_ptr(), 2, LARGE)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert int(tensor.max()) == 1
