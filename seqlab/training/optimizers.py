"""Optimisers and learning-rate schedules, by name."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

import torch
from torch import nn
from torch.optim import Optimizer

from seqlab.contracts import UserError
from seqlab.errors import one_line

_OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}
_SCHEDULES = ("constant", "cosine", "one_cycle")
_EPOCH_SCHEDULES = ("decay", "plateau")
_OURS = ("name", "schedule", "warmup", "decay", "decay_after", "patience", "averaging")
"""Keys of the node that are not the optimiser's."""


def make_optimizer(config: Mapping[str, Any], parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Make the configured optimiser; weights decay, biases and other vectors do not.

    Raises:
        UserError: there is none of that name, or an option does not suit it.
    """
    settings = {key: value for key, value in config.items() if key not in _OURS}
    if config["name"] not in _OPTIMIZERS:
        raise UserError(f"optimizer.name is {config['name']}; it must be one of {', '.join(_OPTIMIZERS)}")
    if "betas" in settings:
        settings["betas"] = tuple(settings["betas"])
    if config["name"] in ("adamw", "adam"):
        settings.setdefault("foreach", True)
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in trained if parameter.dim() > 1]},
        {"params": [parameter for parameter in trained if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    try:
        return _OPTIMIZERS[config["name"]](groups, **settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer={config['name']}: {one_line(error)}") from error


def schedule(config: Mapping[str, Any], steps: float) -> Callable[[int], float] | None:
    r"""Give the course of the learning rate: the factor on ``lr`` at each step of the run, or ``None`` for always 1.

    With :math:`p` the share of the steps done after warm-up: ``constant`` 1; ``cosine``
    :math:`(1 + \cos \pi p) / 2` (Loshchilov & Hutter 2017, without restarts); ``one_cycle`` falls linearly,
    :math:`1 - p` (with the warm-up, the triangle of Smith & Topin 2019).

    Args:
        config: the optimiser's node; ``schedule`` and ``warmup`` are looked at.
        steps: optimiser steps of the whole run.

    Raises:
        UserError: there is no such schedule, or it needs a number of steps and the run has none.
    """
    name, warmup = config.get("schedule", "constant"), config.get("warmup", 0.0)
    if name in _EPOCH_SCHEDULES:
        name = "constant"
    if name not in _SCHEDULES:
        have = ", ".join([*_SCHEDULES, *_EPOCH_SCHEDULES])
        raise UserError(f"optimizer.schedule is {name}; it must be one of {have}")
    if not 0 <= warmup < 1:
        raise UserError(f"optimizer.warmup is {warmup}; it is a share of the steps, at least 0 and less than 1")
    if name == "constant" and not warmup:
        return None
    if not math.isfinite(steps) or steps < 1:
        raise UserError(f"optimizer.schedule={name} needs a bounded run: set trainer.max_epochs or trainer.max_steps")
    rising: float = warmup * steps

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        done = min(1.0, (step - rising) / max(1.0, steps - rising))
        return {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * done)), "one_cycle": 1 - done}[str(name)]

    return factor


@final
class EpochDecay:
    r"""The part of the learning rate's course that changes from epoch to epoch.

    ``decay``: :math:`d^{\max(0, e - a)}` in epoch :math:`e = 1, 2, \ldots` with :math:`a` = ``decay_after`` (Zaremba
    et al. 2014). ``plateau``: times :math:`d` after each epoch whose monitored metric is no better than the best one
    for more than ``patience`` epochs.

    Args:
        config: the optimiser's node.
        mode: whether a larger (``max``) or a smaller (``min``) metric is better.

    Raises:
        UserError: a number is out of its range.
    """

    def __init__(self, config: Mapping[str, Any], mode: str) -> None:
        self.name = config.get("schedule", "constant")
        self.decay, self.after = config.get("decay", 1.0), config.get("decay_after", 0)
        self.patience, self.sign = config.get("patience", 0), 1.0 if mode == "max" else -1.0
        self.factor, self.best, self.worse = 1.0, -math.inf, 0
        if not 0 < self.decay <= 1:
            raise UserError(f"optimizer.decay is {self.decay}; it must be above 0 and at most 1")

    def begin(self, epoch: int) -> None:
        """Choose the factor for an epoch, the first of which is 0."""
        if self.name == "decay":
            self.factor = self.decay ** max(0, epoch + 1 - self.after)

    def end(self, metric: float) -> None:
        """Take the monitored metric of an epoch."""
        if self.name != "plateau":
            return
        if self.sign * metric > self.best:
            self.best, self.worse = self.sign * metric, 0
            return
        self.worse += 1
        if self.worse > self.patience:
            self.factor, self.worse = self.factor * self.decay, 0

    def state_dict(self) -> dict[str, float]:
        """Give what a resumed run must know."""
        return {"factor": self.factor, "best": self.best, "worse": self.worse}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.factor, self.best, self.worse = state["factor"], state["best"], state["worse"]
