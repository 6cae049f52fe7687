"""``seqlab.nn`` under the tools of torch: compiler, export, data parallelism, mixed precision, transforms."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

import seqlab.nn

from .configurations import MODULES

every_kind = pytest.mark.parametrize("kind", MODULES)


class Model(nn.Module):
    """A recurrent layer and a head."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(4, 1)

    def forward(self, x: Tensor, lengths: Any = None) -> Any:
        y = self.layer(x)[0] if lengths is None else self.layer(x, None, lengths)[0]
        return self.head(y)


def made(kind: str) -> Model:
    torch.manual_seed(0)
    return Model(MODULES[kind][1](3, 4, 2, batch_first=True))


X, LENGTHS = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([5, 3])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
@pytest.mark.usefixtures("no_shape_checks")
def test_it_is_compiled_and_trains(kind: str) -> None:
    """The compiler breaks its graph at the layer, as at torch's; the results and gradients are those without it."""
    plain, model = made(kind), made(kind)
    compiled = torch.compile(model, backend="aot_eager")
    for given in ((X,), (X, LENGTHS)):
        expected = plain(*given)
        assert_close(compiled(*given), expected)
        expected.sum().backward()
        compiled(*given).sum().backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert_close(one.grad, other.grad)
    torch._dynamo.reset()


@pytest.mark.slow
@every_kind
@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.filterwarnings("ignore:The tensor attributes self.layer._flat_weights")
def test_it_is_exported(kind: str) -> None:
    """With any number of rows, ragged ones included; the program has operators of torch alone."""
    model = made(kind).eval()
    rows = torch.export.Dim.DYNAMIC
    for given, shapes in (((X,), ({0: rows},)), ((X, LENGTHS), ({0: rows}, {0: rows}))):
        program = torch.export.export(model, given, dynamic_shapes=shapes)
        larger = [torch.cat([each, each]) for each in given]
        assert_close(program.module()(*larger), model(*larger))
        operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
        assert not any("seqlab" in name for name in operators)


@every_kind
def test_data_parallel_training_equals_training(kind: str, tmp_path: Path) -> None:
    """One rank: every parameter is reduced, and a state dict is loaded with its prefix removed."""
    plain, model = made(kind), made(kind)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        parallel = DistributedDataParallel(model)
        for _ in range(2):
            parallel(X, LENGTHS).sum().backward()
            plain(X, LENGTHS).sum().backward()
        for one, other in zip(model.parameters(), plain.parameters(), strict=True):
            assert_close(one.grad, other.grad)
        plain.load_state_dict(parallel.module.state_dict())
    finally:
        dist.destroy_process_group()


@every_kind
def test_mixed_precision(kind: str) -> None:
    """Values of bfloat16's precision, float32 gradients, whole or ragged."""
    model = made(kind)
    for lengths in (None, LENGTHS):
        exact = model(X, lengths)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(X, lengths)
        assert_close(found.float(), exact, rtol=0.02, atol=0.02)
        found.float().sum().backward()
    assert all(each.grad.dtype == torch.float32 and each.grad.isfinite().all() for each in model.parameters())


@every_kind
def test_lower_precision_parameters(kind: str) -> None:
    theirs, ours = (module(3, 4, dtype=torch.bfloat16) for module in MODULES[kind])
    ours.load_state_dict(theirs.state_dict())
    x = X.bfloat16()
    assert_close(ours(x, lengths=[2, 2, 2, 2, 2][: x.shape[1]])[0], theirs(x)[0], rtol=0.02, atol=0.02)


@every_kind
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # by torch.func.jvp itself
def test_forward_mode_and_second_derivatives(kind: str) -> None:
    """By the loop where no kernel has them, which torch's LSTM on a CPU has not in float32."""
    module = MODULES[kind][1](3, 4, dtype=torch.float64)
    x = X.double()

    def output(x: Tensor) -> Any:
        return module(x)[0].sum()

    direction = torch.ones_like(x)
    _, forward = torch.func.jvp(output, (x,), (direction,))
    assert_close(forward, (torch.func.grad(output)(x) * direction).sum())
    module.kernel = "loop"
    assert torch.autograd.gradgradcheck(lambda x: module(x, lengths=[2, 1, 2, 1, 2])[0], (x.requires_grad_(),))


@every_kind
def test_data_parallel_replicas_read_their_own_weights(kind: str) -> None:
    module = MODULES[kind][1](3, 4)
    replica = module._replicate_for_data_parallel()
    for name, weight in module.named_parameters():
        setattr(replica, name, torch.zeros_like(weight))
    assert not replica(X, lengths=[2, 1, 2, 1, 2])[0].any()
    assert module(X, lengths=[2, 1, 2, 1, 2])[0].any()


@every_kind
def test_it_is_moved_and_shared_like_torch(kind: str) -> None:
    """To the meta device and back empty, into shared memory, frozen, and copied deep inside a model."""
    model = made(kind)
    assert model.to("meta").layer.weight_ih_l0.is_meta
    model = made(kind)
    model.share_memory()
    assert model.layer.weight_ih_l0.is_shared()
    model.requires_grad_(False)
    assert not model(X, LENGTHS).requires_grad
    other = copy.deepcopy(model)
    other.layer.weight_ih_l0.data.zero_()
    assert not torch.equal(other(X, LENGTHS), model(X, LENGTHS))
    assert isinstance(model.layer, getattr(seqlab.nn, kind))
