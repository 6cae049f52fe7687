"""Optimisers and learning-rate schedules, by name."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from seqlab.contracts import UserError
from seqlab.discovery.registry import one_line

_OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}
_SCHEDULES = ("constant", "cosine", "one_cycle")


def make_optimizer(config: Mapping[str, Any], parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Make the configured optimiser; weights decay, biases and other vectors do not.

    Raises:
        UserError: there is none of that name, or an option does not suit it.
    """
    settings = {key: value for key, value in config.items() if key not in ("name", "schedule", "warmup")}
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
    if name not in _SCHEDULES:
        raise UserError(f"optimizer.schedule is {name}; it must be one of {', '.join(_SCHEDULES)}")
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
