"""A right task of windows that overlap within a split, and not across splits."""

from collections.abc import Mapping

import torch

from seqlab import Examples, Ragged

from .odd_tasks import Lengths


class Windows(Lengths):
    """What is the next value of a random walk? Each split has windows of a stretch of its own."""

    def windows(self, low: int, high: int) -> Examples:
        steps = self.sequence_length or 6
        walk = torch.randn(330, 2, generator=torch.Generator().manual_seed(5)).cumsum(0)
        made = walk[low:high].unfold(0, steps + 1, 1).transpose(1, 2)
        return Examples(Ragged.of(list(made[:, :-1])), made[:, -1, 0].clone())

    def splits(self) -> Mapping[str, Examples]:
        stretches = {"train": (0, 190), "valid": (190, 260), "test": (260, 330)}
        made = {name: self.windows(*stretch) for name, stretch in stretches.items()}
        self.mean = float(made["train"].targets.mean())
        return made
