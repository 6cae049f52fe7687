"""Run by test_compiled.py: compares the compiled scan with the loop for one case, and counts the graphs."""

import logging
import sys
from importlib import util
from pathlib import Path

import torch
from torch.testing import assert_close

from seqlab import Cell, Recurrent, State
from seqlab.recurrence.graphs import compilations
from seqlab_cells.gru import GRU
from seqlab_cells.lstm import LSTM

spec = util.spec_from_file_location("odd_cells", Path(__file__).with_name("odd_cells.py"))
odd = util.module_from_spec(spec)
spec.loader.exec_module(odd)


class Looks(Cell):
    """Its step asks for a number, which breaks a graph."""

    def __init__(self, input_size: int, hidden_size: int = 4) -> None:
        super().__init__(input_size, hidden_size)
        self.maps = torch.nn.Linear(input_size + hidden_size, hidden_size)

    def step(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        h = torch.tanh(self.maps(torch.cat([x, state[0]], dim=-1)))
        h = h * 2 if h.sum().item() > 0 else h
        return h, (h,)


CASES = {
    # A scan and its derivative for each layer; 0 graphs: refused.
    "gru": (GRU, {"hidden_size": 5}, 2),
    "lstm": (LSTM, {"hidden_size": 5}, 2),
    "bidirectional": (LSTM, {"hidden_size": 5, "depth": 2, "bidirectional": True}, 4),
    "projected": (odd.Projected, {}, 2),
    "delayed": (odd.Delayed, {}, 2),
    "matrix": (odd.MatrixMemory, {}, 2),
    "counting": (odd.Counting, {}, 2),
    "refused": (Looks, {}, 0),
}


def compare(net: Recurrent, loop: Recurrent, batch: int, time: int) -> None:
    x = torch.randn(time, batch, 3, dtype=torch.float64, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    lengths = torch.randint(0, time + 1, (batch,))
    (y, state), (y_loop, state_loop) = net(x, lengths=lengths), loop(twin, lengths=lengths)
    weight = torch.randn_like(y)
    (y * weight).sum().backward()
    (y_loop * weight).sum().backward()
    for ours, theirs in [(y, y_loop), (x.grad, twin.grad), *zip(state, state_loop, strict=True)]:
        assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    for ours, theirs in zip(net.parameters(), loop.parameters(), strict=True):
        assert_close(ours.grad, theirs.grad, atol=1e-12, rtol=1e-12)


def main() -> None:
    cell, options, graphs = CASES[sys.argv[1]]
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())
    logging.getLogger("seqlab").addHandler(handler)
    net = Recurrent(cell, 3, kernel="compiled", **options).double()
    loop = Recurrent(cell, 3, kernel="loop", **options).double()
    loop.load_state_dict(net.state_dict())
    for batch, time in ((4, 7), (5, 9), (2, 3), (3, 1), (1, 6), (11, 30)):
        compare(net, loop, batch, time)
    counted = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert counted <= max(graphs, 1), f"{counted} graphs"
    if graphs:
        assert not warnings, warnings
        assert compilations.seconds > 0
        assert compilations.count == counted
    else:
        assert len(warnings) == 1, warnings
        assert f"the compiler refused {cell.__name__}" in warnings[0]
        assert "the loop runs instead" in warnings[0]


if __name__ == "__main__":
    main()
