"""Checks of a task's metrics."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from seqlab.contracts import Batch, Task
from seqlab.testing.suite import agree, demand
from seqlab.testing.taskdata import agree_scores, updated, values_of
from seqlab.testing.tasks.making import SPLITS, TaskMaking


class MetricChecks(TaskMaking):
    """What is measured."""

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

    def test_derived_figures_are_numbers(self) -> None:
        """``derived`` makes numbers of metrics, changes none of them, and does without the statistics of a corpus."""
        ready = self.ready()
        task, batch = ready.task, ready.batch()
        scores = self.scores(task, self.drawn(task, batch), batch.targets)
        given = dict(scores)
        try:
            found = task.derived(given, {})
        except Exception as error:
            raise AssertionError(
                f"derived fails on the metrics {', '.join(scores)} without statistics: {type(error).__name__}: {error}"
            ) from error
        demand(given == scores, "derived changes the metrics that it is given")
        demand(isinstance(found, dict), f"derived gives a {type(found).__name__}, and no dict")
        for name, value in found.items():
            demand(isinstance(value, int | float), f"the derived figure {name} is a {type(value).__name__}")
            demand(value == scores.get(name, value), f"derived gives {name} another value than the metric has")

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
        """Metrics of a split in batches are those of the whole, whatever the sizes and the order; details too."""
        ready = self.ready()
        task, batch = ready.task, ready.batch()
        outputs = self.drawn(task, batch)
        cuts = _cuts(len(batch.targets))
        parts = list(pairwise(cuts))
        expected = self.scores(task, outputs, batch.targets)
        for what, order in (("in order", parts), ("in reverse", parts[::-1])):
            metrics = task.metrics()
            for low, high in order:
                metrics.update(outputs[low:high], batch.targets[low:high])
            sizes = ", ".join(str(high - low) for low, high in order)
            got = values_of(metrics)
            agree_scores(f"of batches of {sizes} rows, {what}, against all at once", got, expected)
            agree_scores("at a second compute()", values_of(metrics), got)
        metrics = task.metrics()
        for low, high in parts:
            metrics.update(outputs[low:high], batch.targets[low:high])
            metrics.compute()
        agree_scores("that were computed after each batch, against all at once", values_of(metrics), expected)
        often = task.metrics()[task.monitor]
        for _ in range(40):
            often.update(outputs, batch.targets)
        agree(f"{task.monitor} of the same rows 40 times", often.compute().float(), _once(task, expected), 1e-2)
        turned = self.scores(task, outputs.flip(0), batch.targets.flip(0))
        agree_scores("of the rows in reverse order", turned, expected)
        self._check_details(task, outputs, batch, parts)

    @staticmethod
    def _check_details(task: Task, outputs: Tensor, batch: Batch, parts: Sequence[tuple[int, int]]) -> None:
        if (whole := task.details()) is None:
            return
        pieces = task.details()
        assert pieces is not None
        whole.update(outputs, batch.targets)
        for low, high in parts:
            pieces.update(outputs[low:high], batch.targets[low:high])
        found = pieces.compute()
        for name, value in whole.compute().items():
            if isinstance(value, Tensor):
                agree(f"the detail {name} of batches, against all at once", found[name], value, 1e-4)

    def test_metrics_join(self) -> None:
        """Metrics of two processes, joined as torchmetrics joins them, are those of the whole."""
        ready = self.ready()
        task, batch = ready.task, ready.batch()
        outputs, cut = self.drawn(task, batch), max(1, len(batch.targets) // 3)
        expected = updated(task.metrics(), outputs, batch.targets).compute()
        here = updated(task.metrics(), outputs[:cut], batch.targets[:cut])
        there = updated(task.metrics(), outputs[cut:], batch.targets[cut:])
        for name, metric in here.items(keep_base=True):
            got = joined(metric, there[name])
            agree(
                f"{name} of two processes, joined (add_state with dist_reduce_fx?), against one",
                torch.as_tensor(got), torch.as_tensor(expected[name]), 1e-4,
            )  # fmt: skip

    def test_mode_is_right(self) -> None:
        """By ``mode``, outputs that fit the targets are better than drawn ones and no worse than blind ones."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("train", 1024)
        right = self.scores(task, self.perfect_outputs(task, batch), batch.targets)[task.monitor]
        blind = self.scores(task, task.blind_outputs(batch), batch.targets)[task.monitor]
        drawn = self.scores(task, self.drawn(task, batch), batch.targets)[task.monitor]
        good = right >= blind if task.mode == "max" else right <= blind
        demand(good, f"mode is {task.mode}, but the truth scores {right:.4g}, and blind outputs {blind:.4g}")
        good = right > drawn if task.mode == "max" else right < drawn
        demand(good, f"mode is {task.mode}, but the truth scores {right:.4g}, and outputs at random {drawn:.4g}")

    def test_nothing_changes_in_place(self) -> None:
        """Metrics, blind outputs and ``decode`` leave outputs, inputs and targets as they were."""
        ready = self.ready()
        task, batch = ready.task, ready.batch()
        outputs = self.drawn(task, batch)
        named = {"outputs": outputs, "inputs": batch.inputs, "targets": batch.targets}
        if batch.lengths is not None:
            named["lengths"] = batch.lengths
        for what, use in (
            ("a metric's update", lambda: updated(task.metrics(), outputs, batch.targets).compute()),
            ("blind_outputs", lambda: task.blind_outputs(batch)),
            ("decode", lambda: task.decode(outputs, 1)),
        ):
            before = {name: tensor.clone() for name, tensor in named.items()}
            use()
            for name, tensor in named.items():
                same = torch.equal(tensor.nan_to_num(), before[name].nan_to_num())
                demand(same, f"the {name} were changed by {what}")


def _once(task: Task, scores: Mapping[str, float]) -> Tensor:
    return torch.tensor(scores[task.monitor])


def _cuts(rows: int) -> list[int]:
    """Cut rows into batches of unequal sizes, the first and the last of them small."""
    return sorted({0, min(1, rows), min(18, rows), rows // 3, max(0, rows - 5), rows})


def joined(metric: Any, other: Any) -> Any:
    """Compute a metric whose states were gathered from two processes, of which this is the first."""
    sent: list[Tensor] = []

    def send(tensor: Tensor, *_: Any, **__: Any) -> list[Tensor]:
        sent.append(tensor)
        return [tensor]

    def gather(tensor: Tensor, *_: Any, **__: Any) -> list[Tensor]:
        return [tensor, sent.pop(0)]

    for each, function in ((other, send), (metric, gather)):
        each.dist_sync_fn, each.distributed_available_fn = function, lambda: True
        each._computed = None
        value = each.compute()
    return value
