"""Averaged weights, from the moment at which plain steps stop helping."""

from typing import Any, final

import pytorch_lightning as pl
import torch
from torch import Tensor

from seqlab.contracts import UserError


@final
class NonMonotonicAveraging(pl.Callback):
    r"""NT-ASGD (Merity et al. 2017, arXiv 1708.02182, algorithm 1): stochastic gradient descent, then its average.

    After each epoch the monitored metric is compared with the best one of the epochs before the last ``patience``; the
    first time it is worse, averaging begins: :math:`\bar w_k = \bar w_{k-1} + (w_k - \bar w_{k-1}) / k`. From then on
    validation, checkpoints and test see :math:`\bar w`, and training goes on with :math:`w`.

    Args:
        monitor: the metric, ``valid/<name>``.
        mode: whether a larger (``max``) or a smaller (``min``) one is better.
        patience: the paper's n; at least 1.

    Raises:
        UserError: the patience is not positive, or the metric is not logged.
    """

    def __init__(self, monitor: str, mode: str, patience: int) -> None:
        if patience < 1:
            raise UserError(f"optimizer.averaging is {patience}; it must be at least 1, or null")
        self.monitor, self.sign, self.patience = monitor, 1.0 if mode == "max" else -1.0, patience
        self.scores: list[float] = []
        self.count = 0
        self._mean: list[Tensor] = []
        self._plain: list[Tensor] = []

    @property
    def averages(self) -> bool:
        """Whether averaging has begun."""
        return bool(self._mean or self._plain)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Take the new weights into the average."""
        if self._mean:
            self.count += 1
            torch._foreach_lerp_(self._mean, _weights(pl_module), 1 / self.count)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average into the model; it stays there until the next epoch."""
        if self._mean:
            self._plain = [weight.detach().clone() for weight in _weights(pl_module)]
            _put(pl_module, self._mean)
            self._mean = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare this epoch with those before it."""
        if self.monitor not in trainer.callback_metrics:
            there = ", ".join(trainer.callback_metrics) or "nothing"
            raise UserError(f"NonMonotonicAveraging needs the logged metric {self.monitor}, but {there} is logged")
        score = self.sign * float(trainer.callback_metrics[self.monitor])
        earlier = self.scores[: -self.patience]
        self.scores.append(score)
        if not self.averages and earlier and score < max(earlier):
            self._plain = [weight.detach().clone() for weight in _weights(pl_module)]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the weights of training."""
        if self._plain:
            self._mean = [weight.detach().clone() for weight in _weights(pl_module)]
            _put(pl_module, self._plain)
            self._plain = []

    def state_dict(self) -> dict[str, Any]:
        """Remember the scores, and whichever of the two sets of weights does not stand in the checkpoint as the model.

        At the end of an epoch that is the weights of training, and within one the average.
        """
        kept = {"plain": self._plain, "mean": self._mean}
        return {
            "scores": self.scores,
            "count": self.count,
            **{name: [weight.detach().cpu().clone() for weight in weights] for name, weights in kept.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self.scores, self.count = list(state_dict["scores"]), state_dict["count"]
        self._plain, self._mean = list(state_dict["plain"]), list(state_dict["mean"])


def _weights(module: pl.LightningModule) -> list[Tensor]:
    return list(module.parameters())


@torch.no_grad()
def _put(module: pl.LightningModule, values: list[Tensor]) -> None:
    for weight, value in zip(_weights(module), values, strict=True):
        weight.copy_(value)
