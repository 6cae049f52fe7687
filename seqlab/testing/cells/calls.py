"""Checks that the calls of a cell leave no trace, and of copies of it."""

import torch

from seqlab.testing.cells.making import CellMaking
from seqlab.testing.suite import agree


class CallChecks(CellMaking):
    """The same call gives the same, whatever came before it."""

    def test_evaluation_is_deterministic(self) -> None:
        """In evaluation nothing is random: no dropout is left on."""
        cell, twin, x = self.make(), self.make(), self.inputs(5, 3)
        twin.load_state_dict(cell.state_dict())
        torch.manual_seed(11)
        y, _ = self.run(cell, x)
        torch.manual_seed(12)
        again, _ = self.run(twin, x)
        agree("two evaluations of the same input, with other random numbers,", again, y, 0.0)

    def test_no_memory_between_calls(self) -> None:
        """A call does not change what the next one gives, in training or in evaluation."""
        for train in (False, True):
            cell, x = self.make(train=train), self.inputs(5, 3)
            torch.manual_seed(11)
            y, _ = self.run(cell, x)
            self.run(cell, self.inputs(7, 2, seed=4))
            self.run(cell, self.inputs(5, 3, seed=5))
            torch.manual_seed(11)
            again, _ = self.run(cell, x)
            mode = "training" if train else "evaluation"
            agree(f"the same call in {mode}, after others on other inputs,", again, y, 1e-12)

    def test_input_is_left_alone(self) -> None:
        """Neither the input nor the state that comes in is changed in place."""
        cell, x = self.make(), self.inputs(4, 2)
        state = self.reached(cell, 2, 2)
        before, leaves = x.clone(), [leaf.clone() for leaf in state]
        with torch.no_grad():
            self.run(cell, x, state)
        agree("the input after a call against before it", x, before, 0.0)
        for name, leaf, kept in zip(cell.state_names, state, leaves, strict=True):
            agree(f"state {name} after a call against before it", leaf, kept, 0.0)
