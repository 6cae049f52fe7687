r"""The compiled scan and its derivative: a scan forward, a scan backward, and all that needs no scan in one piece.

A scan that torch differentiates itself adds up the parameters' gradients step by step. Here the backward scan carries
the state's gradient alone, through the Jacobian of one step,

.. math:: g_{t-1} = g_t \, \partial s_t / \partial s_{t-1} + \dot y_t \, \partial y_t / \partial s_{t-1},

and what flows into the input and the parameters is then taken for all steps and rows at once, as large products. The
steps are computed again from the states before them, which is all that is kept.
"""

from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from seqlab.recurrence.graphs import Graphs, Parameters, differentiable, is_continuous

_PIECE = {"cpu": 2**22, "cuda": 2**28}
"""Bytes of inputs and states whose steps are differentiated at once: what a cache holds, and what fills a GPU."""


@final
class CompiledScan(torch.autograd.Function):
    """A scan whose derivative is another scan.

    ``apply(graphs, names of the parameters, number of leaves, mask, x, *leaves, *parameters)``.
    """

    @staticmethod
    def forward(
        ctx: Any, graphs: Graphs, names: Sequence[str], count: int, mask: Tensor, x: Tensor, *rest: Tensor
    ) -> Any:
        """Scan; ``rest`` is the initial state's leaves, ``count`` of them, and the parameters."""
        state, parameters = rest[:count], dict(zip(names, rest[count:], strict=True))
        outputs, end, before = graphs.forward(*_ready(parameters, x, state, mask), True)
        ctx.graphs, ctx.names, ctx.count, ctx.autocast = graphs, names, count, _autocast(x)
        ctx.save_for_backward(mask, x, *before, *parameters.values())
        ctx.mark_non_differentiable(*[leaf for leaf in end if not is_continuous(leaf)])
        return outputs, *end

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_outputs: Tensor, *to_end: Tensor) -> Any:
        """Give the gradients of the input, the initial state and the parameters."""
        mask, x, *rest = ctx.saved_tensors
        before, parameters = rest[: ctx.count], dict(zip(ctx.names, rest[ctx.count :], strict=True))
        _, _, _, _, x_needs, *needs = ctx.needs_input_grad
        needed = {name for name, need in zip(ctx.names, needs[ctx.count :], strict=True) if need}
        wanted = sorted(needed & ctx.graphs.used)
        with ctx.autocast:
            to_start, to_x, to_parameters = gradients(
                ctx.graphs, parameters, x, before, mask, to_outputs, to_end, wanted, x_needs
            )
        starts = iter(to_start)
        to_state = [next(starts) if is_continuous(leaf) else None for leaf in before]
        return None, None, None, None, to_x, *to_state, *[to_parameters.get(name) for name in ctx.names]


def gradients(
    graphs: Graphs,
    parameters: Parameters,
    x: Tensor,
    before: Sequence[Tensor],
    mask: Tensor,
    to_outputs: Tensor,
    to_end: Sequence[Tensor],
    wanted: Sequence[str],
    x_needs: bool,
) -> tuple[Sequence[Tensor], Tensor | None, Parameters]:
    """Give the gradients of the initial state, the input (if it needs one) and the wanted parameters."""
    x, parameters = x.detach(), _detached(parameters)
    to_end = [g.contiguous() for g, leaf in zip(to_end, before, strict=True) if is_continuous(leaf)]
    inside = x_needs and not wanted  # nothing is left to gain from one large product
    _dynamic((x, mask, to_outputs := to_outputs.contiguous(), *before), axes=2)
    _dynamic(to_end, axes=1)
    to_start, each = graphs.backward(parameters, x, before, mask, to_outputs, to_end, inside)
    if inside:
        return to_start, each[-1], {}
    if not (x_needs or wanted):
        return to_start, None, {}
    to_x, sums = torch.zeros_like(x) if x_needs else None, Parameters()
    for piece in _pieces(x, before):
        _one_piece(graphs, parameters, piece, x, before, mask, (to_outputs, *each), wanted, to_x, sums)
    return to_start, to_x, sums


def _one_piece(
    graphs: Graphs,
    parameters: Parameters,
    piece: slice,
    x: Tensor,
    before: Sequence[Tensor],
    mask: Tensor,
    to_results: Sequence[Tensor],
    wanted: Sequence[str],
    to_x: Tensor | None,
    sums: Parameters,
) -> None:
    """Differentiate the steps of some times, of all rows that are alive, as the rows of one step; add to the sums."""
    alive = mask[piece].flatten()
    rows = None if bool(alive.all()) else alive.nonzero().squeeze(1)

    def flat(tensor: Tensor) -> Tensor:
        flattened = tensor[piece].flatten(0, 1)
        return flattened if rows is None else flattened.index_select(0, rows)

    with torch.enable_grad():
        inputs = flat(x).detach()
        inputs.requires_grad_(to_x is not None)
        own = {name: value.requires_grad_(name in wanted) for name, value in _detached(parameters).items()}
        old = [flat(leaf) for leaf in before]
        y, new = functional_call(graphs.step, own, (inputs, graphs.remake(old)))
        results = zip((y, *differentiable(new, old)), to_results, strict=True)
        pairs = [(result, flat(g)) for result, g in results if result.requires_grad]
        if not pairs:
            return
        asked = ([inputs] if to_x is not None else []) + [own[name] for name in wanted]
        found = torch.autograd.grad([r for r, _ in pairs], asked, [g for _, g in pairs], allow_unused=True)
    if to_x is not None and found[0] is not None:
        if rows is None:
            to_x[piece] = found[0].view_as(to_x[piece])
        else:
            to_x[piece].flatten(0, 1).index_copy_(0, rows, found[0])
    for name, gradient in zip(wanted, found[len(found) - len(wanted) :], strict=True):
        if gradient is not None:
            sums[name] = sums[name] + gradient if name in sums else gradient


def differentiable_scan(
    graphs: Graphs, parameters: Parameters, x: Tensor, state: Sequence[Tensor], mask: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    """Scan with a derivative, which the first call tries at once: a refusal must come before anything rests on it."""
    if not graphs.proven:
        with torch.no_grad():
            outputs, end, before = graphs.forward(*_ready(parameters, x, state, mask), True)
            nothing = torch.zeros_like(outputs), [torch.zeros_like(leaf) for leaf in end]
            wanted = sorted(name for name in graphs.used if parameters[name].requires_grad)
            gradients(graphs, parameters, x, before, mask, *nothing, wanted, x.requires_grad)
        graphs.proven = True
    names, values = tuple(parameters), parameters.values()
    outputs, *end = CompiledScan.apply(graphs, names, len(state), mask, x, *state, *values)  # type: ignore[no-untyped-call]  # torch's own
    return outputs, end


def plain_scan(
    graphs: Graphs, parameters: Parameters, x: Tensor, state: Sequence[Tensor], mask: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    """Scan without a derivative: nothing is kept."""
    with torch.inference_mode(False), torch.no_grad():  # inference tensors would want graphs of their own
        x, mask = (each.clone() if each.is_inference() else each for each in (x, mask))
        outputs, end, _ = graphs.forward(*_ready(parameters, x, state, mask), False)
    return outputs, end


def _ready(parameters: Parameters, x: Tensor, state: Sequence[Tensor], mask: Tensor) -> Any:
    """Tell the compiler that batch and time vary; the operator wants carries that are no views of one another."""
    x, leaves = x.detach(), tuple(leaf.detach().clone() for leaf in state)
    _dynamic((x, mask), axes=2)
    _dynamic(leaves, axes=1)
    return _detached(parameters), x, leaves, mask


def _detached(parameters: Parameters) -> Parameters:
    """Make other tensors of the same values: the compiler would tell a cell's own from another's."""
    return {name: value.detach() for name, value in parameters.items()}


def _dynamic(tensors: Sequence[Tensor], axes: int) -> None:
    for tensor in tensors:
        for axis in range(axes):
            torch._dynamo.maybe_mark_dynamic(tensor, axis)


def _pieces(x: Tensor, before: Sequence[Tensor]) -> Iterator[slice]:
    bytes_each = sum(tensor[0].numel() * tensor.element_size() for tensor in (x, *before))
    size = max(1, _PIECE.get(x.device.type, _PIECE["cpu"]) // max(1, bytes_each))
    return (slice(begin, begin + size) for begin in range(0, len(x), size))


def _autocast(x: Tensor) -> Any:
    device = x.device.type
    return torch.autocast(device, torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device))
