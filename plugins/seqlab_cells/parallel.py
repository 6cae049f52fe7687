"""Cells whose step is linear in the state, ``h' = a * h + b``, and their scan in parallel over time."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Inexact, Shaped
from torch import Tensor

from seqlab import Cell, Gate, Kernel, Probe, State
from seqlab.contracts.masks import all_full
from seqlab.recurrence import valid_mask
from seqlab_cells.gpu import limits
from seqlab_cells.weights import not_dense, replaced

SHORT = 16
"""Steps that run one by one: combining them further would not pay."""
WIDE = 2048
"""Numbers in a step that keep a CPU busy, so that single steps beat combined ones, which touch them twice."""


def positive(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Map candidates to positive numbers: :math:`g` of Feng et al. 2024, appendix B.

    .. math:: g(x) = x + 0.5 \text{ where } x \ge 0, \quad σ(x) \text{ elsewhere}
    """
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))


_METHODS = ("affine", "joined", "parted", "outputs", "project", "step")


class Affine(Cell):
    """A cell whose step is ``h' = a * h + b``, with ``a`` and ``b`` from the input alone.

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.
    """

    @abstractmethod
    def affine(
        self, x: Float[Tensor, "time batch input"]
    ) -> tuple[Shaped[Tensor, "time batch *state"], Shaped[Tensor, "time batch *state"]]:
        """Return ``a`` and ``b`` of all steps, of real or complex numbers."""

    def joined(self, state: State) -> Tensor:
        """Return a state as the one tensor that is scanned."""
        (h,) = state
        return h

    def parted(self, h: Tensor) -> State:
        """Return the state of a tensor of :meth:`joined`."""
        return (h,)

    def outputs(self, x: Float[Tensor, "time batch input"], h: Tensor) -> Float[Tensor, "time batch output"]:
        """Return the outputs of all steps from the inputs and the states after each; the states, unless overridden."""
        return h

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch both"]:
        """Return :math:`a` and :math:`b` side by side."""
        return torch.cat(self.affine(x), dim=-1)

    def step(self, x: Float[Tensor, "batch both"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h,)``, ``[batch, hidden]``."""
        (h,) = state
        a, b = x.chunk(2, dim=-1)
        h = a * h + b
        return h, (h,)

    def probe(self, x: Float[Tensor, "time batch both"], states: State) -> Probe:
        """Return the share of the state that is kept, which is the whole Jacobian."""
        keep = x.chunk(2, dim=-1)[0]

        def product(t: int, gradients: State) -> State:
            return (gradients[0] * keep[t],)

        return Probe({"keep": Gate(keep)}, product, keep.amax(-1), {"h": keep})


class Parallel(Kernel):
    r"""Scans ``h' = a * h + b`` over all steps at once.

    Two consecutive steps :math:`(a_1, b_1)` and :math:`(a_2, b_2)` combine into one,
    :math:`(a_1 a_2, a_2 b_1 + b_2)`; combined again and again, :math:`2 \log_2 T` operations compute every state.
    Without a division or a logarithm, gates of exactly 0 and 1 are exact.

    On padding :math:`a = 1` and :math:`b = 0`: the state stays as it is, and the backward cell can start there.

    Args:
        by: implementation: ``torch``, ``triton`` (on a GPU), or ``auto``: ``triton`` on GPUs for which a benchmark
            record says that it is faster, else ``torch``.

    Raises:
        ValueError: an option is out of its range.
    """

    name = "parallel"

    def __init__(self, by: Literal["auto", "torch", "triton"] = "auto") -> None:
        if by not in ("auto", "torch", "triton"):
            raise ValueError(f"by must be auto, torch or triton, got {by!r}")
        self.by = by

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Refuse cells with replaced methods, and input that is not dense."""
        if reason := not_dense(x):
            return reason
        if self.by == "triton":
            if not limits.uses_triton(x):
                return f"by=triton is for a GPU, and the input is on {x.device}"
            if reason := limits.missing():
                return reason
        return next((reason for cell in cells if (reason := replaced(cell, *_METHODS))), None)

    def scan(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        """Run one layer; the backward cell scans from the last step to the first, over states that padding keeps."""
        if not len(x):
            return x.new_zeros(0, x.shape[1], sum(cell.output_size for cell in cells)), list(states)
        padding = None
        if lengths is not None and not all_full(lengths, len(x)):
            padding = ~valid_mask(lengths, len(x)).unsqueeze(-1)
            x = x.masked_fill(padding, 0)
        by_triton = self._by_triton(cells, x, lengths)
        outputs: list[Tensor] = []
        ends: list[State] = []
        for cell, state, backward in zip(cast(Sequence[Affine], cells), states, (False, True), strict=False):
            a, b = cell.affine(x)
            if padding is not None:
                on_state = padding.view(*padding.shape[:2], *(1,) * (a.dim() - 2))
                a, b = a.masked_fill(on_state, 1), b.masked_fill(on_state, 0)
            h = affine_scan(a, b, cell.joined(state), backward=backward, by_triton=by_triton)
            end = cell.parted(h[0] if backward else h[-1])
            ends.append(tuple(new.to(old.dtype) for new, old in zip(end, state, strict=True)))
            y = cell.outputs(x, h)
            outputs.append(y if padding is None else y.masked_fill(padding, 0))
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)), ends

    def _by_triton(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> bool:
        if self.by != "auto" or not x.is_cuda or limits.missing():
            return self.by == "triton"
        return (limits.recorded_speed("linear", str(x.dtype).removeprefix("torch."), cells, x, lengths) or 0.0) > 1.0


def affine_scan(
    a: Inexact[Tensor, "time *rest"],
    b: Inexact[Tensor, "time *rest"],
    start: Inexact[Tensor, "*rest"],
    *,
    backward: bool,
    by_triton: bool = False,
) -> Inexact[Tensor, "time *rest"]:
    r"""Compute all :math:`h_t = a_t ⊙ h_{t-1} + b_t`.

    Differentiable any number of times, in both modes, and under the transforms of ``torch.func``.

    Args:
        a: the share of the state that each step keeps; at least one step.
        b: what each step adds.
        start: the state before the first step.
        backward: whether the scan runs from the last step to the first: :math:`h_t = a_t ⊙ h_{t+1} + b_t`.
        by_triton: whether states and first derivative come from the kernels of :mod:`.gpu.linear`, for dtypes that they
            support; further derivatives come from torch.
    """
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), start.dtype)  # under autocast they differ
    h: Tensor = _Scan.apply(a.to(dtype), b.to(dtype), start.to(dtype), backward, by_triton)  # type: ignore[no-untyped-call]  # torch's own
    return h


class _Scan(torch.autograd.Function):
    """The scan, whose gradient is a scan in the other direction."""

    @staticmethod
    def forward(a: Tensor, b: Tensor, start: Tensor, backward: bool, by_triton: bool) -> Tensor:
        if by_triton and _supported(b):
            from seqlab_cells.gpu import linear

            return linear.forward(a, b, start, backward)
        h = b.new_empty(b.shape)
        _solve(a, b, start, h, backward)
        return h

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, bool, bool], output: Tensor) -> None:
        a, _, start, ctx.backward_in_time, ctx.by_triton = inputs
        ctx.save_for_backward(a, start, output)
        ctx.save_for_forward(a, start, output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        a, start, h = ctx.saved_tensors
        if ctx.by_triton and _supported(h) and not torch.is_grad_enabled():  # else it may be differentiated itself
            from seqlab_cells.gpu import linear

            return *linear.backward(a, start, h, gradient, ctx.backward_in_time), None, None
        a = a.conj()  # of real numbers: themselves
        to_h = _accumulate(a, gradient, ctx.backward_in_time)
        first = -1 if ctx.backward_in_time else 0
        return to_h * _before(h, start, ctx.backward_in_time).conj(), to_h, a[first] * to_h[first], None, None

    @staticmethod
    def jvp(ctx: Any, a_dot: Tensor, b_dot: Tensor, start_dot: Tensor, *_: None) -> Tensor:
        a, start, h = ctx.saved_tensors
        moved = a_dot * _before(h, start, ctx.backward_in_time) + b_dot
        return affine_scan(a, moved, start_dot, backward=ctx.backward_in_time)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        def lead(x: Tensor, dim: int | None) -> Tensor:
            return x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)

        a, b, start = (lead(x, dim) for x, dim in zip(inputs[:3], in_dims, strict=False))
        backward, by_triton = inputs[3:]
        return affine_scan(a.transpose(0, 1), b.transpose(0, 1), start, backward=backward, by_triton=by_triton), 1


def _supported(x: Tensor) -> bool:
    """Return whether the Triton kernels take such tensors."""
    return limits.uses_triton(x) and x.dtype in limits.DTYPES


def _accumulate(a: Tensor, gradient: Tensor, backward: bool) -> Tensor:
    """Add to each state's own gradient that of the states after it: ``g_t + a_{t+1} * (g_{t+1} + ...)``."""
    if len(gradient) == 1:
        return gradient
    if backward:
        return torch.cat([gradient[:1], affine_scan(a[:-1], gradient[1:], gradient[0], backward=False)])
    return torch.cat([affine_scan(a[1:], gradient[:-1], gradient[-1], backward=True), gradient[-1:]])


def _before(h: Tensor, start: Tensor, backward: bool) -> Tensor:
    """Return the state before each step."""
    return torch.cat([h[1:], start.unsqueeze(0)] if backward else [start.unsqueeze(0), h[:-1]])


def _solve(a: Tensor, b: Tensor, h: Tensor, out: Tensor, backward: bool) -> None:
    """Write the states into ``out``; ``h`` is the one before the first step."""
    time = len(b)
    if time <= SHORT or (b.device.type == "cpu" and b[0].numel() >= WIDE):
        steps = zip(a.unbind(), b.unbind(), out.unbind(), strict=True)
        for a_t, b_t, out_t in reversed(list(steps)) if backward else steps:
            h = torch.addcmul(b_t, a_t, h, out=out_t)
        return
    if time % 2:  # one step alone, so that the others are pairs
        alone, others = (-1, slice(None, -1)) if backward else (0, slice(1, None))
        h = torch.addcmul(b[alone], a[alone], h, out=out[alone])
        a, b, out = a[others], b[others], out[others]
    first, second = (slice(1, None, 2), slice(0, None, 2)) if backward else (slice(0, None, 2), slice(1, None, 2))
    a_1, b_1, out_1 = a[first], b[first], out[first]
    a_2, b_2, out_2 = a[second], b[second], out[second]
    _solve(a_1 * a_2, torch.addcmul(b_2, a_2, b_1), h, out_2, backward)
    # The state before a pair is the one after the pair before it.
    lead, rest, before = (-1, slice(None, -1), slice(1, None)) if backward else (0, slice(1, None), slice(None, -1))
    torch.addcmul(b_1[lead], a_1[lead], h, out=out_1[lead])
    torch.addcmul(b_1[rest], a_1[rest], out_2[before], out=out_1[rest])
