"""Cells of torchrecurrent: against that package's own layers, by the conformance kit, and errors."""

import sys

import pytest
import torch
import torchrecurrent

from seqlab import Recurrent, UserError
from seqlab.plugins.config import build
from seqlab.testing import CellSuite, run_suite
from seqlab_cells.torchrecurrent import TorchRecurrent

CELLS = sorted(name for name in torchrecurrent.__all__ if name.endswith("Cell"))
INPUT = 4
SQUARE = ("IntersectionRNNCell",)
"""Cells whose hidden size must be the input size."""
FAILS: dict[str, dict[str, str]] = {}
"""By cell the checks of the kit that it fails, each with the reason; of 0.2.5 there are none."""
IN_CI = {"tauGRUCell"}
"""The cell with a delayed state; LEMCell is in test_conformance.py, the others in ``make verify-long``."""


def hidden(name):
    return INPUT if name in SQUARE else 5


def shaken(module):
    """Set every parameter to a random value in float64: zero biases would hide a mistake."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return module


@pytest.mark.parametrize("name", CELLS)
def test_ragged_rows_are_those_of_the_packages_layer(name):
    """Outputs and gradients of each row by itself, from the layer's own loop and initial state."""
    net = shaken(Recurrent(TorchRecurrent, INPUT, hidden_size=hidden(name), type=name, kernel="loop"))
    layer = getattr(torchrecurrent, name.removesuffix("Cell"))(INPUT, hidden(name)).double()
    layer.cells[0].load_state_dict(net.cells[0].cell.state_dict())
    lengths = [6, 3, 0]
    x = torch.randn(6, 3, INPUT, dtype=torch.float64, requires_grad=True)
    y, _ = net(x, lengths=lengths)
    rows = [layer(x[:length, row : row + 1])[0][:, 0] for row, length in enumerate(lengths) if length]
    expected = torch.nn.utils.rnn.pad_sequence([*rows, x.new_zeros(1, hidden(name))])
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(y)
    found = torch.autograd.grad((y * weights).sum(), [x, *net.parameters()], allow_unused=True)
    others = torch.autograd.grad((expected * weights).sum(), [x, *layer.parameters()], allow_unused=True)
    torch.testing.assert_close(found, others, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in IN_CI else [pytest.mark.long]) for n in CELLS])
def test_the_conformance_kit(name):
    compiled = {"compiled_equals_the_loop": "by test_conformance.py, of one of them"}
    options = {"type": name, **({"hidden_size": 3} if name in SQUARE else {})}
    suite = type("Suite", (CellSuite,), {"cell": TorchRecurrent, "options": options, "skips": compiled})
    assert {one.check for one in run_suite(suite) if one.result == "failed"} == set(FAILS.get(name, ()))


def test_without_the_package_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchrecurrent", None)
    with pytest.raises(UserError, match=r"which is not installed: pip install 'seqlab\[torchrecurrent\]'$"):
        build("cell", {"name": "torchrecurrent"}, input_size=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"type": "LEMCel"}, r"^cell\.type must be a cell of torchrecurrent, such as LEMCell, .*, got LEMCel$"),
        ({"type": "LEM"}, r"^cell\.type must be a cell of torchrecurrent, such as .*LEMCell.*, got LEM$"),
        ({"options": {"dtt": 0.5}}, r"^cell\.options: LEMCell has no argument dtt; it has bias, .*dt$"),
        ({"options": {"device": "cpu"}}, r"^cell\.options: LEMCell has no argument device"),
        ({"type": "FastRNNCell", "options": {"nonlinearity": 3}}, r"^cell\.options: FastRNNCell: Activation must"),
        ({"type": "FastRNNCell", "options": {"nonlinearity": "hot"}}, r"Unknown activation 'hot'"),
        ({"type": "IntersectionRNNCell"}, r"^cell=torchrecurrent: IntersectionRNNCell requires input_size == hidden"),
    ],
)
def test_what_it_refuses_is_one_line(given, message):
    with pytest.raises(UserError, match=message) as caught:
        build("cell", {"name": "torchrecurrent", **given}, input_size=3)
    assert "\n" not in str(caught.value)


def test_options_reach_the_cell():
    found = build("cell", {"name": "torchrecurrent", "options": {"dt": 0.25}, "hidden_size": 7}, input_size=3)
    assert isinstance(found.cell, torchrecurrent.LEMCell)
    assert (found.cell.dt, found.cell.hidden_size) == (0.25, 7)
