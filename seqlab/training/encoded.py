"""Texts as token ids, encoded once: what takes longer than a moment is found again in the cache."""

import hashlib
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray

from seqlab.cache import kept_arrays, kept_json
from seqlab.contracts import Examples, Preprocessor, Ragged, UserError

_WORTH_KEEPING = 10**6
"""Characters from which on encoded texts are kept in the cache."""


def texts_of(examples: Examples) -> list[str]:
    """Give the texts of examples.

    Raises:
        UserError: they are tensors.
    """
    if isinstance(examples.inputs, Ragged):
        raise UserError("this task's inputs are tensors, which no preprocessing can encode; set preprocessing=null")
    return list(examples.inputs)


def encoded(texts: list[str], preprocessor: Preprocessor, pipeline: Any) -> Ragged:
    """Encode texts, or find them in the cache.

    Args:
        texts: to be encoded.
        preprocessor: fitted.
        pipeline: its node in the config, by which what it made is found again.
    """
    if sum(map(len, texts)) < _WORTH_KEEPING:
        return preprocessor.encode(texts)
    key = [_digest(texts), pipeline, preprocessor.state_dict()]
    found = kept_arrays("encoded", key, partial(_arrays, preprocessor, texts))
    return Ragged(torch.from_numpy(found["values"]), torch.from_numpy(found["lengths"]))


def dropped(texts: list[str], preprocessor: Preprocessor, pipeline: Any) -> dict[int, str]:
    """Say which training texts the preprocessing drops and why, or find that in the cache."""
    make = partial(_reasons, preprocessor, texts)
    large = sum(map(len, texts)) >= _WORTH_KEEPING
    found = kept_json("dropped", [_digest(texts), pipeline], make, list) if large else make()
    return {int(index): str(reason) for index, reason in found}


def _reasons(preprocessor: Preprocessor, texts: list[str]) -> list[list[Any]]:
    return [[index, reason] for index, reason in preprocessor.dropped(texts).items()]


def _arrays(preprocessor: Preprocessor, texts: list[str]) -> dict[str, NDArray[Any]]:
    encoded = preprocessor.encode(texts)
    return {"values": encoded.values.numpy(), "lengths": encoded.lengths.numpy()}


def _digest(texts: list[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
