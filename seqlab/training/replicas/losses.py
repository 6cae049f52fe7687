"""Losses and gradients of several replicas in one forward and backward pass."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from seqlab.contracts import Batch, Model, Task


def batched_losses(
    model: Model, task: Task, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], batch: Batch
) -> Tensor:
    """Return the loss of each replica on its own batch.

    Args:
        model: of one replica; the tensors take the place of its own.
        task: the loss.
        parameters: ``[replica, ...]`` by name.
        buffers: the same of buffers and of parameters that are not trained.
        batch: of tensors ``[replica, batch, ...]``.

    Returns:
        ``[replica]``.

    Raises:
        RuntimeError: the model draws random numbers, or does what ``torch.func.vmap`` cannot batch.
    """

    def loss(own: Any, held: Any, inputs: Tensor, lengths: Tensor | None, targets: Tensor) -> Tensor:
        one = Batch(inputs, lengths, targets)
        outputs, _ = functional_call(model, ({**own, **held},), (one, None))
        return task.loss(outputs, one)

    axes = (0, 0, 0, None if batch.lengths is None else 0, 0)
    with _padding_without_gradient(model):
        losses: Tensor = vmap(loss, in_dims=axes, randomness="error")(dict(parameters), dict(buffers), *batch)
    return losses


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


def stacked_batches(batches: Sequence[Batch]) -> list[tuple[list[int], Batch]]:
    """Stack batches of equal shape, ``[replica, batch, ...]``.

    Batches of unequal numbers of time steps are padded to the longest if each row has one target and its own length.

    Returns:
        The places of the batches in each stack, and the stack.
    """
    groups: dict[Any, list[int]] = {}
    for place, batch in enumerate(batches):
        groups.setdefault(_shape(batch), []).append(place)
    return [(places, _stacked([batches[place] for place in places])) for places in groups.values()]


def _shape(batch: Batch) -> Any:
    inputs, targets = batch.inputs, batch.targets
    can_pad = batch.lengths is not None and targets.dim() == 1
    shape = (inputs.shape[0], *inputs.shape[2:]) if can_pad else inputs.shape
    return shape, inputs.dtype, batch.lengths is None, targets.shape, targets.dtype


def _stacked(batches: Sequence[Batch]) -> Batch:
    longest = max(batch.inputs.shape[1] for batch in batches)
    inputs = [_padded(batch.inputs, longest) for batch in batches]
    lengths = None if batches[0].lengths is None else torch.stack([_lengths(batch) for batch in batches])
    return Batch(torch.stack(inputs), lengths, torch.stack([batch.targets for batch in batches]))


def _padded(inputs: Tensor, steps: int) -> Tensor:
    if inputs.shape[1] == steps:
        return inputs
    return nn.functional.pad(inputs, (*(0, 0) * (inputs.dim() - 2), 0, steps - inputs.shape[1]))


def _lengths(batch: Batch) -> Tensor:
    assert batch.lengths is not None
    return batch.lengths
