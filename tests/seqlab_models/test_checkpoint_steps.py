"""``checkpoint_steps``: outputs, states, every gradient and the random numbers are those of the sequence read whole."""

from importlib.metadata import distribution

import pytest
import torch
from torch import nn

from seqlab import Batch, InputSpec, Recurrent
from seqlab.recurrence import state_tensors
from seqlab.recurrence.chunks import MAX_BYTES, automatic_steps
from seqlab_cells.gru import GRU
from seqlab_cells.lstm import LSTM
from seqlab_models.recurrent import RecurrentModel

pytestmark = pytest.mark.usefixtures("no_shape_checks")
LENGTHS, HIDDEN = [11, 4, 0, 10], 4
EXACT = {"rtol": 0, "atol": 1e-12}
ENTRIES = distribution("seqlab").entry_points
CELLS = {entry.name: entry for entry in ENTRIES.select(group="seqlab.cells")}
KERNELS = [
    *((name, "loop") for name in CELLS),
    *(tuple(entry.name.split(".")) for entry in ENTRIES.select(group="seqlab.kernels")),
    ("gru", "fused checkpoint"),
    ("gru", "compiled"),
]
POOLINGS = ["last", "mean", "max", "attention"]
MASKS = {"input_dropout": 0.3, "dropout": 0.3, "locked_dropout": 0.2, "output_dropout": 0.2}


def passed(steps, cell, kernel="loop", *, features=False, per_step=False, lengths=LENGTHS, **options):
    """Return outputs, state, gradients and the next random number of a training pass."""
    torch.manual_seed(0)
    spec = InputSpec("features", 3) if features else InputSpec("tokens", 9)
    if kernel == "fused checkpoint":
        kernel = next(entry for entry in ENTRIES if entry.name == "gru.fused" and entry.group == "seqlab.kernels")
        kernel = kernel.load()(save="checkpoint")
    model = RecurrentModel(
        spec,
        lambda size: nn.Linear(size, 5),
        per_step,
        lambda size: cell(size, HIDDEN),
        kernel,
        embedding_size=3,
        depth=2,
        checkpoint_steps=steps,
        **options,
    ).double()
    longest = max(lengths or [11])
    shape = (4, longest, 3) if features else (4, longest)
    inputs = torch.randn(shape).double() if features else torch.randint(1, 9, shape)
    batch = Batch(inputs, None if lengths is None else torch.tensor(lengths), torch.empty(4))
    torch.manual_seed(1)
    outputs, state = model(batch)
    drawn = torch.rand(3)
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=torch.float64).view_as(outputs)
    leaves = [leaf for leaf in state_tensors(state) if leaf.is_floating_point()]
    loss = (outputs * weights).sin().sum() + sum(leaf.square().sum() for leaf in leaves)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, learned, allow_unused=True, materialize_grads=True)
    assert any(bool(gradient.any()) for gradient in gradients)
    return outputs, *state, drawn, *gradients


def check(*arguments, sizes=(3,), **options):
    """By chunks of a size that leaves a rest of the longest row; 1 and 10 leave none, and one of a step."""
    whole = passed(0, *arguments, **options)
    for steps in sizes:
        torch.testing.assert_close(passed(steps, *arguments, **options), whole, **EXACT)


@pytest.mark.parametrize("lengths", [LENGTHS, None], ids=["ragged", "full"])
@pytest.mark.parametrize(("cell", "kernel"), KERNELS, ids=" ".join)
def test_every_cell_and_kernel(cell, kernel, lengths):
    check(CELLS[cell].load(), kernel, lengths=lengths, **MASKS)


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize(("pooling", "features"), [("last", True), *((each, False) for each in POOLINGS)])
def test_outputs_and_inputs_of_every_kind(pooling, features, per_step):
    check(GRU, sizes=(1, 3, 10), features=features, per_step=per_step, pooling=pooling, **MASKS)


@pytest.mark.parametrize(
    "options",
    [
        {"state_dropout": 0.3},
        {"zoneout": 0.3},
        {"weight_drop": 0.3},
        {"weight_drop": 0.3, "zoneout": 0.2, "state_dropout": 0.3, "dropout": 0.4, "input_dropout": 0.2},
        {"layer_norm": True, "connection": "highway", "learned_start": True, "random_start": True},
        {"read_padding": 14},
        {
            "block": "prenorm_mlp",
            "conv": 4,
            "dropout": 0.3,
            "locked_dropout": 0.2,
            "state_dropout": 0.3,
            "zoneout": 0.2,
        },
        {"input": "onehot", "init_range": 0.5},
    ],
    ids=" ".join,
)
def test_every_option(options):
    check(LSTM, **options)


def test_a_weight_drop_of_the_fused_kernel_is_one_for_all_chunks():
    check(LSTM, "fused", weight_drop=0.4, dropout=0.2)


@pytest.mark.parametrize("kernel", ["loop", "fused"])
def test_the_layer_alone(kernel):
    """Gradients of the input and of the initial state, too."""
    found = []
    for steps in (0, 3):
        torch.manual_seed(0)
        layer = Recurrent(GRU, 3, hidden_size=4, depth=2, dropout=0.3, kernel=kernel, checkpoint_steps=steps).double()
        x = torch.randn(10, 4, 3, dtype=torch.float64, requires_grad=True)
        start = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
        outputs, (end,) = layer(x, (start,), [10, 4, 0, 7])
        loss = outputs.sin().sum() + end.square().sum()
        found.append((outputs, end, *torch.autograd.grad(loss, [x, start, *layer.parameters()])))
    torch.testing.assert_close(*found, **EXACT)


@pytest.mark.parametrize("per_step", [False, True])
def test_saved_tensors_are_those_of_a_chunk(per_step):
    """500 steps by chunks of 25: less than a fifteenth of what the whole keeps, beside outputs per step."""
    saved = {}
    for steps in (0, 25):
        sizes = saved[steps] = []

        def save(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            passed(steps, GRU, "vendor", lengths=[500] * 4, per_step=per_step, **MASKS)
    beside = 2 * 4 * 500 * 5 if per_step else 0  # what the loss of the outputs keeps
    assert sum(saved[25]) - beside < (sum(saved[0]) - beside) / 15


def test_auto_reads_whole_what_fits_and_about_the_root_of_what_does_not(caplog):
    assert automatic_steps(10**6, MAX_BYTES // 10**6) == 0
    assert [automatic_steps(steps, 2**20) for steps in (10**4, 2**20, 10**7)] == [1024, 1024, 4096]
    layer = Recurrent(GRU, 16, hidden_size=64, checkpoint_steps="auto")
    with caplog.at_level("INFO", logger="seqlab"):
        assert layer.chunk_steps(10_000, 32, torch.float32) == 0
        assert [layer.chunk_steps(2**20, 8, torch.float32) for _ in range(2)] == [1024, 1024]
    (line,) = caplog.messages
    assert "1,048,576 steps are read 1,024 at a time" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint_steps": -1}, "checkpoint_steps must be >= 0, got -1"),
        ({"checkpoint_steps": 5, "bidirectional": True}, "checkpoint_steps must be 0 or auto with bidirectional=true"),
        ({"checkpoint_steps": 5, "truncate": 5}, "checkpoint_steps must be 0 or auto with truncate=5"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Recurrent(GRU, 3, hidden_size=4, **options)
