"""Long sequences read in chunks, whose activations are recomputed for the gradient."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from functools import partial
from typing import Any, Literal, TypeAlias, final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seqlab.errors import check_range
from seqlab.recurrence.scan import detach, map_state

CheckpointSteps: TypeAlias = int | Literal["auto"]
MAX_BYTES = 2**31
"""Estimated activations of a pass above which ``auto`` reads a sequence in chunks: 2 GiB."""
MULTIPLE = 1024
"""A chunk chosen by ``auto`` has a multiple of this many steps: a shorter one costs more time than it saves memory."""


def automatic_steps(steps: int, step_bytes: int) -> int:
    r"""Return the length of a chunk: about :math:`\sqrt T`, or 0 where the whole sequence takes at most ``MAX_BYTES``.

    Args:
        steps: of the sequence, :math:`T`.
        step_bytes: estimated activations of a step.
    """
    return 0 if steps * step_bytes <= MAX_BYTES else MULTIPLE * math.ceil(math.sqrt(steps) / MULTIPLE)


def check_chunks(steps: CheckpointSteps, truncate: int, *, bidirectional: bool) -> None:
    """Check ``checkpoint_steps`` and ``truncate``.

    Raises:
        ValueError: one is out of its range, or they cannot be combined.
    """
    check_range("truncate", truncate, 0)
    if steps == "auto":
        return
    check_range("checkpoint_steps", steps, 0)
    for name, given, reason in (
        ("bidirectional", bidirectional, "which needs all steps"),
        ("truncate", truncate, "which cuts gradients"),
    ):
        if steps and given:
            shown = str(given).lower()
            raise ValueError(f"checkpoint_steps must be 0 or auto with {name}={shown}, {reason}, got {steps}")


@final
class RandomStreams:
    """Random numbers of a pass over a sequence in chunks: those that a pass over the whole sequence would draw.

    The whole draws place by place (the dropout of the input, of layer 1, ...), each for all steps; chunks draw them
    in turns. So each place has a stream of its own, which starts in the state of torch's generators that the whole
    would have reached. Torch draws a sequence in pieces as it draws it at once on CPUs without MKL's generators; else
    the numbers are others of the same distribution.

    Args:
        steps: of the whole sequence.
        device: of the network.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self._left, self._device = steps, device
        self._starts: dict[str, list[Tensor]] = {}  # shared by the copies
        self._now: dict[str, list[Tensor]] = {}
        self._end = self._states()
        self._rest: Callable[[int], object] = _nothing

    def chunk(self, steps: int) -> "RandomStreams":
        """Return a copy for the next chunk; a chunk read twice draws the same numbers twice."""
        made = copy(self)
        made._now, made._left = dict(self._now), self._left - steps
        return made

    @contextmanager
    def at(self, place: str, rest: Callable[[int], object] | None = None) -> Iterator[None]:
        """Draw from the stream of a place within this context.

        Args:
            place: its name.
            rest: draws the numbers of so many further steps; ``None`` where all chunks share the same numbers.
        """
        first = place not in self._starts
        if first:
            self._restore(self._end)
            for begin in range(0, self._left, MULTIPLE):
                self._rest(min(MULTIPLE, self._left - begin))
            self._starts[place] = self._states()
        self._end = self._now.get(place, self._starts[place])
        self._restore(self._end)
        self._rest = _nothing
        yield
        after = self._states()
        if all(torch.equal(*pair) for pair in zip(self._end, after, strict=True)):
            return
        self._end = after
        if rest is not None:
            self._now[place], self._rest = after, rest

    def close(self) -> None:
        """Leave torch's generators in the state in which the whole sequence leaves them."""
        self._restore(self._end)

    def forget(self) -> None:
        """Release the tensors of a chunk."""
        self._rest = _nothing

    def _states(self) -> list[Tensor]:
        cuda = [torch.cuda.get_rng_state(self._device)] if self._device.type == "cuda" else []
        return [torch.get_rng_state(), *cuda]

    def _restore(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if len(states) > 1:
            torch.cuda.set_rng_state(states[1], self._device)


def _nothing(_: int) -> None:
    """Draw nothing."""


def drawing(
    streams: RandomStreams | None, place: str, rest: Callable[[int], object] | None = None
) -> AbstractContextManager[None]:
    """Draw from the stream of a place, if there are streams (:meth:`RandomStreams.at`)."""
    return nullcontext() if streams is None else streams.at(place, rest)


def dropout(x: Tensor, rate: float, training: bool, streams: RandomStreams | None, place: str) -> Tensor:
    """Drop values of a chunk ``[time, ...]`` as dropout of the whole sequence would."""

    def drop(x: Tensor) -> Tensor:
        return nn.functional.dropout(x, rate, training)

    with drawing(streams, place, lambda steps: drop(x.new_ones(steps, *x.shape[1:]))):
        return drop(x)


Reader: TypeAlias = Callable[[Tensor, Tensor | None, Any, RandomStreams | None], tuple[Any, ...]]
"""From a chunk, its lengths, the state before it and the streams to outputs and, last, the state after it."""


def read_chunks(
    read: Reader,
    x: Tensor,
    lengths: Tensor | None,
    state: Any,
    *,
    steps: int,
    axis: int = 0,
    truncate: bool = False,
    random: bool = False,
) -> tuple[list[tuple[Any, ...]], Any]:
    """Read consecutive chunks and hand the state on; the backward pass reads each but the last again.

    Args:
        read: reads a chunk.
        x: the sequence.
        lengths: valid steps of each row; ``None`` where all are full.
        state: before the first chunk.
        steps: of a chunk.
        axis: that of time.
        truncate: whether to detach the state between two chunks.
        random: draw the random numbers of the whole sequence (:class:`RandomStreams`).

    Returns:
        The outputs of each chunk, and the state after the last one.
    """
    total, outputs = x.shape[axis], []
    streams = RandomStreams(total, x.device) if random else None
    for begin in range(0, total, steps):
        size = min(steps, total - begin)
        recompute = torch.is_grad_enabled() and begin + size < total
        run = partial(checkpoint, _read, use_reentrant=False) if recompute else _read
        state = detach(state) if begin and truncate else state
        chunk, left = x.narrow(axis, begin, size), _steps_left(lengths, begin, size)
        *found, state, streams = run(read, chunk, left, state, streams, axis)
        outputs.append(tuple(found))
    if streams is not None:
        streams.close()
    return outputs, state


def _steps_left(lengths: Tensor | None, begin: int, size: int) -> Tensor | None:
    """Return the valid steps of a chunk; ``None``, which every kernel supports, where all rows are full."""
    if lengths is None:
        return None
    left = (lengths - begin).clamp(0, size)
    return None if bool((left == size).all()) else left


def _read(
    read: Reader, chunk: Tensor, lengths: Tensor | None, state: Any, streams: RandomStreams | None, axis: int
) -> tuple[Any, ...]:
    own = None if streams is None else streams.chunk(chunk.shape[axis])
    found = read(chunk, lengths, state, own)
    if own is not None:
        own.forget()
    return *map_state(_compact, found), own


def _compact(tensor: Tensor) -> Tensor:
    """Copy a part of a larger tensor, which would keep all of it in memory."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.numel() * tensor.itemsize else tensor
