"""States as values."""

import torch

from seqlab.recurrence import detach, merge, select

from .odd_cells import Memory


def memory(rows: int = 3) -> Memory:
    return Memory(torch.randn(rows, 2, 2, requires_grad=True) * 1, torch.randn(rows, 2))


def test_merge_takes_each_row_from_where_it_is_alive() -> None:
    new, old = memory(), memory()
    merged = merge(torch.tensor([True, False, True]), new, old)
    assert isinstance(merged, Memory)
    for leaf, n, o in zip(merged, new, old, strict=True):
        assert torch.equal(leaf, torch.stack([n[0], o[1], n[2]]))


def test_detach_cuts_every_tensor_and_keeps_nesting_names_and_none() -> None:
    state = (memory(), None, (memory().matrix,))
    cut = detach(state)
    assert isinstance(cut[0], Memory)
    assert cut[1] is None
    assert state[0].matrix.requires_grad
    assert not cut[0].matrix.requires_grad
    assert not cut[2][0].requires_grad
    assert torch.equal(cut[0].matrix, state[0].matrix)


def test_select_takes_rows() -> None:
    state = memory()
    chosen = select(state, torch.tensor([2, 0]))
    assert isinstance(chosen, Memory)
    assert torch.equal(chosen.norm, torch.stack([state.norm[2], state.norm[0]]))
