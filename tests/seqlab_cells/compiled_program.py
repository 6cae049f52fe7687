"""Compare compiled cells with the loop: ``kernel=compiled`` of each cell that is named; ``fused CELL`` in one graph.

Run by test_conformance.py, in a process without shape checks, which the compiler cannot trace.
"""

import logging
import sys

import torch
from torch import Tensor
from torch.testing import assert_close

from seqlab import Recurrent
from seqlab.plugins.registry import find


def compiled(name: str) -> None:
    net = Recurrent(find("cell", name).load(), 3, hidden_size=4, kernel="compiled").double()
    x = torch.randn(6, 3, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([6, 0, 4])
    found = []
    for kernel in ("compiled", "loop"):
        net.kernel = kernel
        y, state = net(x, lengths=lengths)
        assert net.choice is not None
        assert net.choice.kernel.name == kernel
        scalar = y.cos().sum() + sum(each.square().sum() for each in state)
        found.append([y, *state, *torch.autograd.grad(scalar, [x, *net.parameters()])])
    assert_close(*found, rtol=1e-12, atol=1e-12)


def fused(name: str) -> None:
    torch.manual_seed(0)
    cell, kernel = find("cell", name).load(), find("kernel", f"{name}.fused").load()()
    net, x = Recurrent(cell, 3, hidden_size=4, bidirectional=True, kernel=kernel), torch.randn(5, 2, 3)

    def run(x: Tensor, net: Recurrent = net) -> Tensor:
        y, state = net(x)
        return (y * y).sum() + sum(each.sum() for each in state)

    expected = torch.autograd.grad(run(x), list(net.parameters()))
    actual = torch.autograd.grad(torch.compile(run, fullgraph=True)(x), list(net.parameters()))
    assert_close(actual, expected)


def main() -> None:
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]  # caught instead of written
    logging.getLogger("seqlab").addHandler(handler)
    for name in sys.argv[1:]:
        kind, _, cell = name.rpartition(" ")
        fused(cell) if kind else compiled(cell)
        assert not warnings or kind, warnings  # the loop ran instead


if __name__ == "__main__":
    main()
