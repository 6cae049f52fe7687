"""Kernel that torch.export traces with symbolic time and batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from seqlab.contracts import Cell, State
from seqlab.contracts.kernel import scan_directions
from seqlab.contracts.masks import valid_mask, zero_padding
from seqlab.plugins.exports import Routine, routine_of
from seqlab.recurrence.graphs import Step, broadcast_mask
from seqlab.recurrence.recurrent import Recurrent, scan_groups
from seqlab.recurrence.scan import rebuild, row_lengths
from seqlab.recurrence.selection import Loop

Form = Literal["torch", "onnx"]
"""Target of cells with a :class:`.Routine`: torch's operator or an ONNX node. Other cells become scans."""


@contextmanager
def traceable(model: nn.Module, form: Form) -> Iterator[None]:
    """Make every :class:`.Recurrent` of a model traceable within this context, without truncation or chunks."""
    networks = [module for module in model.modules() if isinstance(module, Recurrent)]
    before = [(network.kernel, network.truncate, network.checkpoint_steps) for network in networks]
    try:
        for network in networks:
            groups = scan_groups(network)
            nodes = nn.ModuleList(_node(cells) if form == "onnx" else nn.Identity() for cells in groups)
            network.add_module("onnx", nodes)
            network.kernel, network.truncate, network.checkpoint_steps = ExportKernel(network), 0, 0
        yield
    finally:
        for network, options in zip(networks, before, strict=True):
            network.kernel, network.truncate, network.checkpoint_steps = options
            del network.onnx


@final
class ExportKernel(Loop):
    """Scans the layers of one network with operators that torch.export keeps.

    Args:
        network: network whose ``onnx`` has one module per group of :func:`.scan_groups`: an :class:`OnnxLayer` or an
            identity.
    """

    name = "exported"

    def __init__(self, network: Recurrent) -> None:
        groups = scan_groups(network)
        self.nodes = {id(cells[0]): index for index, cells in enumerate(groups)}
        self.network = network
        self.cell = type(groups[0][0])  # type: ignore[misc]  # of this one network

    def scan_one(self, cell: Cell, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Scan step by step with torch's ``scan`` operator: most routines do not return the final state."""
        return exported_scan(cell, x, state, lengths)

    def outputs(self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None) -> Tensor:
        """Run torch's routine or the ONNX node, else scan step by step."""
        node = self.network.onnx[self.nodes[id(cells[0])]]  # type: ignore[index]  # a list of modules
        if isinstance(node, OnnxLayer):
            y: Tensor = node(x, states, row_lengths(x, lengths))
            return y if lengths is None else zero_padding(y, lengths)
        run = exported_scan if any(routine_of(cell) is None for cell in cells) else _routine
        return scan_directions(run, cells, x, states, lengths)[0]


def exported_scan(cell: Cell, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
    """Run a cell forward with torch's ``scan`` operator; outputs on padding are undefined."""
    parameters = {f"cell.{name}": value for name, value in [*cell.named_parameters(), *cell.named_buffers()]}
    step, count = Step(cell), len(state)

    def combine(*given: Tensor) -> list[Tensor]:
        old, (x_t, valid) = given[:count], given[count : count + 2]
        own = dict(zip(parameters, given[count + 2 :], strict=True))
        y, new = functional_call(step, own, (x_t, rebuild(state, old)))
        kept = [torch.where(broadcast_mask(valid, n), n, o) for n, o in zip(new, old, strict=True)]
        return [*kept, y.clone()]  # the operator must not return a tensor twice

    mask = valid_mask(row_lengths(x, lengths), x.shape[0])
    *end, y = torch.ops.higher_order.scan(combine, list(state), [cell.project(x), mask], tuple(parameters.values()))
    return y, rebuild(state, end)


def _routine(cell: Cell, x: Tensor, state: State, _: Tensor | None) -> tuple[Tensor, State]:
    """Run torch's routine forward; the final state of ragged rows is undefined."""
    found = routine_of(cell)
    assert found is not None
    start: Any = [tensor.unsqueeze(0) for tensor in state]
    start = start if len(start) > 1 else start[0]
    y, *end = _placeholder(found.torch)(x, start, list(found.weights), True, 1, 0.0, False, False, False)
    return y, rebuild(state, [tensor[0] for tensor in end])


_PLACEHOLDERS: Any = torch.library.Library("seqlab_export", "DEF")  # type: ignore[no-untyped-call]  # torch's own
_REPLACED: dict[Any, Any] = {}


@cache
def _placeholder(operator: Any) -> Any:
    """Define a placeholder operator: tracing would unroll torch's own for a fixed length."""
    arguments = str(operator._schema).partition("(")[2]
    name = f"{operator._schema.name.partition('::')[2]}_{operator._overloadname}"
    _PLACEHOLDERS.define(f"{name}({arguments}")

    def shapes(x: Tensor, start: Any, *_: Any) -> tuple[Tensor, ...]:
        states = [start] if isinstance(start, Tensor) else start
        return x.new_empty(*x.shape[:2], states[0].shape[-1]), *(torch.empty_like(tensor) for tensor in states)

    torch.library.register_fake(f"seqlab_export::{name}", shapes, lib=_PLACEHOLDERS)
    made = getattr(torch.ops.seqlab_export, name).default
    _REPLACED[made] = operator
    return made


def insert_routines(program: torch.export.ExportedProgram) -> None:
    """Replace the placeholders of a traced program by torch's routines."""
    for node in program.graph.nodes:
        if node.target in _REPLACED:
            node.target = _REPLACED[node.target]
    program.graph_module.recompile()


def _node(cells: Sequence[Cell]) -> nn.Module:
    """Return the ONNX node of a layer, or an identity if its cells have none."""
    routines = [found for cell in cells if (found := routine_of(cell))]
    if len(routines) < len(cells) or len({found.onnx for found in routines}) > 1:
        return nn.Identity()
    return OnnxLayer(cells[0].hidden_size, routines)


@final
class OnnxLayer(nn.Module):
    """A layer in one or both directions as one node of ONNX."""

    W: Tensor
    R: Tensor
    B: Tensor

    def __init__(self, hidden_size: int, routines: Sequence[Routine]) -> None:
        super().__init__()
        self.hidden_size, self.directions = hidden_size, len(routines)
        self.operator = routines[0].onnx
        self.attributes: dict[str, Any] = {
            "hidden_size": hidden_size,
            "direction": "forward" if len(routines) == 1 else "bidirectional",
        }
        self.attributes |= routines[0].attributes
        if activations := [name for found in routines for name in found.activations]:
            self.attributes["activations"] = activations
        ordered = [[_reordered(weight, found.gates) for weight in found.weights] for found in routines]
        self.register_buffer("W", torch.stack([weights[0] for weights in ordered]))
        self.register_buffer("R", torch.stack([weights[1] for weights in ordered]))
        self.register_buffer("B", torch.stack([torch.cat(weights[2:]) for weights in ordered]))

    def forward(self, x: Tensor, states: Sequence[State], lengths: Tensor) -> Tensor:
        """Return the outputs ``[time, batch, directions * hidden]``."""
        time, batch = x.shape[:2]
        shape = [self.directions, batch, self.hidden_size]
        start = [torch.stack(tensors) for tensors in zip(*states, strict=True)]
        y, *_ = torch.onnx.ops.symbolic_multi_out(
            self.operator,
            (x, self.W, self.R, self.B, lengths.to(torch.int32), *start),
            self.attributes,
            dtypes=[x.dtype] * (1 + len(start)),
            shapes=[[time, *shape], *(shape for _ in start)],
        )
        return y.transpose(1, 2).flatten(2)


@torch.no_grad()
def _reordered(weight: Tensor, gates: tuple[int, ...]) -> Tensor:
    parts = weight.detach().chunk(len(gates))
    return torch.cat([parts[gate] for gate in gates])
