"""What a cell says of its own steps, held against autograd."""

import torch
from torch import Tensor

from seqlab.contracts import Cell, Probe, State
from seqlab.recurrence.scan import rebuild
from seqlab.testing.suite import agree, demand


def check_probe(cell: Cell, x: Tensor) -> None:
    """Demand that a cell's :meth:`Cell.probe` describes its steps.

    Args:
        cell: of double precision.
        x: the input of some steps, ``[time, batch, input]``.
    """
    if type(cell).probe is Cell.probe:
        return
    projected = cell.project(x).detach()
    start = _differentiable(cell.initial_state(x[0]))
    after = [start]
    for step in projected:
        after.append(cell.step(step, after[-1])[1])
    states = rebuild(start, [torch.stack(leaf).detach() for leaf in zip(*after, strict=True)])
    probe = cell.probe(projected, states)
    demand(isinstance(probe, Probe), f"probe gives a {type(probe).__name__}, and no Probe")
    for name, gate in probe.gates.items():
        shape = tuple(gate.values.shape[:2])
        demand(shape == tuple(x.shape[:2]), f"gate {name} is {shape}; it must begin with time and batch")
        outside = bool(((gate.values < gate.low) | (gate.values > gate.high)).any())
        demand(not outside, f"gate {name} leaves its range of {gate.low:g} to {gate.high:g}")
    unknown = [name for name in (*probe.forget, *probe.terms) if name not in cell.state_names]
    demand(not unknown, f"probe names {', '.join(unknown)}, and state_names does not")
    if probe.product is not None:
        _check_product(probe, after)


def _differentiable(state: State) -> State:
    """Give a state before the first step that autograd can be asked about."""
    leaves = [leaf.detach().requires_grad_() if leaf.is_floating_point() else leaf for leaf in state]
    return rebuild(state, leaves)


def _check_product(probe: Probe, after: list[State]) -> None:
    """Pull a gradient back from the last state by the closed form, and by autograd; the first step is left out."""
    assert probe.product is not None
    last = after[-1]
    weights = [torch.linspace(-1, 1, leaf.numel(), dtype=leaf.dtype).view_as(leaf) for leaf in last]
    scalar = sum((leaf * weight).sum() for leaf, weight in zip(last, weights, strict=True))
    assert isinstance(scalar, Tensor)
    wanted = [state for states in after[1:] for state in states]
    found = iter(torch.autograd.grad(scalar, wanted, allow_unused=True))
    expected = [tuple(next(found) for _ in states) for states in after[1:]]
    pulled: State = expected[-1]
    with torch.no_grad():
        for t in range(len(after) - 2, 0, -1):
            length = [leaf.flatten(1).norm(dim=1) for leaf in pulled]
            pulled = probe.product(t, pulled)
            for leaf, right in zip(pulled, expected[t - 1], strict=True):
                agree(f"the gradient that probe's product gives before step {t}", leaf, right)
            if probe.gain is not None and len(pulled) == 1:
                shorter = pulled[0].flatten(1).norm(dim=1) <= probe.gain[t] * length[0] * (1 + 1e-9)
                demand(bool(shorter.all()), f"the gradient grows by more than probe's gain in step {t}")
