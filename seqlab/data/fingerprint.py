"""Fingerprint of the data that a run is trained on: encoded splits, labels and vocabulary."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from seqlab.contracts import Ragged
from seqlab.contracts.batch import NARROW
from seqlab.contracts.task import is_fresh, label_names
from seqlab.data.datamodule import SequenceData

_GENERATED = 16
"""Number of examples to generate, to tell one generator of training examples from another."""
_BLOCK = 2**20
"""Values to hash at once."""
_MAX_LABELS = 10
"""Labels to name in a message."""


def fingerprint(data: SequenceData) -> dict[str, Any]:
    """Compute the fingerprint of prepared data, as plain JSON values.

    It covers every encoded value, length and target, in order. Of running text it is the checksum of the cached tokens;
    of a task that generates its training examples it includes a sample of them.

    Returns:
        ``splits`` (``rows`` or ``tokens``, and ``hash``, of each), ``labels`` (in the order of their ids, or ``None``),
        ``vocabulary`` (``size`` and ``hash``, or ``None``) and ``drawn`` (a hash, or ``None``).
    """
    task, preprocessor = data.task, data.preprocessor
    splits = {
        name: {"tokens": len(tokens), "hash": f"crc32 {tokens.facts['crc32']:08x}"}
        for name, tokens in data.tokens.items()
    }
    splits |= {
        name: {"rows": len(targets), "hash": _hash_examples(inputs, targets)}
        for name, (inputs, targets) in data.encoded.items()
    }
    labels, vocabulary = label_names(task), None
    if preprocessor is not None:
        text = json.dumps(preprocessor.state_dict(), sort_keys=True, default=str)
        vocabulary = {"size": preprocessor.size, "hash": _hash(text.encode("utf-8", "surrogatepass"))}
    drawn = None
    if is_fresh(task) and not data.tokens:
        with torch.random.fork_rng(devices=[]):
            drawn = _hash_examples(*data.draw(_GENERATED, 0))
    return {
        "splits": splits,
        "labels": None if labels is None else list(labels),
        "vocabulary": vocabulary,
        "drawn": drawn,
    }


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a phrase for each difference between two fingerprints."""
    found = [*_label_differences(then["labels"], now["labels"])]
    found += _vocabulary_differences(then["vocabulary"], now["vocabulary"])
    if then["drawn"] != now["drawn"]:
        found.append("the task draws other training examples")
    explained = bool(found)  # other ids of labels or tokens change every row
    for name in dict.fromkeys([*then["splits"], *now["splits"]]):
        found += _split_differences(name, then["splits"].get(name), now["splits"].get(name), explained=explained)
    return found


def _label_differences(then: Sequence[str] | None, now: Sequence[str] | None) -> list[str]:
    if then == now:
        return []
    before, after = list(then or ()), list(now or ())
    if sorted(before) == sorted(after):
        return [f"the labels are in another order: {_join(after)}, were {_join(before)}"]
    new, missing = set(after) - set(before), set(before) - set(after)
    found = [f"new {_join([label for label in after if label in new])}"] if new else []
    found += [f"missing {_join([label for label in before if label in missing])}"] if missing else []
    return [f"the labels are others: {', '.join(found)}"]


def _join(labels: Sequence[str]) -> str:
    return ", ".join(labels[:_MAX_LABELS]) + (" ..." if len(labels) > _MAX_LABELS else "")


def _vocabulary_differences(then: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> list[str]:
    if then == now:
        return []
    if then is None or now is None:
        return ["there is no vocabulary any more" if now is None else "there was no vocabulary"]
    if then["size"] == now["size"]:
        return [f"the vocabulary has other entries ({now['size']:,}, as before)"]
    return [f"the vocabulary has {now['size']:,} entries, had {then['size']:,}"]


def _split_differences(
    name: str, then: Mapping[str, Any] | None, now: Mapping[str, Any] | None, *, explained: bool
) -> list[str]:
    if then is None or now is None:
        return [f"{name} is {'missing' if now is None else 'new'}"]
    what = "tokens" if "tokens" in now else "rows"
    if then.get(what) != now[what]:
        return [f"{name} has {now[what]:,} {what}, had {then.get(what, 0):,}"]
    if then["hash"] != now["hash"] and not explained:
        return [f"{name} has other {what} ({now[what]:,}, as before)"]
    return []


def _hash_examples(inputs: Ragged, targets: Tensor) -> str:
    """Hash examples; token ids of any integer type have the hash of int64."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in (inputs.values, inputs.lengths, targets):
        values = tensor.detach().cpu().reshape(-1)
        dtype = torch.int64 if tensor is inputs.values and values.dtype in NARROW else values.dtype
        data = b"" if len(values) else repr(tensor.shape).encode()
        digest.update((len(values) * dtype.itemsize or len(data)).to_bytes(8, "little") + data)
        for block in torch.split(values, _BLOCK):
            digest.update(block.to(dtype).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _hash(part: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
