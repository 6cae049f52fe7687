"""Text generation by a language model, token by token."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from seqlab.contracts import Batch, Preprocessor, UserError
from seqlab.data.tokens import begin_id
from seqlab.inference.loading import Trained

_MAX_TOKENS = 4
"""Tokens of one character where tokens are bytes."""


@torch.inference_mode()
def generate(
    trained: Trained,
    prompt: str = "",
    length: int = 500,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int | None = None,
) -> Iterator[str]:
    r"""Sample the continuation of a prompt, each token from :math:`\mathrm{softmax}(o / \text{temperature})`.

    Args:
        trained: a language model: a task that carries state and has an output at each step.
        prompt: text before the continuation; it is not returned.
        length: number of tokens.
        temperature: values below 1 sharpen the distribution; 0 always takes the likeliest token.
        top_k: sample among this number of the likeliest tokens; ``None`` among all.
        seed: of the random generator; ``None`` for a random one.

    Yields:
        The text piece by piece, as soon as a character is complete.

    Raises:
        UserError: the model is no language model, or a number is out of range.
    """
    _check(trained, length, temperature, top_k)
    assert trained.preprocessor is not None
    generator = torch.Generator()
    generator.manual_seed(generator.seed() if seed is None else seed)
    first = begin_id(trained.preprocessor)
    ids = [first, *trained.preprocessor.encode([prompt]).values.tolist()] if prompt else [first]
    text = _Decoder(trained.preprocessor, ids[-1] if prompt else None)
    state: Any = None
    for _ in range(length):
        outputs, state = trained.model(Batch(torch.tensor([ids]), None, torch.empty(0)), state)
        logits = outputs[0, -1].double()
        logits[[0, trained.preprocessor.unknown_id]] = -torch.inf  # padding and unknown are no text
        ids = [_sample(logits, temperature, top_k, generator)]
        if piece := text.push(ids[0]):
            yield piece
    yield text.flush()


def _check(trained: Trained, length: int, temperature: float, top_k: int | None) -> None:
    task = trained.task
    if not (task.carries_state and task.per_step) or trained.preprocessor is None:
        raise UserError(f"{trained.folder}: its task predicts no next token; generate needs a run of task=lm")
    if length < 1:
        raise UserError(f"length must be >= 1, got {length}")
    if temperature < 0:
        raise UserError(f"temperature must be >= 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise UserError(f"top-k must be >= 1, got {top_k}")


def _sample(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    if top_k is not None and top_k < len(logits):
        logits = torch.where(logits < logits.topk(top_k).values[-1], -torch.inf, logits)
    return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))


class _Decoder:
    """Incremental decoder: a character of several tokens is returned when it is complete."""

    def __init__(self, preprocessor: Preprocessor, previous: int | None) -> None:
        self.preprocessor, self.previous = preprocessor, previous
        self.pending: list[int] = []

    def push(self, token: int) -> str:
        """Add a token; return the text that is now complete."""
        self.pending.append(token)
        piece = self._piece()
        if piece.endswith("\ufffd") and len(self.pending) < _MAX_TOKENS:
            return ""
        self.previous, self.pending = token, []
        return piece

    def flush(self) -> str:
        """Return what is left incomplete."""
        return self._piece() if self.pending else ""

    def _piece(self) -> str:
        """Decode after the previous token, as the preprocessor may put a space between them."""
        if self.previous is None:
            return self.preprocessor.decode(self.pending)
        start = self.preprocessor.decode([self.previous])
        return self.preprocessor.decode([self.previous, *self.pending])[len(start) :]
