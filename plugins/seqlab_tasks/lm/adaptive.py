"""An adaptive softmax as a head."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

PADDING = 0


@final
class AdaptiveHead(nn.Module):
    """Grave et al. 2017 (arXiv 1609.04309): frequent tokens first, rare ones in clusters of fewer features.

    Args:
        features: what it reads.
        outputs: number of token ids; those of small number are taken for frequent.
        cutoffs: the first id of each cluster.

    Raises:
        ValueError: the cutoffs are not ascending, or out of range.
    """

    skips_parameters = True  # of the clusters of which a batch has no token

    def __init__(self, features: int, outputs: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        ascending = all(low < high for low, high in zip([0, *cutoffs], [*cutoffs, outputs], strict=True))
        if not ascending:
            raise ValueError(f"adaptive is {list(cutoffs)}; it must ascend, from above 0 to below {outputs}")
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(features, outputs, list(cutoffs))

    def forward(self, features: Tensor) -> Tensor:
        """Pass the features on while in training mode, for :meth:`loss`; else give log-probabilities of all ids."""
        if self.training:
            return features
        return self.softmax.log_prob(features.flatten(0, -2)).view(*features.shape[:-1], -1)

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Compute the mean cross-entropy of the targets that are no padding."""
        rows, wanted = features.flatten(0, -2), targets.flatten()
        there = wanted != PADDING
        loss: Tensor = self.softmax(rows[there], wanted[there]).loss
        return loss
