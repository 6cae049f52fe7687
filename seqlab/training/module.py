"""The one LightningModule: any model on any task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from seqlab.contracts import Batch, Model, StatefulTask, Task
from seqlab.contracts.task import derived_metrics, detail_metrics
from seqlab.distributed.collectives import all_gather, all_reduce_sum, reshard_counts
from seqlab.recurrence import detach, fill_state, state_tensors
from seqlab.recurrence.selection import compile_policy
from seqlab.training.nonfinite import Guard
from seqlab.training.optimizers import EpochDecay, make_optimizer, schedule

_SET_IN_EVERY_STEP = frozenset({"_batches", "_current_fx_name", "_leaves", "_loss_sum", "_state", "examples", "steps"})
"""Lightning writes the first of them 50 times a step, which cost 3 % of one by ``nn.Module``'s way."""


@final
class SequenceModule(pl.LightningModule):
    """Trains a model on a task.

    Logs ``train/loss`` and ``valid/<metric>`` once an epoch. ``test`` fills :attr:`test_metrics`, :attr:`details` and
    :attr:`baseline`, the same metrics for the predictor that ignores its input.

    Attributes:
        further: metrics of the splits beyond these, and of the predictor that ignores its input, by the split's name.
        examples, steps: examples and time steps trained on so far, padding not counted.

    Args:
        model: maps a batch to the task's outputs.
        task: loss and metrics.
        optimizer: the config of the optimiser and its schedule.
        statistics: what is known of each split.
        further: names of the splits that are scored after the test split, in the order of their loaders.
        guard: looks for losses and gradients that are no finite numbers.
    """

    def __init__(
        self,
        model: Model,
        task: Task,
        optimizer: Mapping[str, Any],
        statistics: Mapping[str, Mapping[str, Any]] | None = None,
        further: Sequence[str] = (),
        guard: Guard | None = None,
    ) -> None:
        super().__init__()
        self._guard = guard
        self.model, self.task, self.optimizer_config = model, task, dict(optimizer)
        self.valid_metrics = task.metrics()
        self.test_metrics = task.metrics()
        self.blind_metrics = task.metrics()
        self.detail_metrics: MetricCollection | None = detail_metrics(task)
        self._further = tuple(further)
        self._further_metrics = nn.ModuleList(task.metrics() for _ in (*further, *further))  # the latter half is blind
        self.further: dict[str, tuple[dict[str, float], dict[str, float]]] = {}
        self.test_results: dict[str, float] = {}
        self.baseline: dict[str, float] = {}
        self.details: dict[str, Tensor] = {}
        self._state: Any = None
        self._leaves: list[Tensor] = []
        self._loader_state: dict[str, int] | None = None
        self._loss_sum: Tensor | None = None
        self._batches = 0
        self._schedule: Callable[[int], float] | None = None
        self._rates: list[float] = []
        self._options: list[dict[str, Any]] = []
        self._decay = EpochDecay(optimizer, task.mode)
        self._statistics = statistics or {}
        self.examples = self.steps = 0

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; the ones that change several times a step take the short way past ``nn.Module``."""
        if name in _SET_IN_EVERY_STEP:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor | None:
        """Give the loss of a batch; none where the step is left out."""
        if self._guard is not None:
            self._guard.begin(batch, self._state)
        loss = self.task.loss(self._outputs(batch), batch)
        if self._looks_at(loss) and not self._guard_takes(loss):
            self._state = None
            return None
        weight = self._loader().weight
        if weight != 1:  # so that the mean over all processes is the loss of the whole batch
            loss = loss * weight
        self._add(loss.detach())
        if weight:
            rows, time = batch.inputs.shape[:2]
            self.examples += rows
            self.steps += rows * time if batch.lengths is None else int(batch.lengths.sum())
        return loss

    def _looks_at(self, loss: Tensor) -> bool:
        """Whether the loss tells more than the gradient's norm would, and without waiting for a GPU.

        Of several processes all have to take a step or none, and they share the gradient alone.
        """
        return not (self.trainer.gradient_clip_val and (loss.is_cuda or self.trainer.world_size > 1))

    def _guard_takes(self, loss: Tensor) -> bool:
        guard = self._guard
        return guard is None or guard.takes(loss, self.model, self.trainer.global_step, self.current_epoch)

    def _add(self, loss: Tensor) -> None:
        """Add up in place: a tensor kept from each step pins the heap, 16 MB a step with 10,000 outputs."""
        if self._loss_sum is None:
            self._loss_sum = torch.zeros_like(loss, dtype=torch.float64)
        self._loss_sum += loss
        self._batches += 1

    def _outputs(self, batch: Batch) -> Tensor:
        if self._leaves:
            self._state = self._remade(batch)
        outputs, state = self.model(batch, self._state)
        self._state = detach(state) if isinstance(self.task, StatefulTask) else None
        return outputs  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped

    def _remade(self, batch: Batch) -> Any:
        """Put the leaves of a checkpoint's state into the form that the model gives a state."""
        with torch.no_grad(), torch.random.fork_rng():
            form = self.model(batch, None)[1]
        saved, self._leaves = [leaf.to(self.device) for leaf in self._leaves], []
        return fill_state(form, saved)

    def on_train_epoch_start(self) -> None:
        """Begin anew."""
        self._state, self._leaves = None, []
        self._loss_sum, self._batches = None, 0
        self._decay.begin(self.current_epoch)

    def on_validation_epoch_start(self) -> None:
        """Begin anew; a carried state of training waits until validation is over."""
        self._waiting, self._state, self._leaves = (self._state, self._leaves), None, []
        self.valid_metrics.reset()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Count a batch."""
        outputs = self._outputs(batch)
        loader: Any = self.trainer.val_dataloaders
        if loader.weight:
            self.valid_metrics.update(outputs, batch.targets)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics, and the mean training loss of the epoch: one synchronisation for all its steps."""
        self._state, self._leaves = self._waiting
        values = self._computed(self.valid_metrics, "valid")
        self.log_dict({f"valid/{name}": value for name, value in values.items()})
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            self._decay.end(values[self.task.monitor])
        if self._loss_sum is not None:
            mean = all_reduce_sum(self._loss_sum) / (self._batches * self.trainer.world_size)
            self.log("train/loss", mean.float(), prog_bar=True)

    def on_test_epoch_start(self) -> None:
        """Begin anew."""
        self._state, self._leaves = None, []

    def _computed(self, metrics: MetricCollection, split: str) -> dict[str, float]:
        values = {name: float(value) for name, value in metrics.compute().items()}
        return values | derived_metrics(self.task, values, self._statistics.get(split, {}))

    def test_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        """Count a batch, for the model and for the predictor that ignores the input.

        Of running text a second loader's batches are read each by itself, and count for the details alone. Those of
        other loaders are of further splits, each of which begins with a fresh state.
        """
        loaders: Any = self.trainer.test_dataloaders
        counts = bool((loaders[dataloader_idx] if isinstance(loaders, list) else loaders).weight)
        if dataloader_idx and (not batch_index or not self._further):
            self._state = None
        outputs = self._outputs(batch)
        if not counts:
            return
        if dataloader_idx and not self._further:
            assert self.detail_metrics is not None
            self.detail_metrics.update(outputs, batch.targets)
            return
        scored, blind = self._scored(dataloader_idx)
        scored.update(outputs, batch.targets)
        blind.update(self.task.baseline_outputs(batch), batch.targets)
        if self.detail_metrics is not None and not dataloader_idx and not self._reads_apart:
            self.detail_metrics.update(outputs, batch.targets)

    def _scored(self, loader: int) -> tuple[Any, Any]:
        """Give the metrics of a test loader: of the model, and of the predictor that ignores its input."""
        if not loader:
            return self.test_metrics, self.blind_metrics
        return self._further_metrics[loader - 1], self._further_metrics[loader - 1 + len(self._further)]

    @property
    def _reads_apart(self) -> bool:
        return isinstance(self.trainer.test_dataloaders, list) and not self._further

    def on_test_epoch_end(self) -> None:
        """Keep the metrics."""
        self.test_results = self._computed(self.test_metrics, "test")
        self.baseline = self._computed(self.blind_metrics, "test")
        for place, name in enumerate(self._further, start=1):
            scored, blind = self._scored(place)
            self.further[name] = self._computed(scored, name), self._computed(blind, name)
        if self.detail_metrics is not None:
            self.details = dict(self.detail_metrics.compute())
        self.log_dict({f"test/{name}": value for name, value in self.test_results.items()})

    def configure_optimizers(self) -> Optimizer:
        """Make the optimiser; its learning rate is set here at each step, as Lightning's schedulers cost 5 % of one."""
        optimizer = make_optimizer(self.optimizer_config, self.model.parameters())
        steps = self.trainer.estimated_stepping_batches
        compile_policy.calls = int(min(steps * self.trainer.accumulate_grad_batches, 10**9))
        self._schedule = schedule(self.optimizer_config, steps)
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._options = [{key: group[key] for key in group if key != "params"} for group in optimizer.param_groups]
        return optimizer

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip by norm, which is looked at; what is not finite is not stepped along."""
        if not gradient_clip_val:
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
        scales = self.trainer.precision == "16-mixed"  # too large a scale is lowered by whoever set it
        if self._guard is None or scales:
            return
        if not self._guard.takes_gradient(float(norm), self.model, self.trainer.global_step, self.current_epoch):
            self._state = None
            optimizer.zero_grad(set_to_none=True)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Set the learning rate of this step."""
        factor = self._decay.factor
        if self._schedule is not None:
            factor *= self._schedule(self.trainer.global_step)
        if self._schedule is not None or self._decay.name in ("decay", "plateau"):
            for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * factor

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember where the learning rate is."""
        checkpoint["decay"] = self._decay.state_dict()
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        within = progress.processed < progress.ready
        checkpoint["loader"] = self._loader().state_dict() if within else None
        own = {
            "state": [leaf.cpu() for leaf in state_tensors(self._state)],
            "loss_sum": None if self._loss_sum is None else self._loss_sum.cpu(),
            "batches": self._batches,
            "examples": self.examples,
            "steps": self.steps,
        }
        checkpoint["processes"] = all_gather(own)
        checkpoint["kernels_wait"] = dict(compile_policy.reasons)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back.

        Raises:
            UserError: within an epoch, other processes go on than have stopped, and the states that they carried
                cannot be shared out among them.
        """
        self._decay.load_state_dict(checkpoint["decay"])
        compile_policy.begin(checkpoint["kernels_wait"])
        self._loader_state = checkpoint["loader"]
        saved, within = checkpoint["processes"], self._loader_state is not None
        own = reshard_counts(saved, self.trainer.global_rank, self.trainer.world_size, within=within)
        self._leaves, self._loss_sum, self._batches = own["state"], own["loss_sum"], own["batches"]
        self.examples, self.steps = own["examples"], own["steps"]

    def on_train_end(self) -> None:
        """Add up what all processes read; one of them writes it down."""
        counts = all_gather((self.examples, self.steps))
        self.examples, self.steps = (sum(numbers) for numbers in zip(*counts, strict=True))

    def _loader(self) -> Any:
        return self.trainer.train_dataloader

    def on_train_start(self) -> None:
        """Begin the first epoch where the checkpoint left it, with the optimiser's options of the config.

        Lightning makes the loader before it has read the checkpoint, and takes the options from the checkpoint.
        """
        for group, options in zip(self.trainer.optimizers[0].param_groups, self._options, strict=True):
            group.update(options)
        self._loss_sum = None if self._loss_sum is None else self._loss_sum.to(self.device)
        if self._loader_state is not None:
            self._loader().load_state_dict(self._loader_state)
            self._loader_state = None
