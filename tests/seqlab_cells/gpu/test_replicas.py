"""The Triton kernels under vmap, all replicas in one launch, against each model by itself and the loop in float64."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from seqlab import Recurrent
from seqlab_cells.gpu import launch, limits

from .layers import BOUND, CELLS, DEVICE, INTERPRETED, agree, every_cell, on_a_device, results, weighed

pytestmark = on_a_device
REPLICAS, TIME, BATCH, INPUT = 3, 3, 3, 2
RAGGED = [[3, 0, 2], [1, 3, 2], [2, 0, 0]]
"""Valid steps: another number of them in each replica, and rows without any."""
ALIKE = 1e-6
"""Between a batched product and a product by itself, relative to the largest number of the kind."""


@pytest.fixture(autouse=True)
def _unwritten_memory_is_nan() -> Iterator[None]:
    """As torch has it in its deterministic mode, which on a GPU takes a setting of cuBLAS besides."""
    torch.use_deterministic_algorithms(INTERPRETED)
    yield
    torch.use_deterministic_algorithms(False)


def drawn(
    name: str, *, hidden: int = 5, both: bool = False, save: Any = "gates", shared: bool = False, ragged: bool = False
) -> tuple[list[Recurrent], Tensor, tuple[Tensor, ...], Tensor | None]:
    """Networks with weights of their own, and the input, which can be the same for all, states and lengths of each."""
    cell, kernel, options = CELLS[name]
    networks = []
    for seed in range(REPLICAS):
        torch.manual_seed(seed)
        network = Recurrent(cell, INPUT, bidirectional=both, hidden_size=hidden, kernel=kernel(save=save), **options)
        networks.append(network.to(DEVICE))
    x = torch.randn(*([] if shared else [REPLICAS]), TIME, BATCH, INPUT)
    start = tuple(0.5 * torch.randn(REPLICAS, 1 + both, BATCH, hidden) for _ in networks[0].cells[0].state_names)
    if ragged and not shared:
        for replica, lengths in enumerate(RAGGED):
            for row, length in enumerate(lengths):
                x[replica, length:, row] = torch.nan
    lengths = torch.tensor(RAGGED, device=DEVICE) if ragged else None
    return networks, x.to(DEVICE), tuple(each.to(DEVICE) for each in start), lengths


def together(
    networks: list[Recurrent], x: Tensor, start: tuple[Tensor, ...], lengths: Tensor | None
) -> dict[str, Tensor]:
    """Return what :func:`.layers.results` does, of all networks in one call, with a first axis of replicas."""
    x, start = x.clone().requires_grad_(), tuple(each.clone().requires_grad_() for each in start)
    each = [dict(network.named_parameters()) for network in networks]
    own = {name: torch.stack([one[name].detach() for one in each]).requires_grad_() for name in each[0]}

    def call(own: dict[str, Tensor], x: Tensor, start: tuple[Tensor, ...], lengths: Tensor | None) -> Any:
        return functional_call(networks[0], own, (x, start, lengths))

    of_x, of_lengths = (0 if x.dim() == 4 else None), (None if lengths is None else 0)
    output, state = vmap(call, in_dims=(0, of_x, 0, of_lengths))(own, x, start, lengths)
    assert networks[0].choice is not None
    assert networks[0].choice.kernel.name == "fused"
    found = {"output": output, **{f"state {k}": part for k, part in enumerate(state)}}
    total = torch.stack([weighed(one.double()) for part in found.values() for one in part]).sum()
    sources = {"x": x, **{f"start {k}": one for k, one in enumerate(start)}, **own}
    gradients = torch.autograd.grad(total, list(sources.values()))
    found |= {f"gradient of {key}": part for key, part in zip(sources, gradients, strict=True)}
    return {key: part.detach().double().cpu() for key, part in found.items()}


def alone(networks: list[Recurrent], x: Tensor, start: tuple[Tensor, ...], lengths: Tensor | None) -> dict[str, Tensor]:
    """Return the same of each network by itself; a shared input's gradient is the sum."""
    found = [
        results(
            network,
            x[k] if x.dim() == 4 else x,
            None if lengths is None else lengths[k],
            tuple(each[k] for each in start),
        )
        for k, network in enumerate(networks)
    ]
    stacked = {key: torch.stack([one[key] for one in found]) for key in found[0]}
    if x.dim() == 3:
        stacked["gradient of x"] = stacked["gradient of x"].sum(0)
    return stacked


def looped(networks: list[Recurrent]) -> list[Recurrent]:
    copied = [copy.deepcopy(network).double() for network in networks]
    for network in copied:
        network.kernel = "loop"
    return copied


@every_cell
@pytest.mark.parametrize(
    ("both", "ragged", "shared"),
    [(False, False, False), (True, False, True), (True, True, False), (False, True, True)],
    ids=["forward", "both_ways_shared", "both_ways_ragged", "forward_ragged_shared"],
)
def test_replicas_are_what_each_is_alone(name: str, both: bool, ragged: bool, shared: bool) -> None:
    """By the same kernel, and by the loop; with an input of their own, full of NaN beyond its lengths, or the same."""
    networks, x, start, lengths = drawn(name, both=both, ragged=ragged, shared=shared)
    found = together(networks, x, start, lengths)
    agree(found, alone(networks, x, start, lengths), ALIKE)
    expected = alone(looped(networks), x.double(), tuple(each.double() for each in start), lengths)
    agree(found, expected, BOUND[torch.float32])


@pytest.mark.parametrize(("name", "ragged"), [("lstm", True), ("gru", True), ("gru", False), ("rnn", True)])
def test_replicas_that_recompute(name: str, ragged: bool) -> None:
    """From the states of each replica, whose blocks of memory are not full."""
    networks, x, start, lengths = drawn(name, both=True, save="recompute", ragged=ragged)
    found = together(networks, x, start, lengths)
    agree(found, alone(networks, x, start, lengths), ALIKE)
    expected = alone(looped(networks), x.double(), tuple(each.double() for each in start), lengths)
    agree(found, expected, BOUND[torch.float32])


@every_cell
def test_the_kernels_are_the_same_bit_by_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the products are those of each replica; they alone may differ when batched."""
    product = launch._product

    def one_by_one(a: Tensor, b: Tensor, added: Tensor | None = None) -> Tensor:
        given = (a, b) if added is None else (a, b, added)
        return torch.cat([product(*each) for each in zip(*(tensor.split(1) for tensor in given), strict=True)])

    networks, x, start, lengths = drawn(name, both=True, ragged=True)
    monkeypatch.setattr(launch, "_product", one_by_one)
    found, expected = together(networks, x, start, lengths), alone(networks, x, start, lengths)
    for key, part in expected.items():
        if "gradient" not in key or key.startswith(("gradient of x", "gradient of start")):
            assert torch.equal(found[key], part), key


def test_float16() -> None:
    """The states stay float32 between steps, and their gradients come in the states' dtype."""
    networks, x, start, lengths = drawn("lstm", both=True, ragged=True)
    networks = [network.half() for network in networks]
    x, start = x.half(), tuple(each.half() for each in start)
    found = together(networks, x, start, lengths)
    agree(found, alone(networks, x, start, lengths), 1e-3)
    expected = alone(looped(networks), x.double(), tuple(each.double() for each in start), lengths)
    agree(found, expected, BOUND[torch.float16])


def test_one_launch_runs_all_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward, and backward: tiles of rows, directions, replicas."""
    from seqlab_cells.gpu import scan

    grids = []

    class Counted:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            grids.append((self.kernel.__name__, grid))
            return self.kernel[grid]

    for way in ("forward", "backward"):
        monkeypatch.setattr(scan, way, Counted(getattr(scan, way)))
    networks, x, start, lengths = drawn("gru", both=True, ragged=True)
    together(networks, x, start, lengths)
    assert grids == [("forward", (1, 2, REPLICAS)), ("backward", (1, 2, REPLICAS))]


def test_a_batch_without_rows_or_steps() -> None:
    """And replicas without a valid step: the states are the initial ones."""
    networks = drawn("gru")[0]
    own = {
        name: torch.stack([each.get_parameter(name) for each in networks]) for name, _ in networks[0].named_parameters()
    }

    def call(own: dict[str, Tensor], x: Tensor, lengths: Tensor | None) -> Any:
        return functional_call(networks[0], own, (x, None, lengths))

    for shape in ((REPLICAS, 0, 3, INPUT), (REPLICAS, 2, 0, INPUT), (REPLICAS, 2, 3, INPUT)):
        lengths = torch.zeros(shape[0], shape[2], dtype=torch.int64, device=DEVICE)
        for given in (lengths, None) if shape[1] == 0 or shape[2] == 0 else (lengths,):
            x = torch.zeros(shape, device=DEVICE, requires_grad=True)
            y, (h,) = vmap(call, in_dims=(0, 0, None if given is None else 0))(own, x, given)
            assert y.shape == (*shape[:3], 5)
            assert not y.any()
            assert not h.any()
            (y.sum() + h.sum()).backward()
            assert x.grad is not None
            assert not x.grad.any()


def test_too_many_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's grid ends; the error says what to do."""
    monkeypatch.setattr(launch, "MOST", REPLICAS - 1)
    networks, x, start, lengths = drawn("rnn")
    with pytest.raises(ValueError, match="chunk_size"):
        together(networks, x, start, lengths)


def test_the_layout_of_ragged_replicas() -> None:
    """Row after row; each replica's block begins where the longest one's would end, and what is left over is zero."""
    lengths = torch.tensor(RAGGED)
    layout = limits.plan(REPLICAS, TIME, BATCH, lengths, torch.device("cpu"))
    x = torch.arange(1.0, 1 + REPLICAS * TIME * BATCH).view(REPLICAS, TIME, BATCH)
    blocks = layout.kept(x)
    assert layout.total == 6
    for replica in range(REPLICAS):
        rows = [x[replica, :length, row] for row, length in enumerate(RAGGED[replica])]
        padding = torch.zeros(6 - sum(RAGGED[replica]))
        assert torch.equal(blocks[replica], torch.cat([*rows, padding]))
        assert layout.base is not None
        for row, length in enumerate(RAGGED[replica]):
            if length:
                assert blocks.flatten()[layout.base[replica * BATCH + row]] == x[replica, 0, row]
    valid = torch.arange(TIME)[:, None] < lengths[:, None]
    assert torch.equal(layout.spread(blocks, TIME, BATCH), torch.where(valid, x, 0.0))
    equal = limits.plan(REPLICAS, TIME, BATCH, lengths.new_full((REPLICAS, BATCH), 2), torch.device("cpu"))
    assert equal.slots is None
    assert equal.total == 2 * BATCH


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_offsets_beyond_int32(ragged: bool) -> None:
    """Of W's directions, of kept steps and of outputs, against Python's integers, which have no end."""
    from .offsets import write_offsets

    rows, both, batch, time, directions = 16, 2, 2, 2**20, 2**31 - 1
    given = torch.full((REPLICAS, batch), time, device=DEVICE), torch.arange(batch, device=DEVICE).expand(REPLICAS, -1)
    base = torch.arange(REPLICAS * batch, device=DEVICE) * time
    to = torch.zeros(REPLICAS, both, 4, rows, dtype=torch.int64, device=DEVICE)
    index = given[0], given[1].contiguous(), base
    write_offsets[(1, both, REPLICAS)](to, *index, batch, time, directions, ragged=ragged, rows=rows)

    def at(replica: int, direction: int, row: int) -> list[int]:
        begin, end = (0, time - 1) if direction == 0 else (time - 1, 0)
        out, by_row = (
            [((replica * time + step) * batch + row) * directions + direction for step in (begin, end)],
            [((replica * batch + row) * time + step) * directions + direction for step in (begin, end)],
        )
        kept = by_row if ragged else out
        return [replica * directions + direction, kept[0], out[0], kept[1]]

    for replica in range(REPLICAS):
        for direction in range(both):
            found = to[replica, direction, :, :batch].t().tolist()
            assert found == [at(replica, direction, row) for row in range(batch)]
