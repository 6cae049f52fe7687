"""Losses and gradients of several replicas in one forward and backward pass."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from seqlab.contracts import Batch, Model, Task

_FREE, _RATIO = 32, 2
"""Batches are padded to the longest of a stack, which has at most so many steps, or so many times the shortest's."""


@final
class Stacked(NamedTuple):
    """Batches of several replicas.

    Attributes:
        places: of the batches among those of all replicas.
        batches: as the models read them by themselves.
        inputs: of all, ``[replica, batch, time, ...]``, padded with zeros.
        lengths: of all, ``[replica, batch]``, or ``None`` where there is no padding.
        targets: of all, ``[replica, batch, ...]``, or ``None`` where they have unequal numbers of time steps.
    """

    places: list[int]
    batches: list[Batch]
    inputs: Tensor
    lengths: Tensor | None
    targets: Tensor | None


def batched_losses(
    model: Model, task: Task, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], stacked: Stacked
) -> Tensor:
    """Return the loss of each replica on its own batch.

    Args:
        model: of one replica; the tensors take the place of its own.
        task: the loss.
        parameters: ``[replica, ...]`` by name.
        buffers: the same of buffers and of parameters that are not trained.
        stacked: the batches.

    Returns:
        ``[replica]``.

    Raises:
        RuntimeError: the model draws random numbers, or does what ``torch.func.vmap`` cannot batch.
    """
    _, batches, inputs, lengths, targets = stacked

    def forward(own: Any, held: Any, *tensors: Tensor | None) -> Tensor:
        one = Batch(*tensors)  # type: ignore[arg-type]  # lengths alone may be None
        outputs: Tensor = functional_call(model, ({**own, **held},), (one, None))[0]
        return outputs if targets is None else task.loss(outputs, one)

    axes = (0, 0, 0, None if lengths is None else 0, 0)
    given = inputs, lengths, inputs if targets is None else targets
    with _padding_without_gradient(model):
        found: Tensor = vmap(forward, in_dims=axes, randomness="error")(dict(parameters), dict(buffers), *given)
    if targets is not None:
        return found
    own = zip(found, batches, strict=True)
    return torch.stack(
        [task.loss(outputs[:, : batch.inputs.shape[1]] if task.per_step else outputs, batch) for outputs, batch in own]
    )


@contextmanager
def _padding_without_gradient(model: nn.Module) -> Iterator[None]:
    """Let the padding row of embeddings receive no gradient: vmap keeps that of the first replica's row only."""

    def hook(module: nn.Embedding, inputs: tuple[Tensor], outputs: Tensor) -> Tensor:
        padding: Any = module.padding_idx
        return torch.where(torch.eq(inputs[0], padding).unsqueeze(-1), outputs.detach(), outputs)

    tables = [part for part in model.modules() if isinstance(part, nn.Embedding) and part.padding_idx is not None]
    handles = [table.register_forward_hook(hook) for table in tables]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def stacked_batches(batches: Sequence[Batch]) -> list[Stacked]:
    """Stack batches of equal numbers of rows and similar numbers of time steps, padded to the longest of a stack."""
    alike: dict[Any, list[int]] = {}
    for place, batch in enumerate(batches):
        inputs, targets = batch.inputs, batch.targets
        shape = (inputs.shape[0], *inputs.shape[2:], targets.dim())
        alike.setdefault((shape, inputs.dtype, batch.lengths is None, targets.dtype), []).append(place)
    stacks = []
    for places in alike.values():
        own: list[list[int]] = []
        for place in sorted(places, key=lambda place: batches[place].inputs.shape[1]):
            steps = batches[place].inputs.shape[1]
            if not own or steps > max(_FREE, _RATIO * batches[own[-1][0]].inputs.shape[1]):
                own.append([])
            own[-1].append(place)
        stacks += [_stacked(sorted(few), batches) for few in own]
    return stacks


def _stacked(places: list[int], batches: Sequence[Batch]) -> Stacked:
    own = [batches[place] for place in places]
    longest = max(batch.inputs.shape[1] for batch in own)
    is_padded = any(batch.lengths is not None or batch.inputs.shape[1] < longest for batch in own)
    inputs = torch.stack([_padded(batch.inputs, longest) for batch in own])
    lengths = torch.stack([_lengths(batch) for batch in own]) if is_padded else None
    is_even = len({batch.targets.shape for batch in own}) == 1
    return Stacked(places, own, inputs, lengths, torch.stack([batch.targets for batch in own]) if is_even else None)


def _padded(inputs: Tensor, steps: int) -> Tensor:
    if inputs.shape[1] == steps:
        return inputs
    return nn.functional.pad(inputs, (*(0, 0) * (inputs.dim() - 2), 0, steps - inputs.shape[1]))


def _lengths(batch: Batch) -> Tensor:
    """Return the steps of each row, ``[batch]``."""
    rows, steps = batch.inputs.shape[:2]
    full = torch.full((rows,), steps, dtype=torch.int64, device=batch.inputs.device)
    return full if batch.lengths is None else batch.lengths
