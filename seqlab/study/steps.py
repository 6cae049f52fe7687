"""Gradient flow, states and effective context of a recurrent model of any library, given as three functions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor

from seqlab.errors import UserError
from seqlab.study.gradient_flow import FlowRow, GradientFlow
from seqlab.study.gradient_flow_measure import distances
from seqlab.study.modules import EffectiveContext, Scale, effective_context, loss_scale


class StepModel(Protocol):
    """A recurrent model as three functions.

    A state is any nest of tensors in mappings, sequences and objects; the first axis of a tensor is that of the rows.
    """

    def initial(self, rows: int) -> Any:
        """Return the state before the first step of some rows."""

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one step ``[rows, ...]``; return its features ``[rows, features]`` and the new state, differentiably.

        The tensors of ``state`` itself are read, and not changed.
        """

    def logits(self, features: Tensor) -> Tensor:
        """Return the outputs ``[rows, outputs]`` of some features."""


def read(model: StepModel, inputs: Tensor) -> Tensor:
    """Return the outputs of all steps, ``[rows, time, outputs]``, of ``inputs`` ``[rows, time, ...]``."""
    return torch.stack([model.logits(features) for features, _ in _walk(model, inputs)], dim=1)


def _walk(model: StepModel, inputs: Tensor) -> Iterator[tuple[Tensor, Any]]:
    state = model.initial(len(inputs))
    for x in inputs.unbind(1):
        features, state = model.step(x, state)
        yield features, state


@final
@dataclass(frozen=True)
class StepRecord:
    """What a model did along a batch.

    Attributes:
        outputs: ``[rows, time, outputs]``.
        states: by the path of the tensor in the state, ``[time, rows, ...]``; of those whose shape does not change.
        flow: gradient of the loss to each tensor; its ``state`` is the path.
    """

    outputs: Tensor
    states: Mapping[str, Tensor]
    flow: GradientFlow


def record_steps(
    model: StepModel,
    inputs: Tensor,
    loss: Callable[[Tensor], Tensor],
    reduction: Scale = "mean",
) -> StepRecord:
    r"""Run a model over a batch, and measure the gradient of a loss to every state.

    .. math:: \mathrm{norm}(d) = \operatorname{mean}_b \|∂L_b / ∂s_{T - d}\|_2

    Args:
        model: as three functions.
        inputs: ``[rows, time, ...]``, all rows full.
        loss: from the outputs ``[rows, time, outputs]`` to a scalar.
        reduction: of the loss, as of :func:`seqlab.study.modules.record`.

    Raises:
        UserError: no tensor of the state receives a gradient.
        ValueError: another reduction.
    """
    scale = loss_scale(reduction, len(inputs))
    with torch.enable_grad(), torch.autograd.graph.allow_mutation_on_saved_tensors():
        features, states = [], []
        for each, state in _walk(model, inputs):
            features.append(each)
            states.append(state_tensors(state, len(inputs)))
        outputs = torch.stack([model.logits(each) for each in features], dim=1)
        flat = [(at, name) for at, tensors in enumerate(states) for name in tensors if tensors[name].requires_grad]
        if not flat:
            raise UserError("no state depends on a parameter or an input that requires a gradient: there is no flow")
        wanted = [states[at][name] for at, name in flat]
        found = torch.autograd.grad(loss(outputs), wanted, allow_unused=True, materialize_grads=True)
    norms: dict[str, dict[int, float]] = {}
    for (at, name), gradient in zip(flat, found, strict=True):
        norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1).mean()
        norms.setdefault(name, {})[len(states) - 1 - at] = scale * float(norm)
    return StepRecord(outputs.detach(), _stacked(states), GradientFlow(tuple(_rows(norms, len(states)))))


def _rows(norms: Mapping[str, Mapping[int, float]], time: int) -> Iterator[FlowRow]:
    for name, by_distance in norms.items():
        for distance in distances(time):
            if distance in by_distance:
                yield FlowRow(0, 0, "forward", name, distance, by_distance[distance])


def _stacked(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stack the tensors that every step has in one shape."""
    shapes = [{name: tensor.shape for name, tensor in each.items()} for each in states]
    names = [
        name for name in (states[0] if states else ()) if all(each.get(name) == shapes[0][name] for each in shapes)
    ]
    return {name: torch.stack([each[name].detach() for each in states]) for name in names}


def effective_context_steps(
    model: StepModel, inputs: Tensor, loss: Callable[[Tensor], Tensor], *, tolerance: float = 0.01, least: int = 1
) -> EffectiveContext:
    """Find how many of the last steps a model needs (:func:`seqlab.study.modules.effective_context`).

    Args:
        model: as three functions; begins with its initial state at the first step that it reads.
        inputs: ``[rows, time, ...]``, all rows full.
        loss: from the outputs of the last step, ``[rows, outputs]``, to a scalar.
        tolerance: relative excess over the loss with all steps that counts as equal.
        least: smallest number of steps to read.
    """
    return effective_context(lambda part: loss(read(model, part)[:, -1]), inputs, tolerance=tolerance, least=least)


def state_tensors(state: Any, rows: int) -> dict[str, Tensor]:
    """Return the floating-point tensors of a state whose first axis is that of the rows, by their path."""
    return {
        path: tensor
        for path, tensor in named_tensors(state)
        if tensor.is_floating_point() and tensor.dim() > 1 and len(tensor) == rows
    }


def named_tensors(state: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor in a nest of mappings, sequences and objects with its path, such as ``layers.0.h``."""
    if isinstance(state, Tensor):
        yield path or "state", state
        return
    parts: Mapping[Any, Any] = {}
    if isinstance(state, Mapping):
        parts = state
    elif isinstance(state, list | tuple):
        parts = dict(enumerate(state))
    elif is_dataclass(state) or type(state).__module__ not in ("builtins", "torch"):
        parts = getattr(state, "__dict__", {})
    for name, part in parts.items():
        yield from named_tensors(part, f"{path}.{name}" if path else str(name))
