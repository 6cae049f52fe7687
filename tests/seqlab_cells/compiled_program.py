"""Run by test_compiled.py: each cell that is named compiles, and then computes what the loop computes."""

import logging
import sys

import torch
from torch.testing import assert_close

from seqlab import Recurrent
from seqlab.plugins.registry import find


def compare(name: str) -> None:
    net = Recurrent(find("cell", name).load(), 3, hidden_size=4, kernel="compiled").double()
    x = torch.randn(6, 3, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([6, 0, 4])
    found = []
    for kernel in ("compiled", "loop"):
        net.kernel = kernel
        y, state = net(x, lengths=lengths)
        assert net.choice is not None
        assert net.choice.kernel.name == kernel
        scalar = y.cos().sum() + sum(leaf.square().sum() for leaf in state)
        found.append([y, *state, *torch.autograd.grad(scalar, [x, *net.parameters()])])
    assert_close(*found, rtol=1e-12, atol=1e-12)


def main() -> None:
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]  # caught instead of written
    logging.getLogger("seqlab").addHandler(handler)
    for name in sys.argv[1:]:
        compare(name)
    assert not warnings, warnings  # the loop ran instead


if __name__ == "__main__":
    main()
