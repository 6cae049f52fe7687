"""LightningModule of any model on any task."""

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
from seqlab.recurrence import Recurrent, detach, fill_state, state_tensors
from seqlab.recurrence.selection import CompilePolicy
from seqlab.recurrence.torch_modules import FastModule
from seqlab.training.examples import ExampleOutputs, has_examples
from seqlab.training.nonfinite import NonFiniteGuard
from seqlab.training.optimizers import EpochDecay, make_optimizer, recurrent_parameters, schedule

CEILING, SCORE = "curriculum/ceiling", "curriculum/score"
"""Names under which the ceiling of a curriculum and the score at it are logged."""
_SET_IN_EVERY_STEP = frozenset(
    {"_batches", "_current_fx_name", "_loss_sum", "_saved_state", "_state", "examples", "steps"}
)
"""Attributes set without ``nn.Module.__setattr__``: Lightning sets one of them 50 times a step, 3 % of its time."""


@final
class SequenceModule(pl.LightningModule):
    """Train a model on a task.

    Log ``train/loss`` and ``valid/<metric>`` once an epoch, with a curriculum also ``curriculum/ceiling`` and
    ``curriculum/score``, the monitored metric at that length. ``test`` fills :attr:`test_results`, :attr:`details` and
    :attr:`baseline`, the same metrics for the input-independent baseline.

    Attributes:
        ceiling: the length at which a curriculum is validated; ``None`` without one.
        examples_of: outputs of a classification for each example of the validation and the test split.
        split: that ``test`` scores: of ``valid``, only :attr:`examples_of` is filled.
        further: metrics of further test splits, of the model and of the baseline, by the split's name.
        examples, steps: examples and time steps trained on so far, without padding.

    Args:
        model: maps a batch to the task's outputs.
        task: loss and metrics.
        optimizer: config node of the optimiser and its schedule.
        statistics: of each split.
        further: names of further test splits, in the order of their loaders.
        guard: checks losses and gradients.
    """

    def __init__(
        self,
        model: Model,
        task: Task,
        optimizer: Mapping[str, Any],
        statistics: Mapping[str, Mapping[str, Any]] | None = None,
        further: Sequence[str] = (),
        guard: NonFiniteGuard | None = None,
    ) -> None:
        super().__init__()
        self._guard, self._policy = guard, CompilePolicy()
        for part in model.modules():
            if isinstance(part, Recurrent):
                part.policy = self._policy
            elif isinstance(part, FastModule):
                part.use_policy(self._policy)
        self.model, self.task, self.optimizer_config = model, task, dict(optimizer)
        self.valid_metrics = task.metrics()
        self.test_metrics = task.metrics()
        self.baseline_metrics = task.metrics()
        self.detail_metrics: MetricCollection | None = detail_metrics(task)
        self.set_further(further)
        self.further: dict[str, tuple[dict[str, float], dict[str, float]]] = {}
        self.examples_of, self.split = ExampleOutputs(), "test"
        self.test_results: dict[str, float] = {}
        self.baseline: dict[str, float] = {}
        self.details: dict[str, Tensor] = {}
        self._state: Any = None
        self._saved_state: list[Tensor] = []
        self._loader_state: dict[str, int] | None = None
        self._loss_sum: Tensor | None = None
        self._batches = 0
        self._schedule: Callable[[int], float] | None = None
        self._rates: list[float] = []
        self._options: list[dict[str, Any]] = []
        self._decay = EpochDecay(optimizer, task.mode)
        self._statistics = statistics or {}
        self.examples = self.steps = 0
        self.ceiling: int | None = None

    def set_further(self, further: Sequence[str]) -> None:
        """Choose the further test splits, in the order of their loaders."""
        self._further = tuple(further)
        self._further_metrics = nn.ModuleList(self.task.metrics() for _ in (*further, *further))  # model, then baseline

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, those that change several times a step without ``nn.Module``'s checks."""
        if name in _SET_IN_EVERY_STEP:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor | None:
        """Return the loss of a batch; ``None`` where the step is skipped."""
        if self._guard is not None:
            self._guard.start_step(batch, self._state)
        loss = self.task.loss(self._outputs(batch), batch)
        if not self._accepts(loss):
            self._state = None
            return None
        weight = self._loader().weight
        if weight != 1:  # so that the mean over all ranks is the loss of the whole batch
            loss = loss * weight
        self.count(loss.detach(), batch, weight)
        return loss

    def count(self, loss: Tensor, batch: Batch, weight: float = 1) -> None:
        """Count the loss of a step, its examples and its time steps; nothing of a batch of weight 0 but the loss."""
        self._add_loss(loss)
        if weight:
            rows, time = batch.inputs.shape[:2]
            self.examples += rows
            self.steps += rows * time if batch.lengths is None else int(batch.lengths.sum())

    def _accepts(self, loss: Tensor) -> bool:
        """Check the loss, unless the clipped gradient is checked instead.

        Reading the loss would wait for a GPU, and all ranks have to skip a step together: they share the gradient only.
        """
        if self.trainer.gradient_clip_val and (loss.is_cuda or self.trainer.world_size > 1):
            return True
        guard = self._guard
        return guard is None or guard.accepts_loss(loss, self.model, self.trainer.global_step, self.current_epoch)

    def _add_loss(self, loss: Tensor) -> None:
        """Sum in place: a tensor kept from each step fragments the heap, 16 MB a step with 10,000 outputs."""
        if self._loss_sum is None:
            self._loss_sum = torch.zeros_like(loss, dtype=torch.float64)
        self._loss_sum += loss
        self._batches += 1

    def _outputs(self, batch: Batch) -> Tensor:
        if self._saved_state:
            self._state = self._restored_state(batch)
        outputs, state = self.model(batch, self._state)
        self._state = detach(state) if isinstance(self.task, StatefulTask) else None
        return outputs  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped

    def _restored_state(self, batch: Batch) -> Any:
        """Return the checkpoint's state tensors in the structure of the model's state."""
        with torch.no_grad(), torch.random.fork_rng():
            structure = self.model(batch, None)[1]
        saved, self._saved_state = [value.to(self.device) for value in self._saved_state], []
        return fill_state(structure, saved)

    def on_train_epoch_start(self) -> None:
        """Reset state and loss."""
        self._state, self._saved_state = None, []
        self._loss_sum, self._batches = None, 0
        self._decay.start_epoch(self.current_epoch)

    def on_validation_epoch_start(self) -> None:
        """Reset the metrics, and set the carried state of training aside."""
        self._training_state, self._state, self._saved_state = (self._state, self._saved_state), None, []
        self.valid_metrics.reset()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Score a batch."""
        outputs = self._outputs(batch)
        loader: Any = self.trainer.val_dataloaders
        if loader.weight:
            self.valid_metrics.update(outputs, batch.targets)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics, and the mean training loss of the epoch, with one synchronisation for all its steps."""
        self._state, self._saved_state = self._training_state
        values = self._computed(self.valid_metrics, "valid")
        self.log_dict({f"valid/{name}": value for name, value in values.items()})
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            self._decay.end_epoch(values[self.task.monitor])
        if self.ceiling is not None:
            self.log_dict({CEILING: float(self.ceiling), SCORE: values[self.task.monitor]})
        if self._loss_sum is not None:
            mean = all_reduce_sum(self._loss_sum) / (self._batches * self.trainer.world_size)
            self.log("train/loss", mean.float(), prog_bar=True)

    def on_test_epoch_start(self) -> None:
        """Reset the state."""
        self._state, self._saved_state = None, []

    def _computed(self, metrics: MetricCollection, split: str) -> dict[str, float]:
        values = {name: float(value) for name, value in metrics.compute().items()}
        return values | derived_metrics(self.task, values, self._statistics.get(split, {}))

    def test_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        """Score a batch, for the model and for the baseline.

        With running text, a second loader's batches are read independently and enter the details only. Other loaders
        are of further splits, each of which starts with a fresh state.
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
        if not dataloader_idx and has_examples(self.task):
            self.examples_of.add(loaders[0] if isinstance(loaders, list) else loaders, outputs, batch)
        if self.split != "test":
            return
        metrics, baseline = self._test_metrics(dataloader_idx)
        metrics.update(outputs, batch.targets)
        baseline.update(self.task.baseline_outputs(batch), batch.targets)
        has_detail_loader = isinstance(loaders, list) and not self._further
        if self.detail_metrics is not None and not dataloader_idx and not has_detail_loader:
            self.detail_metrics.update(outputs, batch.targets)

    def _test_metrics(self, loader: int) -> tuple[Any, Any]:
        """Return the metrics of a test loader: of the model, and of the baseline."""
        if not loader:
            return self.test_metrics, self.baseline_metrics
        return self._further_metrics[loader - 1], self._further_metrics[loader - 1 + len(self._further)]

    def on_test_epoch_end(self) -> None:
        """Compute the metrics."""
        self.examples_of.close(self.split)
        if self.split != "test":
            return
        self.test_results = self._computed(self.test_metrics, "test")
        self.baseline = self._computed(self.baseline_metrics, "test")
        for loader, name in enumerate(self._further, start=1):
            metrics, baseline = self._test_metrics(loader)
            self.further[name] = self._computed(metrics, name), self._computed(baseline, name)
        if self.detail_metrics is not None:
            self.details = dict(self.detail_metrics.compute())
        self.log_dict({f"test/{name}": value for name, value in self.test_results.items()})

    def configure_optimizers(self) -> Optimizer:
        """Build the optimiser; its rate is set before each step, as Lightning's schedulers cost 5 % of one."""
        optimizer = make_optimizer(self.optimizer_config, self.model.parameters(), recurrent_parameters(self.model))
        steps = self.trainer.estimated_stepping_batches
        self._policy.calls = int(min(steps * self.trainer.accumulate_grad_batches, 10**9))
        self._schedule = schedule(self.optimizer_config, steps)
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._options = [{key: group[key] for key in group if key != "params"} for group in optimizer.param_groups]
        return optimizer

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip by norm, and skip a step whose norm is not finite."""
        if not gradient_clip_val:
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
        if self._guard is None or self.trainer.precision == "16-mixed":  # the gradient scaler skips such steps itself
            return
        if not self._guard.accepts_gradient(float(norm), self.model, self.trainer.global_step, self.current_epoch):
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
        """Add the rate's decay, the loader's position, the counts and state of each rank, and the compile policy."""
        checkpoint["decay"] = self._decay.state_dict()
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        within = progress.processed < progress.ready
        checkpoint["loader"] = self._loader().state_dict() if within else None
        own = {
            "state": [value.cpu() for value in state_tensors(self._state)],
            "loss_sum": None if self._loss_sum is None else self._loss_sum.cpu(),
            "batches": self._batches,
            "examples": self.examples,
            "steps": self.steps,
        }
        checkpoint["processes"] = all_gather(own)
        checkpoint["kernels_wait"] = dict(self._policy.reasons)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore it.

        Raises:
            UserError: the number of ranks changed within an epoch while a state is carried.
        """
        self._decay.load_state_dict(checkpoint["decay"])
        self._policy.reasons = dict(checkpoint["kernels_wait"])
        self._loader_state = checkpoint["loader"]
        saved, within = checkpoint["processes"], self._loader_state is not None
        own = reshard_counts(saved, self.trainer.global_rank, self.trainer.world_size, within=within)
        self._saved_state, self._loss_sum, self._batches = own["state"], own["loss_sum"], own["batches"]
        self.examples, self.steps = own["examples"], own["steps"]

    def on_train_end(self) -> None:
        """Sum the counts over all ranks."""
        counts = all_gather((self.examples, self.steps))
        self.examples, self.steps = (sum(numbers) for numbers in zip(*counts, strict=True))

    def _loader(self) -> Any:
        return self.trainer.train_dataloader

    def on_train_start(self) -> None:
        """Restore the loader's position, and the optimiser's options of the config.

        Lightning builds the loader before it reads the checkpoint, and takes the options from the checkpoint.
        """
        for group, options in zip(self.trainer.optimizers[0].param_groups, self._options, strict=True):
            group.update(options)
        self._loss_sum = None if self._loss_sum is None else self._loss_sum.to(self.device)
        if self._loader_state is not None:
            self._loader().load_state_dict(self._loader_state)
            self._loader_state = None
