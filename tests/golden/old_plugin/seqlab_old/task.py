"""task=old_task: generated texts, new ones for each epoch."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from seqlab import Batch, Examples, Task

LABELS = ["a", "b"]


class OldTask(Task):
    """Which of two letters is the more frequent?

    Args:
        sequence_length: steps that a sequence may have; the rest is cut off. ``None`` cuts nothing.
        examples: how many texts there are, of which 80 % are for training.
        split_seed: of the texts and the split.
        fresh: train on new texts in each epoch.

    Raises:
        ValueError: an option is out of its range.
    """

    plugin_api = 1
    preprocessing = "characters"
    sequence_length_means = "maximum"

    def __init__(
        self, sequence_length: int | None = None, examples: int = 2000, split_seed: int = 0, fresh: bool = True
    ) -> None:
        if sequence_length is not None and sequence_length < 1:
            raise ValueError(f"sequence_length is {sequence_length}; it must be at least 1")
        if not 20 <= examples <= 5000:
            raise ValueError(f"examples is {examples}; it must be from 20 to 5000")
        self.sequence_length, self.examples, self.split_seed = sequence_length, examples, split_seed
        self.fresh = fresh
        self._share = [0.5, 0.5]

    @property
    def monitor(self) -> str:
        """The metric that chooses the checkpoint."""
        return "accuracy"

    def splits(self) -> Mapping[str, Examples]:
        """Draw the texts; no text is in two splits."""
        drawn = random.Random(self.split_seed)
        texts: set[str] = set()
        while len(texts) < self.examples:
            texts.add(_text(drawn))
        ordered = sorted(texts)
        drawn.shuffle(ordered)
        tenth = len(ordered) // 10
        parts = {"train": ordered[2 * tenth :], "valid": ordered[tenth : 2 * tenth], "test": ordered[:tenth]}
        splits = {name: Examples(part, _targets(part)) for name, part in parts.items()}
        self._share = (torch.bincount(splits["train"].targets, minlength=2) / len(parts["train"])).tolist()
        return splits

    def draw(self, count: int, seed: int) -> Examples:
        """Draw new texts."""
        drawn = random.Random(seed)
        texts = [_text(drawn) for _ in range(count)]
        return Examples(texts, _targets(texts))

    @property
    def outputs(self) -> int:
        """Number of classes."""
        return len(LABELS)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Compute the cross-entropy."""
        return F.cross_entropy(outputs, batch.targets)

    def metrics(self) -> MetricCollection:
        """Make the accuracy."""
        return MetricCollection({"accuracy": MulticlassAccuracy(self.outputs, average="micro")})

    def blind_outputs(self, batch: Batch) -> Tensor:
        """Give each class its share of the training split: the chance line."""
        return torch.tensor(self._share, device=batch.inputs.device).log().expand(len(batch.inputs), -1)

    def label_names(self) -> Sequence[str]:
        """Name the classes, in the order of the targets."""
        return LABELS

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Name the likeliest letters of each row."""
        found = outputs.float().softmax(-1).topk(min(top, self.outputs), dim=-1)
        return [
            [{"label": LABELS[index], "probability": value} for index, value in zip(indices, values, strict=True)]
            for indices, values in zip(found.indices.tolist(), found.values.tolist(), strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Give what a trained model's user needs."""
        return {"share": self._share}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        share = state.get("share") if set(state) == {"share"} else None
        if not isinstance(share, list) or len(share) != 2 or not all(isinstance(part, float) for part in share):
            raise ValueError("the state must be share, a list of two numbers")
        self._share = share


def _targets(texts: Sequence[str]) -> Tensor:
    return torch.tensor([int(text.count("b") > text.count("a")) for text in texts])


def _text(drawn: random.Random) -> str:
    length = drawn.randrange(21, 36, 2)  # odd, so that there is no tie
    return "".join(drawn.choices("ab", k=length))
