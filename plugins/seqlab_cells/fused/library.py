"""The C++ kernel as two functions of tensors."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqlab_cells.fused.build import library
from seqlab_cells.fused.memory import POOL

_POINTER = ctypes.c_void_p
_SIZE = ctypes.c_int64


class Problem(ctypes.Structure):
    """What ``scan.cpp`` calls by the same name."""

    _fields_ = (
        *((name, _SIZE) for name in ("time", "batch", "input", "hidden", "directions", "threads", "rebuild")),
        *((name, _SIZE) for name in ("x_time", "x_batch")),
        *((name, _POINTER) for name in ("x", "lengths")),
        *((name, _POINTER * 2) for name in ("h0", "c0", "w_ih", "w_hh", "b_ih", "b_hh")),
        *((name, _POINTER) for name in ("y", "h_end", "c_end", "kept", "workspace")),
        *((name, _POINTER) for name in ("dy", "dh_end", "dc_end", "dx", "dh0", "dc0", "dw")),
    )


@dataclass(frozen=True)
class Tail:
    """What tells one cell from another.

    Attributes:
        name: the cell in ``scan.cpp``.
        gates: products with the input, and as many with the state.
        kept: numbers a unit that ``save=gates`` keeps of each step.
        leaves: parts of the state: h, or h and c.
    """

    name: str
    gates: int
    kept: int
    leaves: int

    def record(self, hidden: int, save: str) -> int:
        """Count what is kept of one row's step, with room for whole vectors of any CPU."""
        per_unit = {"none": 0, "gates": self.kept, "recompute": self.leaves - 1}[save]
        return per_unit * (-(-hidden // 16) * 16)


_TAILS = (Tail("Gru", 3, 4, 1), Tail("Lstm", 4, 5, 2), Tail("RnnTanh", 1, 0, 1), Tail("RnnRelu", 1, 0, 1))
TAILS = {tail.name: tail for tail in _TAILS}


def forward(
    x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: Sequence[Tensor], tail: Tail, save: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scan one layer; what :func:`.ops.fused_scan` gives."""
    time, batch, _ = x.shape
    directions, hidden = len(weights) // 4, weights[1].shape[1]
    c_directions = directions if tail.leaves == 2 else 0
    y = POOL.empty((time, batch, directions * hidden), x.dtype)
    h_end, c_end = x.new_empty(directions, batch, hidden), x.new_empty(c_directions, batch, hidden)
    kept = POOL.empty((directions * time * batch * tail.record(hidden, save),), x.dtype)
    problem, held = _problem(x, lengths, states, weights, tail, save)
    problem.y, problem.h_end, problem.c_end = y.data_ptr(), h_end.data_ptr(), c_end.data_ptr()
    problem.kept = kept.data_ptr() if save != "none" else None
    _call("forward", problem, tail, x.dtype)
    del held
    return y, h_end, c_end, kept


def backward(
    gradients: Sequence[Tensor | None],
    x: Tensor,
    lengths: Tensor | None,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    y: Tensor,
    kept: Tensor,
    tail: Tail,
    save: str,
    wanted: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Differentiate; what :func:`.ops.fused_scan_backward` gives."""
    time, batch, size = x.shape
    directions, hidden = len(weights) // 4, weights[1].shape[1]
    c_directions = directions if tail.leaves == 2 else 0
    dx = POOL.empty((directions, time, batch, size) if wanted[0] else (0,), x.dtype)
    dh0, dc0 = x.new_empty(directions, batch, hidden), x.new_empty(c_directions, batch, hidden)
    per_direction = tail.gates * hidden * (size + hidden + 2)
    dw = x.new_empty((directions, per_direction) if wanted[1] else (0,))
    problem, held = _problem(x, lengths, states, weights, tail, save)
    given = [None if each is None else each.contiguous() for each in gradients]
    problem.dy, problem.dh_end, problem.dc_end = (None if each is None else each.data_ptr() for each in given)
    problem.y, problem.kept = y.data_ptr(), kept.data_ptr()
    problem.dh0, problem.dc0 = dh0.data_ptr(), dc0.data_ptr()
    problem.dx = dx.data_ptr() if wanted[0] else None
    problem.dw = dw.data_ptr() if wanted[1] else None
    _call("backward", problem, tail, x.dtype)
    del held, given
    if wanted[0]:
        dx = dx[0] if directions == 1 else dx.sum(0)
    return dx, dh0, dc0, dw


def _problem(
    x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: Sequence[Tensor], tail: Tail, save: str
) -> tuple[Problem, list[Tensor]]:
    """Fill in what both directions of the pass share; the tensors must outlive the call."""
    x = x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()
    states, weights = [each.contiguous() for each in states], [each.contiguous() for each in weights]
    held = [x, *states, *weights]
    problem = Problem(time=x.shape[0], batch=x.shape[1], input=x.shape[2], hidden=weights[1].shape[1])
    problem.directions, problem.threads = len(weights) // 4, torch.get_num_threads()
    problem.rebuild = save == "recompute"
    problem.x_time, problem.x_batch, problem.x = x.stride(0), x.stride(1), x.data_ptr()
    if lengths is not None:
        held.append(lengths.to(torch.int64).contiguous())
        problem.lengths = held[-1].data_ptr()
    for d in range(problem.directions):
        for leaf, name in zip(states[tail.leaves * d : tail.leaves * (d + 1)], ("h0", "c0"), strict=False):
            getattr(problem, name)[d] = leaf.data_ptr()
        for weight, name in zip(weights[4 * d : 4 * d + 4], ("w_ih", "w_hh", "b_ih", "b_hh"), strict=True):
            getattr(problem, name)[d] = weight.data_ptr()
    return problem, held


def _call(name: str, problem: Problem, tail: Tail, dtype: torch.dtype) -> None:
    compiled = library(tail.name, dtype)
    measure = getattr(compiled, f"{name}_workspace")
    measure.restype = ctypes.c_int64
    workspace = POOL.empty((measure(ctypes.byref(problem)) + 64,), torch.uint8)
    start = workspace.data_ptr()
    problem.workspace = start + -start % 64
    getattr(compiled, name)(ctypes.byref(problem))
