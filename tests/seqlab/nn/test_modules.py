"""``seqlab.nn`` computes what ``torch.nn`` computes, and takes and refuses what torch takes and refuses."""

import copy
import gc
import io
import pickle
import weakref
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn.utils import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence
from torch.testing import assert_close

import seqlab.nn
from seqlab import Recurrent

from .configurations import MODULES, Configuration, compare, configurations

every_kind = pytest.mark.parametrize("kind", MODULES)
KERNELS = ["auto", "loop", "vendor"]
PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


@settings(max_examples=40)
@given(configuration=configurations())
def test_it_computes_what_torch_computes(configuration: Configuration) -> None:
    """Outputs, states and all gradients of random modules and batches."""
    dtype, tolerance = PRECISIONS[configuration.seed % 2]
    compare(configuration, dtype, tolerance, kernel=KERNELS[configuration.seed % 3])


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@settings(max_examples=200)
@given(configuration=configurations(largest=12))
def test_it_computes_what_torch_computes_in_many_configurations(
    dtype: torch.dtype, tolerance: float, configuration: Configuration
) -> None:
    compare(configuration, dtype, tolerance, kernel=KERNELS[configuration.seed % 3])


@pytest.mark.slow
@settings(max_examples=20)
@given(configuration=configurations())
def test_the_fused_kernel_computes_what_torch_computes(configuration: Configuration) -> None:
    """Compiled if there is a compiler, else torch's routine by the same path."""
    assert compare(configuration, torch.float64, 1e-12, kernel="fused").choice.reason == "asked for"


@every_kind
def test_the_state_dict_is_that_of_torch(kind: str) -> None:
    """The same names in the same order, loaded strictly in both directions; the same initial weights by one seed."""
    theirs, ours = MODULES[kind]
    torch.manual_seed(0)
    one = theirs(3, 4, 2, bidirectional=True)
    torch.manual_seed(0)
    other = ours(3, 4, 2, bidirectional=True)
    assert list(other.state_dict()) == list(one.state_dict())
    assert_close(dict(other.state_dict()), dict(one.state_dict()), rtol=0, atol=0)
    assert [name for name, _ in other.named_parameters()] == [name for name, _ in one.named_parameters()]
    assert list(other.children()) == []
    assert isinstance(other, theirs)
    third, x = ours(3, 4, 2, bidirectional=True), torch.randn(5, 2, 3)
    third.load_state_dict(one.state_dict())
    assert_close(third(x)[0], one(x)[0])
    one.load_state_dict(ours(3, 4, 2, bidirectional=True).state_dict())
    assert [[weight.shape for weight in weights] for weights in third.all_weights] == [
        [weight.shape for weight in weights] for weights in one.all_weights
    ]
    assert repr(other) == repr(one)
    other.flatten_parameters()


def test_arguments_are_those_of_torch_in_order() -> None:
    assert repr(seqlab.nn.LSTM(3, 4, 2, False, True, 0.5, True)) == repr(nn.LSTM(3, 4, 2, False, True, 0.5, True))
    assert repr(seqlab.nn.RNN(3, 4, 2, "relu", False, True)) == repr(nn.RNN(3, 4, 2, "relu", False, True))
    assert seqlab.nn.RNN(3, 4, nonlinearity="relu").mode == "RNN_RELU"
    assert seqlab.nn.GRU(3, 4, dtype=torch.float64).weight_ih_l0.dtype == torch.float64
    assert seqlab.nn.GRU(3, 4, device="meta").weight_ih_l0.is_meta


@every_kind
def test_projections_are_refused_in_one_line(kind: str) -> None:
    with pytest.raises(ValueError, match=r"^proj_size must be 0, got 2: .*$"):
        MODULES[kind][1](3, 4, proj_size=2)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"input_size": 0}, ValueError), ({"hidden_size": 0}, ValueError), ({"num_layers": 0}, ValueError),
        ({"dropout": 1.5}, ValueError), ({"dropout": True}, ValueError), ({"bias": 1}, TypeError),
        ({"hidden_size": 2.0}, TypeError), ({"kernel": "fastest"}, ValueError),
    ],
    ids=str,
)  # fmt: skip
@every_kind
def test_wrong_options_are_refused_as_by_torch(kind: str, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        MODULES[kind][1](**{"input_size": 3, "hidden_size": 4} | options)(torch.randn(2, 1, 3))


def sized(kind: str, *shape: int) -> Any:
    return (torch.randn(shape), torch.randn(shape)) if kind == "LSTM" else torch.randn(shape)


@pytest.mark.parametrize(
    ("x", "state"),
    [
        ((6, 7, 3), (2, 4, 5)), ((6, 4, 3), (2, 7, 5)), ((6, 4, 7), (2, 4, 5)), ((6, 4, 3), (2, 4, 7)),
        ((6, 4, 3), (7, 4, 5)), ((6, 4, 3), (2, 5)), ((6, 3), (2, 4, 5)), ((6, 4, 3, 1), None), ((3,), None),
    ],
    ids=str,
)  # fmt: skip
@every_kind
def test_wrong_shapes_raise_the_errors_of_torch(kind: str, x: tuple[int, ...], state: tuple[int, ...] | None) -> None:
    """Batch, input, hidden size, layers and number of axes, one wrong at a time."""
    raised = []
    for module in MODULES[kind]:
        with pytest.raises((RuntimeError, ValueError)) as error:
            module(3, 5, 2)(torch.randn(x), None if state is None else sized(kind, *state))
        raised.append(error.type)
    assert raised[0] is raised[1]


def test_wrong_states_and_dtypes_are_named() -> None:
    x = torch.randn(6, 4, 3)
    with pytest.raises(RuntimeError, match=r"initial state must be a tuple \(h, c\)"):
        seqlab.nn.LSTM(3, 5)(x, (torch.zeros(1, 4, 5),), [6, 1, 1, 1])
    with pytest.raises(RuntimeError, match="initial state must be a tensor"):
        seqlab.nn.GRU(3, 5)(x, (torch.zeros(1, 4, 5),), [6, 1, 1, 1])
    with pytest.raises(ValueError, match="dtype"):
        seqlab.nn.GRU(3, 5)(x.double(), lengths=[6, 1, 1, 1])
    with pytest.raises(ValueError, match="got 7 in row 1"):
        seqlab.nn.GRU(3, 5)(x, lengths=[6, 7, 1, 1])
    with pytest.raises(ValueError, match="packed input, which has its own"):
        seqlab.nn.GRU(3, 5)(pack_padded_sequence(x, [6, 5, 4, 3]), lengths=[6, 5, 4, 3])


@every_kind
def test_empty_rows_and_padding(kind: str) -> None:
    """A row of no steps returns its initial state; NaN in padding reaches nothing."""
    module = MODULES[kind][1](3, 5, batch_first=True, dtype=torch.float64)
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    x[0], x[1, 2:] = float("nan"), float("nan")
    start = tuple(torch.randn(1, 2, 5, dtype=torch.float64) for _ in range(2 if kind == "LSTM" else 1))
    output, end = module(x, start if kind == "LSTM" else start[0], [0, 2])
    ends = end if kind == "LSTM" else (end,)
    for before, after in zip(start, ends, strict=True):
        assert torch.equal(after[:, 0], before[:, 0])
    assert not output[0].any()
    assert not output[1, 2:].any()
    output.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in module.parameters())


@every_kind
def test_an_empty_batch_trains(kind: str) -> None:
    module = MODULES[kind][1](3, 4)
    output, _ = module(torch.zeros(5, 0, 3))
    output.sum().backward()
    assert output.shape == (5, 0, 4)


@every_kind
@pytest.mark.parametrize("is_ragged", [False, True])
def test_dropout_draws_the_masks_of_torch(kind: str, is_ragged: bool) -> None:
    """By one seed, of full rows; the option may be changed later; evaluation drops nothing."""
    theirs, ours = (module(3, 16, 3, dropout=0.5) for module in MODULES[kind])
    ours.load_state_dict(theirs.state_dict())
    x, lengths = torch.randn(5, 4, 3), [5, 5, 5, 5] if is_ragged else None
    for rate in (0.5, 0.0, 1.0):
        theirs.dropout = ours.dropout = rate
        torch.manual_seed(1)
        expected = theirs(x)[0]
        torch.manual_seed(1)
        assert_close(ours(x, lengths=lengths)[0], expected)
    theirs.eval(), ours.eval()
    assert_close(ours(x, lengths=lengths)[0], theirs(x)[0])
    ours.train()
    ours.dropout = 0.5
    assert not torch.equal(ours(x, lengths=[5, 4, 3, 2])[0], ours(x, lengths=[5, 4, 3, 2])[0])


@every_kind
def test_it_is_copied_and_pickled(kind: str) -> None:
    """A copy has its own weights, whichever it reads; a pickle holds no kernel and no cell."""
    module = MODULES[kind][1](3, 4, 2, bidirectional=True, kernel="vendor")
    x = torch.randn(5, 2, 3)
    expected = module(x, lengths=[5, 3])[0]
    stored = io.BytesIO()
    torch.save(module, stored)
    stored.seek(0)
    for made in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(stored, weights_only=False)):
        assert_close(made(x, lengths=[5, 3])[0], expected, rtol=0, atol=0)
        assert made.kernel == "vendor"
        with torch.no_grad():
            made.weight_hh_l0.zero_()
        assert not torch.equal(made(x, lengths=[5, 3])[0], expected)
    assert torch.equal(module(x, lengths=[5, 3])[0], expected)
    shared = copy.copy(module)
    assert shared.weight_ih_l0 is module.weight_ih_l0
    assert b"Recurrent" not in pickle.dumps(module)


@every_kind
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_weights_may_be_replaced(kind: str) -> None:
    """By assignment, by weight norm, by ``functional_call``, by a dtype: the weights that are there are read."""
    theirs, ours = (module(3, 4) for module in MODULES[kind])
    ours.load_state_dict(theirs.state_dict())
    x, lengths = torch.randn(5, 2, 3), [5, 5]
    for module in (theirs, ours):
        weight_norm(module, "weight_hh_l0")
        module.weight_ih_l0 = nn.Parameter(torch.ones_like(module.weight_ih_l0))
    assert_close(ours(x, lengths=lengths)[0], theirs(x)[0])
    weights = {name: torch.full_like(weight, 0.1) for name, weight in ours.named_parameters()}
    expected = torch.func.functional_call(theirs, weights, (x,))[0]
    assert_close(torch.func.functional_call(ours, weights, (x, None, lengths))[0], expected)
    assert_close(ours.double()(x.double(), lengths=lengths)[0], theirs.double()(x.double())[0])


@every_kind
def test_frozen_and_strided_tensors(kind: str) -> None:
    """Non-contiguous input, a frozen weight and no gradient at all."""
    theirs, ours = (module(3, 4, 2) for module in MODULES[kind])
    ours.load_state_dict(theirs.state_dict())
    x = torch.stack([torch.randn(5, 2, 3), torch.zeros(5, 2, 3)], 3).select(3, 0)
    for module, lengths in ((theirs, {}), (ours, {"lengths": (5, 5)})):
        module.weight_hh_l0.requires_grad_(False)
        module(x, **lengths)[0].sum().backward()
        assert module.weight_hh_l0.grad is None
    assert_close(ours.weight_ih_l0.grad, theirs.weight_ih_l0.grad)
    with torch.no_grad():
        assert not ours(x, lengths=[5, 5])[0].requires_grad


@every_kind
def test_recurrent_is_made_from_either(kind: str) -> None:
    x = torch.randn(5, 2, 3)
    for module in MODULES[kind]:
        made = module(3, 4, 2, bidirectional=True)
        assert_close(Recurrent.from_torch(made)(x)[0], made(x)[0])
    with pytest.raises(ValueError, match="Linear cannot be converted"):
        Recurrent.from_torch(nn.Linear(2, 2))


@every_kind
def test_it_runs_on_the_meta_device(kind: str) -> None:
    module = getattr(seqlab.nn, kind)(3, 4, device="meta")
    assert module(torch.empty(5, 2, 3, device="meta"))[0].shape == (5, 2, 4)


@every_kind
def test_its_memory_is_freed_without_a_collection(kind: str) -> None:
    gc.disable()
    try:
        module = getattr(seqlab.nn, kind)(3, 4, kernel="loop")
        module(torch.ones(5, 2, 3))[0].sum().backward()
        alive = weakref.ref(module)
        del module
        assert alive() is None
    finally:
        gc.enable()
