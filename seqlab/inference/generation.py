"""Text from a language model, token by token."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from seqlab.contracts import Batch, LanguageTask, Preprocessor, UserError
from seqlab.data.tokens import begin_id
from seqlab.inference.loading import Trained

_LONGEST_CHARACTER = 4
"""Tokens that one character may take, where tokens are bytes."""


@torch.inference_mode()
def generate(
    trained: Trained,
    prompt: str = "",
    length: int = 500,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int | None = None,
) -> Iterator[str]:
    r"""Draw what comes after a prompt, each token from :math:`\mathrm{softmax}(o / \text{temperature})`.

    Args:
        trained: a language model: a task that carries state and has an output at each step.
        prompt: what has been said already; it is read, not given back.
        length: tokens to draw.
        temperature: below 1 the likely becomes likelier; 0 always takes the likeliest.
        top_k: draw among the so many likeliest only; ``None`` among all.
        seed: of the draws; ``None`` draws others each time.

    Yields:
        The text piece by piece, as soon as it is known.

    Raises:
        UserError: this is no language model, or a number is out of its range.
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
        logits[[0, trained.preprocessor.unknown_id]] = -torch.inf  # neither is text
        ids = [_drawn(logits, temperature, top_k, generator)]
        if piece := text.add(ids[0]):
            yield piece
    yield text.rest()


def _check(trained: Trained, length: int, temperature: float, top_k: int | None) -> None:
    task = trained.task
    if not isinstance(task, LanguageTask) or trained.preprocessor is None:
        raise UserError(f"{trained.folder}: its task predicts no next token; generate needs a run of task=lm")
    if length < 1:
        raise UserError(f"length is {length}; it must be at least 1")
    if temperature < 0:
        raise UserError(f"temperature is {temperature}; it must be at least 0")
    if top_k is not None and top_k < 1:
        raise UserError(f"top-k is {top_k}; it must be at least 1")


def _drawn(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    if top_k is not None and top_k < len(logits):
        logits = torch.where(logits < logits.topk(top_k).values[-1], -torch.inf, logits)
    return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))


class _Decoder:
    """Turns tokens into text one by one; a character of several tokens appears when it is whole."""

    def __init__(self, preprocessor: Preprocessor, before: int | None) -> None:
        self.preprocessor, self.before = preprocessor, before
        self.held: list[int] = []

    def add(self, token: int) -> str:
        """Take a token; give the text that is now whole."""
        self.held.append(token)
        piece = self._piece()
        if piece.endswith("\ufffd") and len(self.held) < _LONGEST_CHARACTER:
            return ""
        self.before, self.held = token, []
        return piece

    def rest(self) -> str:
        """Give what never became whole."""
        return self._piece() if self.held else ""

    def _piece(self) -> str:
        """Decode behind the token before, which may put a blank between them."""
        if self.before is None:
            return self.preprocessor.decode(self.held)
        start = self.preprocessor.decode([self.before])
        return self.preprocessor.decode([self.before, *self.held])[len(start) :]
