"""A layer as torch.export can trace it, whatever the number of steps and rows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from seqlab.contracts import Cell, Kernel, Routine, State
from seqlab.plugins.exports import routine_of
from seqlab.recurrence.graphs import Step
from seqlab.recurrence.recurrent import Recurrent
from seqlab.recurrence.scan import rebuild, reverse_within, valid_mask, zero_padding

Form = Literal["torch", "onnx"]
"""Whether a cell that has a routine becomes torch's operator or ONNX's node; any other one is scanned in both."""


@contextmanager
def traceable(model: nn.Module, form: Form) -> Iterator[None]:
    """Within this context every :class:`.Recurrent` of a model can be traced; nothing of it is cut or chosen."""
    networks = [module for module in model.modules() if isinstance(module, Recurrent)]
    before = [(network.kernel, network.truncate) for network in networks]
    try:
        for network in networks:
            nodes = nn.ModuleList(_node(_cells(layer)) if form == "onnx" else nn.Identity() for layer in network.layers)
            network.add_module("onnx", nodes)
            network.kernel, network.truncate = Exported(network), 0
        yield
    finally:
        for network, (kernel, truncate) in zip(networks, before, strict=True):
            network.kernel, network.truncate = kernel, truncate
            del network.onnx


@final
class Exported(Kernel):
    """Scans the layers of one network with operators that torch.export keeps.

    Args:
        network: with a module ``onnx`` for each layer: a :class:`Node`, or one of another type where there is none.
    """

    name = "exported"

    def __init__(self, network: Recurrent) -> None:
        self.nodes = {id(next(layer.children())): index for index, layer in enumerate(network.layers)}
        self.network = network
        self.cell = type(network.cells[0])  # type: ignore[misc]  # of this one network

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Never."""
        return None

    def scan(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        """Scan step by step, by torch's ``scan`` operator: of most cells there is nothing else that gives the state."""
        return _both(exported_scan, cells, x, states, lengths)

    def outputs(self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None) -> Tensor:
        """Run torch's routine or ONNX's node where the cells have one, and scan step by step where not."""
        node = self.network.onnx[self.nodes[id(cells[0])]]  # type: ignore[index]  # a list of modules
        if isinstance(node, Node):
            y: Tensor = node(x, states, _all(x, lengths))
            return y if lengths is None else zero_padding(y, lengths)
        run = exported_scan if any(routine_of(cell) is None for cell in cells) else _routine
        return _both(run, cells, x, states, lengths)[0]


def _both(
    run: Callable[..., tuple[Tensor, State]],
    cells: Sequence[Cell],
    x: Tensor,
    states: Sequence[State],
    lengths: Tensor | None,
) -> tuple[Tensor, list[State]]:
    """Run the first cell forward and the second, if there is one, backward within each row's length."""
    x = x if lengths is None else zero_padding(x, lengths)
    outputs, ends = [], []
    for cell, state, backward in zip(cells, states, (False, True), strict=False):
        y, end = run(cell, reverse_within(x, lengths) if backward else x, state, lengths)
        y = y if lengths is None else zero_padding(y, lengths)
        outputs.append(reverse_within(y, lengths) if backward else y)
        ends.append(end)
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)), ends


def exported_scan(cell: Cell, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
    """Run a cell forward by torch's ``scan`` operator, whose body is one step.

    Its outputs behind a row's end are of no meaning.
    """
    parameters = {f"cell.{name}": value for name, value in [*cell.named_parameters(), *cell.named_buffers()]}
    step, count = Step(cell), len(state)

    def combine(*given: Tensor) -> list[Tensor]:
        old, (x_t, there) = given[:count], given[count : count + 2]
        own = dict(zip(parameters, given[count + 2 :], strict=True))
        y, new = functional_call(step, own, (x_t, rebuild(state, old)))
        kept = [torch.where(_over(there, n), n, o) for n, o in zip(new, old, strict=True)]
        return [*kept, y.clone()]  # the operator takes no tensor twice

    mask = valid_mask(_all(x, lengths), x.shape[0])
    *end, y = torch.ops.higher_order.scan(combine, list(state), [cell.project(x), mask], tuple(parameters.values()))
    return y, rebuild(state, end)


def _over(alive: Tensor, leaf: Tensor) -> Tensor:
    return alive.view(-1, *(1,) * (leaf.dim() - 1))


def _all(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Give the lengths, or those of rows that fill all steps."""
    return torch.full((x.shape[1],), x.shape[0], device=x.device) if lengths is None else lengths


def _routine(cell: Cell, x: Tensor, state: State, _: Tensor | None) -> tuple[Tensor, State]:
    """Run torch's routine forward; the state behind a row's end is of no meaning."""
    found = routine_of(cell)
    assert found is not None
    start: Any = [leaf.unsqueeze(0) for leaf in state]
    start = start if len(start) > 1 else start[0]
    y, *end = _stand_in(found.torch)(x, start, list(found.weights), True, 1, 0.0, False, False, False)
    return y, rebuild(state, [leaf[0] for leaf in end])


_STAND_INS: Any = torch.library.Library("seqlab_export", "DEF")  # type: ignore[no-untyped-call]  # torch's own
_MEANT: dict[Any, Any] = {}


@cache
def _stand_in(operator: Any) -> Any:
    """Make an operator with the same arguments, which is traced without being taken apart into single steps.

    torch takes its own recurrent routines apart while they are traced, and so fixes the number of steps.
    """
    arguments = str(operator._schema).partition("(")[2]
    name = f"{operator._schema.name.partition('::')[2]}_{operator._overloadname}"
    _STAND_INS.define(f"{name}({arguments}")

    def shapes(x: Tensor, start: Any, *_: Any) -> tuple[Tensor, ...]:
        leaves = [start] if isinstance(start, Tensor) else start
        return x.new_empty(*x.shape[:2], leaves[0].shape[-1]), *(torch.empty_like(leaf) for leaf in leaves)

    torch.library.register_fake(f"seqlab_export::{name}", shapes, lib=_STAND_INS)
    made = getattr(torch.ops.seqlab_export, name).default
    _MEANT[made] = operator
    return made


def insert_routines(program: torch.export.ExportedProgram) -> None:
    """Put torch's routines into a traced program, in place of what stood in for them."""
    for node in program.graph.nodes:
        if node.target in _MEANT:
            node.target = _MEANT[node.target]
    program.graph_module.recompile()


def _cells(layer: nn.Module) -> list[Cell]:
    return list(layer.children())  # type: ignore[arg-type]  # a layer holds cells only


def _node(cells: Sequence[Cell]) -> nn.Module:
    """Make a layer's node of ONNX, or a module that is none."""
    routines = [found for cell in cells if (found := routine_of(cell))]
    if len(routines) < len(cells) or len({found.onnx for found in routines}) > 1:
        return nn.Identity()
    return Node(cells[0].hidden_size, routines)


@final
class Node(nn.Module):
    """A layer in one or both directions as a single node of ONNX, whose ``sequence_lens`` are the rows' lengths.

    Args:
        hidden_size: of its cells.
        routines: those of its one or two cells.
    """

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
        """Give the outputs ``[time, batch, directions * hidden]``."""
        time, batch = x.shape[:2]
        shape = [self.directions, batch, self.hidden_size]
        start = [torch.stack(leaves) for leaves in zip(*states, strict=True)]
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
