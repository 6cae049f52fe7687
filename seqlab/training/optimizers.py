"""Optimisers, learning-rate schedules and weight averaging."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from seqlab.contracts import UserError
from seqlab.errors import one_line
from seqlab.recurrence import Recurrent
from seqlab.recurrence.wrappers import unwrapped

log = logging.getLogger("seqlab")

_OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}
_NOT_OPTIMIZER = ("name", "schedule", "warmup", "decay", "decay_after", "patience", "averaging", "recurrent_lr")
"""Keys of the node that the optimiser's constructor does not take."""


def make_optimizer(
    config: Mapping[str, Any], parameters: Iterable[nn.Parameter], recurrent: Iterable[nn.Parameter] = ()
) -> Optimizer:
    """Build the configured optimiser.

    Weight decay applies to matrices, not to biases and other vectors. With ``recurrent_lr``, the recurrent parameters
    are a third group with that learning rate and no weight decay.

    Args:
        config: config node of the optimiser.
        parameters: all of the model; frozen ones are left out.
        recurrent: those of its cells (:func:`recurrent_parameters`).

    Raises:
        UserError: the optimiser refuses a value, or ``recurrent_lr`` is set and no cell is trained.
    """
    settings = {key: value for key, value in config.items() if key not in _NOT_OPTIMIZER}
    if "betas" in settings:
        settings["betas"] = tuple(settings["betas"])
    if config["name"] in ("adamw", "adam"):
        settings.setdefault("foreach", True)
    rate = config.get("recurrent_lr")
    cells = {id(parameter) for parameter in recurrent} if rate is not None else set()
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    others = [parameter for parameter in trained if id(parameter) not in cells]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in others if parameter.dim() > 1]},
        {"params": [parameter for parameter in others if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    if rate is not None:
        own = [parameter for parameter in trained if id(parameter) in cells]
        if not own:
            raise UserError(f"optimizer.recurrent_lr must be null where no cell is trained, got {rate}")
        groups.append({"params": own, "lr": rate, "weight_decay": 0.0})
        sizes = [f"{sum(parameter.numel() for parameter in each):,}" for each in (own, others)]
        log.info(f"optimizer.recurrent_lr={rate}: for {sizes[0]} parameters of cells; lr={config['lr']} for {sizes[1]}")
    try:
        return _OPTIMIZERS[config["name"]](groups, **settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer={config['name']}: {one_line(error)}") from error


def recurrent_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the cells of every :class:`.Recurrent` of a model, without those around the cells."""
    networks = [part for part in model.modules() if isinstance(part, Recurrent)]
    return [parameter for part in networks for cell in part.cells for parameter in unwrapped(cell).parameters()]


def schedule(config: Mapping[str, Any], steps: float) -> Callable[[int], float] | None:
    r"""Return the factor on ``lr`` at each step of the run; ``None`` where it is always 1.

    With :math:`p` the share of the steps done after warm-up: ``constant`` 1; ``cosine``
    :math:`(1 + \cos \pi p) / 2` (Loshchilov & Hutter 2017, without restarts); ``one_cycle`` falls linearly,
    :math:`1 - p` (with the warm-up, the triangle of Smith & Topin 2019).
    """
    name, warmup = config.get("schedule", "constant"), config.get("warmup", 0.0)
    if name not in ("cosine", "one_cycle"):
        if not warmup:
            return None
        name = "constant"  # those that change from epoch to epoch are :class:`EpochDecay`'s
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
    r"""Factor on the learning rate that changes from epoch to epoch.

    ``decay``: :math:`d^{\max(0, e - a)}` in epoch :math:`e = 1, 2, \ldots` with :math:`a` = ``decay_after`` (Zaremba
    et al. 2014). ``plateau``: times :math:`d` after each epoch whose monitored metric is no better than the best one
    for more than ``patience`` epochs.
    """

    def __init__(self, config: Mapping[str, Any], mode: str) -> None:
        self.name = config.get("schedule", "constant")
        self.decay, self.after = config.get("decay", 1.0), config.get("decay_after", 0)
        self.patience, self.sign = config.get("patience", 0), 1.0 if mode == "max" else -1.0
        self.factor, self.best, self.worse = 1.0, -math.inf, 0

    def start_epoch(self, epoch: int) -> None:
        """Set the factor for an epoch, counted from 0."""
        if self.name == "decay":
            self.factor = self.decay ** max(0, epoch + 1 - self.after)

    def end_epoch(self, metric: float) -> None:
        """Take the monitored metric of an epoch into account."""
        if self.name != "plateau":
            return
        if self.sign * metric > self.best:
            self.best, self.worse = self.sign * metric, 0
            return
        self.worse += 1
        if self.worse > self.patience:
            self.factor, self.worse = self.factor * self.decay, 0

    def state_dict(self) -> dict[str, float]:
        """Return what a resumed run needs."""
        return {"factor": self.factor, "best": self.best, "worse": self.worse}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it."""
        self.factor, self.best, self.worse = state["factor"], state["best"], state["worse"]


@final
class NonMonotonicAveraging(pl.Callback):
    r"""NT-ASGD (Merity et al. 2017, arXiv 1708.02182, algorithm 1): stochastic gradient descent, then its average.

    After each epoch the monitored metric is compared with the best one of the epochs before the last ``patience``; the
    first time it is worse, averaging begins: :math:`\bar w_k = \bar w_{k-1} + (w_k - \bar w_{k-1}) / k`. From then on
    validation, checkpoints and test see :math:`\bar w`, and training continues with :math:`w`.

    Args:
        monitor: the metric, ``valid/<name>``.
        mode: whether a larger (``max``) or a smaller (``min``) one is better.
        patience: the paper's n; at least 1.
    """

    def __init__(self, monitor: str, mode: str, patience: int) -> None:
        self.monitor, self.sign, self.patience = monitor, 1.0 if mode == "max" else -1.0, patience
        self.scores: list[float] = []
        self.count = 0
        self._mean: list[Tensor] = []
        self._plain: list[Tensor] = []

    @property
    def has_begun(self) -> bool:
        """Whether averaging has begun."""
        return bool(self._mean or self._plain)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Add the new weights to the average."""
        if self._mean:
            self.count += 1
            torch._foreach_lerp_(self._mean, _weights(pl_module), 1 / self.count)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the average into the model until the next epoch."""
        if self._mean:
            self._plain = [weight.detach().clone() for weight in _weights(pl_module)]
            _load_weights(pl_module, self._mean)
            self._mean = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the metric with that of earlier epochs."""
        if self.monitor not in trainer.callback_metrics:
            logged = ", ".join(trainer.callback_metrics) or "nothing"
            raise UserError(f"NonMonotonicAveraging needs the logged metric {self.monitor}, but {logged} is logged")
        score = self.sign * float(trainer.callback_metrics[self.monitor])
        earlier = self.scores[: -self.patience]
        self.scores.append(score)
        if not self.has_begun and earlier and score < max(earlier):
            self._plain = [weight.detach().clone() for weight in _weights(pl_module)]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the weights of training."""
        if self._plain:
            self._mean = [weight.detach().clone() for weight in _weights(pl_module)]
            _load_weights(pl_module, self._plain)
            self._plain = []

    def state_dict(self) -> dict[str, Any]:
        """Return the scores, and the set of weights that the checkpoint does not hold as the model.

        At the end of an epoch these are the weights of training, within an epoch the average.
        """
        kept = {"plain": self._plain, "mean": self._mean}
        return {
            "scores": self.scores,
            "count": self.count,
            **{name: [weight.detach().cpu().clone() for weight in weights] for name, weights in kept.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self.scores, self.count = list(state_dict["scores"]), state_dict["count"]
        self._plain, self._mean = list(state_dict["plain"]), list(state_dict["mean"])


def _weights(module: pl.LightningModule) -> list[Tensor]:
    return list(module.parameters())


@torch.no_grad()
def _load_weights(module: pl.LightningModule, values: list[Tensor]) -> None:
    for weight, value in zip(_weights(module), values, strict=True):
        weight.copy_(value)
