"""The one LightningModule: any model on any task."""

from collections.abc import Callable, Mapping
from typing import Any, final

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from seqlab.contracts import Batch, Model, Task
from seqlab.recurrence import detach
from seqlab.training.optimise import make_optimizer, schedule

_SET_IN_EVERY_STEP = frozenset({"_current_fx_name", "_state", "examples", "steps"})
"""Lightning writes the first of them 50 times a step, which cost 3 % of one by ``nn.Module``'s way."""


@final
class SequenceModule(pl.LightningModule):
    """Trains a model on a task.

    Logs ``train/loss`` and ``valid/<metric>`` once an epoch. ``test`` fills :attr:`test_metrics`, :attr:`details` and
    :attr:`baseline`, the same metrics for the predictor that ignores its input.

    Attributes:
        examples, steps: examples and time steps trained on so far, padding not counted.

    Args:
        model: maps a batch to the task's outputs.
        task: loss and metrics.
        optimizer: the config of the optimiser and its schedule.
    """

    def __init__(self, model: Model, task: Task, optimizer: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.task, self.optimizer_config = model, task, dict(optimizer)
        self.valid_metrics = task.metrics()
        self.test_metrics = task.metrics()
        self.blind_metrics = task.metrics()
        self.detail_metrics: MetricCollection | None = task.details()
        self.test_results: dict[str, float] = {}
        self.baseline: dict[str, float] = {}
        self.details: dict[str, Tensor] = {}
        self._state: Any = None
        self._losses: list[Tensor] = []
        self._schedule: Callable[[int], float] | None = None
        self._rates: list[float] = []
        self.examples = 0
        self.steps = 0

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; the ones that change several times a step take the short way past ``nn.Module``."""
        if name in _SET_IN_EVERY_STEP:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Give the loss of a batch."""
        loss = self.task.loss(self._outputs(batch), batch)
        self._losses.append(loss.detach())
        rows, time = batch.inputs.shape[:2]
        self.examples += rows
        self.steps += rows * time if batch.lengths is None else int(batch.lengths.sum())
        return loss

    def _outputs(self, batch: Batch) -> Tensor:
        outputs, state = self.model(batch, self._state)
        self._state = detach(state) if self.task.carries_state else None
        return outputs  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped

    def on_train_epoch_start(self) -> None:
        """Begin anew."""
        self._state = None
        self._losses.clear()

    def on_validation_epoch_start(self) -> None:
        """Begin anew; a carried state of training waits until validation is over."""
        self._waiting, self._state = self._state, None
        self.valid_metrics.reset()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Count a batch."""
        self.valid_metrics.update(self._outputs(batch), batch.targets)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics, and the mean training loss of the epoch: one synchronisation for all its steps."""
        self._state = self._waiting
        values = self.valid_metrics.compute()
        self.log_dict({f"valid/{name}": value for name, value in values.items()})
        if self._losses:
            self.log("train/loss", torch.stack(self._losses).mean(), prog_bar=True)

    def on_test_epoch_start(self) -> None:
        """Begin anew."""
        self._state = None

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Count a batch, for the model and for the predictor that ignores the input."""
        outputs = self._outputs(batch)
        self.test_metrics.update(outputs, batch.targets)
        self.blind_metrics.update(self.task.blind_outputs(batch), batch.targets)
        if self.detail_metrics is not None:
            self.detail_metrics.update(outputs, batch.targets)

    def on_test_epoch_end(self) -> None:
        """Keep the metrics."""
        self.test_results = {name: float(value) for name, value in self.test_metrics.compute().items()}
        self.baseline = {name: float(value) for name, value in self.blind_metrics.compute().items()}
        if self.detail_metrics is not None:
            self.details = dict(self.detail_metrics.compute())
        self.log_dict({f"test/{name}": value for name, value in self.test_results.items()})

    def configure_optimizers(self) -> Optimizer:
        """Make the optimiser; its learning rate is set here at each step, as Lightning's schedulers cost 5 % of one."""
        optimizer = make_optimizer(self.optimizer_config, self.model.parameters())
        self._schedule = schedule(self.optimizer_config, self.trainer.estimated_stepping_batches)
        self._rates = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Set the learning rate of this step."""
        if self._schedule is not None:
            factor = self._schedule(self.trainer.global_step)
            for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * factor
