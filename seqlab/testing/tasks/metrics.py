"""Checks of a task's metrics, and of its chance line."""

from unittest import SkipTest

import torch
from torchmetrics import MetricCollection

from seqlab.testing.guesses import constants, output_shape
from seqlab.testing.suite import agree, demand
from seqlab.testing.taskdata import (
    agree_scores,
    other_inputs,
    other_targets,
    updated,
    values_of,
)
from seqlab.testing.tasks.making import SPLITS, TaskMaking


class MetricChecks(TaskMaking):
    """What is measured, and what a guess scores."""

    # The metrics --------------------------------------------------------------------------------------------------

    def test_metrics_are_finite_scalars(self) -> None:
        """Each metric is one finite number."""
        ready = self.ready()
        for split in SPLITS:
            batch = ready.batch(split)
            metrics = ready.task.metrics()
            demand(isinstance(metrics, MetricCollection), f"metrics() gives a {type(metrics).__name__}")
            for name, value in updated(metrics, self.drawn(ready.task, batch), batch.targets).compute().items():
                shape = tuple(torch.as_tensor(value).shape)
                demand(shape in ((), (1,)), f"{name} has the shape {shape}, and is no scalar")
                demand(bool(torch.as_tensor(value).isfinite().all()), f"{name} is {float(value)} on {split}")

    def test_monitor_is_a_metric(self) -> None:
        """``monitor`` is the name of a metric, and ``mode`` is min or max."""
        ready = self.ready()
        task, batch = ready.task, ready.batch()
        names = list(self.scores(task, self.drawn(task, batch), batch.targets))
        demand(task.monitor in names, f"monitor is {task.monitor!r}; the metrics are {', '.join(names)}")
        demand(task.mode in ("min", "max"), f"mode is {task.mode!r}; it must be min or max")

    def test_metrics_are_fresh(self) -> None:
        """Each call of ``metrics`` makes new ones, which know nothing of the others."""
        ready = self.ready()
        task, batch, other = ready.task, ready.batch(), ready.batch("test", 7)
        outputs, elsewhere = self.drawn(task, batch), self.drawn(task, other, 2)
        expected = self.scores(task, outputs, batch.targets)
        first = updated(task.metrics(), elsewhere, other.targets)
        second = task.metrics()
        demand(second is not first, "metrics() gives the same object at every call")
        agree_scores("of new metrics, after others", values_of(updated(second, outputs, batch.targets)), expected)

    def test_metrics_begin_anew_after_reset(self) -> None:
        """After a reset, metrics are as new."""
        ready = self.ready()
        task, batch, other = ready.task, ready.batch(), ready.batch("test", 7)
        outputs = self.drawn(task, batch)
        metrics = updated(task.metrics(), self.drawn(task, other, 2), other.targets)
        values_of(metrics)
        metrics.reset()
        got = values_of(updated(metrics, outputs, batch.targets))
        agree_scores("after a reset", got, self.scores(task, outputs, batch.targets))

    def test_metrics_add_up(self) -> None:
        """A split in two unequal batches has the metrics of the whole."""
        ready = self.ready()
        task, batch = ready.task, ready.batch()
        outputs, rows = self.drawn(task, batch), len(batch.targets)
        if rows < 2:
            raise SkipTest("the training split has one example")
        cut = max(1, rows // 5)
        metrics = updated(task.metrics(), outputs[:cut], batch.targets[:cut])
        got = values_of(updated(metrics, outputs[cut:], batch.targets[cut:]))
        expected = self.scores(task, outputs, batch.targets)
        agree_scores(f"of {cut} rows and {rows - cut} more, against all at once", got, expected)

    def test_mode_is_right(self) -> None:
        """Outputs that fit the targets are at least as good as blind ones, by ``monitor`` in the direction ``mode``."""
        right, blind, mode = self._against_blind("train")
        good = right >= blind if mode == "max" else right <= blind
        demand(good, f"mode is {mode}, but the truth scores {right:.4g}, and blind outputs {blind:.4g}")

    def _against_blind(self, split: str) -> tuple[float, float, str]:
        ready = self.ready()
        task, batch = ready.task, ready.batch(split, 1024)
        right = self.scores(task, self.perfect_outputs(task, batch), batch.targets)[task.monitor]
        blind = self.scores(task, task.blind_outputs(batch), batch.targets)[task.monitor]
        return right, blind, task.mode

    # The chance line ----------------------------------------------------------------------------------------------

    def test_baseline_is_blind(self) -> None:
        """Blind outputs are finite, of the right shape, and the same for other inputs and targets."""
        ready = self.ready()
        task = ready.task
        for split in ("test", "train"):
            batch = ready.batch(split)
            blind = task.blind_outputs(batch).clone()
            shape = output_shape(task, batch)
            demand(tuple(blind.shape) == shape, f"blind outputs are {tuple(blind.shape)}; {shape} is right")
            demand(bool(blind.isfinite().all()), f"{int((~blind.isfinite()).sum())} blind outputs are not finite")
            for what, other in (
                ("inputs", batch._replace(inputs=other_inputs(batch.inputs))),
                ("targets", batch._replace(targets=other_targets(batch.targets, task.outputs))),
            ):
                agree(f"blind outputs for other {what}", task.blind_outputs(other), blind, 1e-6)
            agree("blind outputs at a second call", task.blind_outputs(batch), blind, 1e-6)

    def test_baseline_is_the_best_guess(self) -> None:
        """No constant guess does clearly better on the training split: the chance line is not set too low."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("train", 2048)
        blind = self.scores(task, task.blind_outputs(batch), batch.targets)[task.monitor]
        share = task.mode == "max" and 0 <= blind <= 1
        margin = 1.5 / len(batch.targets) ** 0.5 if share else 0.05 * abs(blind) + 1e-6
        for what, outputs in constants(task, batch):
            guess = self.scores(task, outputs, batch.targets)[task.monitor]
            gain = guess - blind if task.mode == "max" else blind - guess
            demand(gain <= margin, f"{task.monitor} of blind outputs is {blind:.4g}; {what} has {guess:.4g}")

    def test_baseline_can_be_beaten(self) -> None:
        """On the test split, outputs that fit the targets are better than blind ones."""
        right, blind, mode = self._against_blind("test")
        better = right > blind if mode == "max" else right < blind
        demand(better, f"the truth scores {right:.4g} on the test split, and blind outputs {blind:.4g} (mode {mode})")

    def test_solved_is_a_line(self) -> None:
        """``solved`` says True or nothing of the truth, and False or nothing of blind outputs."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("test", 1024)
        for what, outputs, wrong in (
            ("the truth", self.perfect_outputs(task, batch), False),
            ("blind outputs", task.blind_outputs(batch), True),
        ):
            said = task.solved(self.scores(task, outputs, batch.targets))
            demand(said is None or isinstance(said, bool), f"solved gives a {type(said).__name__}")
            demand(said is not wrong, f"solved says {said} of {what}")
