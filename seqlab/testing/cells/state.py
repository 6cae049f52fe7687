"""Checks of a cell's state."""

import torch
from torch import Tensor

from seqlab.contracts import Cell
from seqlab.recurrence import Recurrent
from seqlab.recurrence.state import rebuild
from seqlab.testing.cells.making import MODES, CellMaking, Setting
from seqlab.testing.suite import agree, demand


class StateChecks(CellMaking):
    """What is carried from step to step."""

    def test_state_carries_over_every_cut(self) -> None:
        """Two runs joined by the state are the run in one, wherever the cut: outputs, state and gradient."""
        for one in self.settings(large=True):
            if one.random:
                continue
            x = one.x.clone().requires_grad_()
            whole, end = self.run(one.cell, x)
            expected = _gradient(whole, x)
            time = len(x)
            for cut in range(1, time) if time <= 10 else (1, 63, 64, 65, 128, time - 1):
                first, middle = self.run(one.cell, x[:cut])
                second, last = self.run(one.cell, x[cut:], middle)
                joined, where = torch.cat([first, second]), f"{one.where}: "
                agree(f"{where}the outputs of a run cut at step {cut}", joined, whole)
                for name, actual, leaf in zip(one.cell.state_names, last, end, strict=True):
                    agree(f"{where}state {name} of a run cut at step {cut}", actual, leaf)
                if expected is not None:
                    gradient = _gradient(joined, x)
                    demand(gradient is not None, f"{where}cut at step {cut}: no gradient reaches the input")
                    if gradient is not None:
                        agree(f"{where}the gradient of the input of a run cut at step {cut}", gradient, expected)
            self._step_by_step(one, whole)

    def _step_by_step(self, one: Setting, whole: Tensor) -> None:
        """Join single steps, as ``generate`` makes them."""
        with torch.no_grad():
            state, outputs = one.cell.initial_state(one.x[0]), []
            for t in range(len(one.x)):
                y, state = self.run(one.cell, one.x[t : t + 1], state)
                outputs.append(y)
        agree(f"{one.where}: the outputs of single steps joined by the state", torch.cat(outputs), whole)

    def test_state_is_used(self) -> None:
        """Outputs depend on earlier inputs, and every leaf of the state is read."""
        for train in MODES.values():
            self._is_used(self.make(train=train))

    def _is_used(self, cell: Cell) -> None:
        x, other = self.inputs(10, 2), self.inputs(10, 2, seed=2)
        y, _ = self.run(cell, x)
        changed, _ = self.run(cell, torch.cat([other[:1], x[1:]]))
        moved = float((changed[1:] - y[1:]).detach().abs().max())
        demand(moved > 1e-12, "another first input changes no later output: the state is not used")
        here, there = self.reached(cell, 3, 2, seed=8), self.reached(cell, 5, 2, seed=9)
        outputs, end = self.run(cell, x, here)
        for index, name in enumerate(cell.state_names):
            mixed = rebuild(here, [*here[:index], there[index], *here[index + 1 :]])
            if torch.equal(here[index], there[index]):
                continue  # the same after any past, such as a mask that evaluation does not use
            got, got_end = self.run(cell, x, mixed)
            # Compared step by step would miss a leaf that only counts: then the final state tells.
            same = torch.equal(got, outputs) and all(map(torch.equal, got_end, end))
            demand(not same, f"state {name} changes neither an output nor the final state: it is never read")

    def test_reverse_is_flip(self) -> None:
        """The backward half of a bidirectional layer is the cell on each row reversed within its length."""
        seeds = iter((0, 1))
        net = Recurrent(lambda **_: self.make(seed=next(seeds)), self.input_size, bidirectional=True, kernel="loop")
        net = net.eval()
        x, lengths = self.inputs(5, 3), torch.tensor([5, 2, 4])
        y, _ = net(x, lengths=lengths)
        forward, backward = net.cells
        alone, _ = self.run(forward, x, None, lengths)
        agree("the forward half", y[..., : forward.output_size], alone)
        for row, length in enumerate(lengths.tolist()):
            flipped, _ = self.run(backward, x[:length, row : row + 1].flip(0))
            half = y[:length, row : row + 1, forward.output_size :]
            agree(f"the backward half of a row of length {length}", half, flipped.flip(0))


def _gradient(y: Tensor, x: Tensor) -> Tensor | None:
    if not y.requires_grad:
        return None
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    return torch.autograd.grad((y * weight).sum(), x, allow_unused=True)[0]
