"""Memory that is used again."""

import gc

import torch

from seqlab_cells.fused.memory import LARGE, Pool


def test_a_dead_tensors_memory_is_the_next_ones() -> None:
    pool = Pool()
    first = pool.empty((LARGE // 4, 2), torch.float32)
    assert first.shape == (LARGE // 4, 2)
    address = first.data_ptr()
    del first
    gc.collect()
    assert pool.held == 2 * LARGE
    assert pool.empty((LARGE // 4, 2), torch.float32).data_ptr() == address


def test_a_living_tensors_memory_is_its_own() -> None:
    pool = Pool()
    first, second = (pool.empty((LARGE,), torch.uint8) for _ in range(2))
    view = first.fill_(1)[: LARGE // 2]
    del first
    gc.collect()
    assert pool.held == 0
    second.fill_(2)
    assert int(view.max()) == 1
