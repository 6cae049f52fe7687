"""Checks of a task's metrics and of its baseline."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from seqlab.contracts import Task
from seqlab.contracts.task import derived_metrics, detail_metrics, is_solved
from seqlab.testing.suite import assert_close, require
from seqlab.testing.tasks.data import TaskBase, assert_scores_close
from seqlab.testing.tasks.examples import (
    SPLITS,
    PreparedTask,
    constant_outputs,
    counted_targets,
    has_classes,
    is_class,
    other_targets,
    output_shape,
    targets_of,
    valid_steps,
)


class MetricChecks(TaskBase):
    """Metrics are finite, independent of batches, and improve with the outputs."""

    def test_metrics_are_finite_scalars(self) -> None:
        """Each metric is one finite number."""
        ready = self.ready()
        for split in SPLITS:
            batch, metrics = ready.batch(split), ready.task.metrics()
            require(isinstance(metrics, MetricCollection), f"metrics() returns a {type(metrics).__name__}")
            metrics.update(self.random_outputs(ready.task, batch), batch.targets)
            for name, value in metrics.compute().items():
                shape = tuple(torch.as_tensor(value).shape)
                require(shape in ((), (1,)), f"{name} has the shape {shape}; it must be a scalar")
                require(bool(torch.as_tensor(value).isfinite().all()), f"{name} is {float(value)} on {split}")

    def test_monitor_is_a_metric(self) -> None:
        """``monitor`` is the name of a metric, and ``mode`` is min or max."""
        task, batch = self.case()
        names = list(self.scores(task, self.random_outputs(task, batch), batch.targets))
        require(task.monitor in names, f"monitor is {task.monitor!r}; the metrics are {', '.join(names)}")
        require(task.mode in ("min", "max"), f"mode is {task.mode!r}; it must be min or max")

    def test_derived_figures_are_numbers(self) -> None:
        """``derived`` makes numbers of metrics, changes none of them, and needs no statistics of a corpus."""
        task, batch = self.case()
        scores = self.scores(task, self.random_outputs(task, batch), batch.targets)
        given = dict(scores)
        try:
            found = derived_metrics(task, given, {})
        except Exception as error:
            what = f"derived fails on the metrics {', '.join(scores)} without statistics"
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        require(given == scores, "derived changes the metrics that it is given")
        require(isinstance(found, dict), f"derived returns a {type(found).__name__}, not a dict")
        for name, value in found.items():
            require(isinstance(value, int | float), f"the derived metric {name} is a {type(value).__name__}")
            require(value == scores.get(name, value), f"derived gives {name} another value than the metric has")

    def test_metrics_are_fresh(self) -> None:
        """Each call of ``metrics`` makes new ones, which know nothing of the others; so are metrics after a reset."""
        ready = self.ready()
        task, batch, other = ready.task, ready.batch(), ready.batch("test", 7)
        outputs, elsewhere = self.random_outputs(task, batch), self.random_outputs(task, other, 2)
        expected = self.scores(task, outputs, batch.targets)
        first = task.metrics()
        first.update(elsewhere, other.targets)
        require(task.metrics() is not first, "metrics() returns the same object at every call")
        assert_scores_close("of new metrics, after others", self.scores(task, outputs, batch.targets), expected)
        first.compute()
        first.reset()
        first.update(outputs, batch.targets)
        assert_scores_close("after a reset", first.compute(), expected)

    def test_metrics_add_up(self) -> None:
        """Metrics of a split in batches are those of the whole, whatever the sizes and the order; details too."""
        task, batch = self.case()
        outputs, rows = self.random_outputs(task, batch), len(batch.targets)
        parts = list(pairwise(sorted({0, min(1, rows), min(18, rows), rows // 3, max(0, rows - 5), rows})))
        expected = self.scores(task, outputs, batch.targets)
        sizes = ", ".join(str(high - low) for low, high in parts)
        for what, order, each in (
            ("in order", parts, False),
            ("in reverse", parts[::-1], False),
            ("computed after each", parts, True),
        ):
            metrics = task.metrics()
            for low, high in order:
                metrics.update(outputs[low:high], batch.targets[low:high])
                if each:
                    metrics.compute()
            got = metrics.compute()
            assert_scores_close(f"of batches of {sizes} rows, {what}, against all at once", got, expected)
            assert_scores_close("at a second compute()", metrics.compute(), got)
        often = task.metrics()[task.monitor]
        for _ in range(40):
            often.update(outputs, batch.targets)
        once = torch.tensor(expected[task.monitor])
        assert_close(f"{task.monitor} of the same rows 40 times", often.compute().float(), once, 1e-2)
        turned = self.scores(task, outputs.flip(0), batch.targets.flip(0))
        assert_scores_close("of the rows in reverse order", turned, expected)
        if (whole := detail_metrics(task)) is not None and (pieces := detail_metrics(task)) is not None:
            whole.update(outputs, batch.targets)
            for low, high in parts:
                pieces.update(outputs[low:high], batch.targets[low:high])
            found = pieces.compute()
            for name, value in whole.compute().items():
                if isinstance(value, Tensor):
                    assert_close(f"the detail {name} of batches, against all at once", found[name], value, 1e-4)

    def test_metrics_join(self) -> None:
        """Metrics of two processes, joined as torchmetrics joins them, are those of the whole."""
        task, batch = self.case()
        outputs, cut = self.random_outputs(task, batch), max(1, len(batch.targets) // 3)
        whole, here, there = task.metrics(), task.metrics(), task.metrics()
        for metrics, part in ((whole, slice(None)), (here, slice(cut)), (there, slice(cut, None))):
            metrics.update(outputs[part], batch.targets[part])
        expected = whole.compute()
        for name, metric in here.items(keep_base=True):
            got = torch.as_tensor(_joined(metric, there[name]))
            what = f"{name} of two processes, joined (add_state with dist_reduce_fx?), against one"
            assert_close(what, got, torch.as_tensor(expected[name]), 1e-4)

    def test_mode_is_right(self) -> None:
        """By ``mode``, outputs that fit the targets beat random ones, and on the test split the baseline."""
        for split in ("train", "test"):
            task, batch = self.case(split, 1024)
            others = {"the baseline": task.baseline_outputs(batch), "random ones": self.random_outputs(task, batch)}
            right = self.monitored(task, self.perfect_outputs(task, batch), batch)
            for what, outputs in others.items():
                score = self.monitored(task, outputs, batch)
                better = right > score if task.mode == "max" else right < score
                fault = f"mode is {task.mode}, but on {split} perfect outputs score {right:.4g}, and {what} {score:.4g}"
                require(better or (right == score and (split, what) == ("train", "the baseline")), fault)

    def test_nothing_changes_in_place(self) -> None:
        """Loss, metrics, baseline outputs and ``decode`` leave outputs, inputs and targets as they were."""
        task, batch = self.case()
        outputs = self.random_outputs(task, batch)
        named = {"outputs": outputs, "inputs": batch.inputs, "targets": batch.targets}
        if batch.lengths is not None:
            named["lengths"] = batch.lengths
        for what, use in (
            ("the loss", lambda: task.loss(outputs, batch)),
            ("a metric's update", lambda: self.scores(task, outputs, batch.targets)),
            ("baseline_outputs", lambda: task.baseline_outputs(batch)),
            ("decode", lambda: task.decode(outputs, 1)),
        ):
            before = {name: tensor.clone() for name, tensor in named.items()}
            use()
            for name, tensor in named.items():
                same = torch.equal(tensor.nan_to_num(), before[name].nan_to_num())
                require(same, f"{what} changes the {name} in place")


def _joined(metric: Any, other: Any) -> Any:
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


class BaselineChecks(TaskBase):
    """The baseline ignores the input and is as good as a constant can be; ``solved`` lies above it."""

    def test_baseline_ignores_the_input(self) -> None:
        """Baseline outputs are finite, of the right shape, the same for all rows and for other inputs and targets."""
        ready = self.ready()
        task = ready.task
        for split in ("test", "train"):
            batch = ready.batch(split)
            outputs = task.baseline_outputs(batch).clone()
            shape = output_shape(task, batch)
            require(tuple(outputs.shape) == shape, f"baseline outputs are {tuple(outputs.shape)}, not {shape}")
            odd = int((~outputs.isfinite()).sum())
            require(not odd, f"{odd} baseline outputs are not finite")
            x = batch.inputs
            changed = 1 - 2 * x if x.is_floating_point() else torch.where(x > 0, int(x.max()) + 1 - x, x)
            for what, other in (
                ("for other inputs", batch._replace(inputs=changed)),
                ("for other targets", batch._replace(targets=other_targets(batch.targets, max(task.outputs, 2)))),
                ("at a second call", batch),
            ):
                assert_close(f"baseline outputs {what}", task.baseline_outputs(other), outputs, 1e-6)
            there = valid_steps(batch).unsqueeze(-1) if task.per_step else torch.ones_like(outputs, dtype=torch.bool)
            longest = int(there.flatten(1).sum(1).argmax())
            expected = torch.where(there, outputs[longest], outputs)
            assert_close("baseline outputs of other rows than one", outputs, expected, 1e-6)

    def test_baseline_is_the_best_guess(self) -> None:
        """No constant is clearly better on the training split: the baseline is not too weak."""
        task, batch = self.case("train", 2048)
        baseline = self.monitored(task, task.baseline_outputs(batch), batch)
        share = task.mode == "max" and 0 <= baseline <= 1
        margin = 1.5 / len(batch.targets) ** 0.5 if share else 0.05 * abs(baseline) + 1e-6
        for what, outputs in constant_outputs(task, batch):
            guess = self.monitored(task, outputs, batch)
            gain = guess - baseline if task.mode == "max" else baseline - guess
            require(gain <= margin, f"{task.monitor} of the baseline is {baseline:.4g}; {what} has {guess:.4g}")

    def test_baseline_comes_from_training(self) -> None:
        """Baseline outputs are computed from the targets of train, not from those of valid or test."""
        ready = self.ready()
        task = ready.task
        outputs = task.baseline_outputs(ready.batch("test", 8))[0]
        if task.per_step:
            outputs = outputs.mean(0)  # the same at each step, or else compared in the mean
        outputs = outputs.double().flatten()
        known = {name: _targets(task, ready, name) for name in SPLITS}
        distance = _distance_to_shares if has_classes(task, ready.batch("train")) else _distance_to_numbers
        if float(outputs.max() - outputs.min()) < _EXACT and len(outputs) > 1:
            return  # all the same, as of classes that are balanced on purpose
        sources = {"train": ("train",), "all splits": SPLITS, "valid": ("valid",), "test": ("test",)}
        away = {
            what: distance(task, outputs, torch.cat([known[name] for name in names])) for what, names in sources.items()
        }
        for name, value in away.items():
            fault = f"baseline outputs are the shares (or mean) of the targets of {name}, and not of train"
            require(value > _EXACT or away["train"] < 10 * _EXACT, fault)

    def test_solved_is_a_threshold(self) -> None:
        """``solved`` is True or None for perfect outputs, and False or None for the baseline and NaN."""
        task, batch = self.case("test", 1024)
        perfect = self.scores(task, self.perfect_outputs(task, batch), batch.targets)
        baseline = self.scores(task, task.baseline_outputs(batch), batch.targets)
        for what, scores, wrong in (
            ("the metrics of perfect outputs", perfect, False),
            ("the metrics of the baseline", baseline, True),
            ("metrics that are all NaN", dict.fromkeys(perfect, float("nan")), True),
        ):
            solved = is_solved(task, scores)
            require(solved is None or isinstance(solved, bool), f"solved returns a {type(solved).__name__}")
            require(solved is not wrong, f"solved returns {solved} for {what}")


_EXACT = 2e-6
_MOST = 20_000


def _distance_to_shares(task: Task, outputs: Tensor, targets: Tensor) -> float:
    """Return the distance of class scores to the shares of the classes, also with some more examples of each class."""
    shares = outputs.softmax(-1) if task.outputs > 1 else torch.cat([1 - outputs.sigmoid(), outputs.sigmoid()])
    found = torch.bincount(targets, minlength=len(shares)).double()
    more = {0.0, 0.5, 1.0, 2.0}
    if len(found) > 2:  # of two classes any share is that of some number of further examples
        off, slope = found - len(targets) * shares, len(found) * shares - 1
        more.add(max(0.0, float((off * slope).sum() / (slope * slope).sum().clamp(min=1e-12))))
    known = [(found + extra) / (found + extra).sum() for extra in more]
    return min(float((shares - one).abs().max()) for one in known)


def _distance_to_numbers(task: Task, outputs: Tensor, targets: Tensor) -> float:
    """Return the distance of outputs to the mean or median of the targets, or to the share of each of many labels."""
    if not targets.is_floating_point():
        if targets.dim() > 1 or not len(targets) or int(targets.max()) != task.outputs:
            return torch.inf
        above = (targets.unsqueeze(1) > torch.arange(task.outputs)).double()  # ordinal: one output for each step up
        return float((outputs.sigmoid() - above.mean(0)).abs().max())
    columns = targets.double().reshape(len(targets), -1)
    known = [columns.mean(0), columns.median(0).values]
    scale = float(columns.abs().max().clamp(min=1e-6))
    if columns.shape[1] == len(outputs):
        return min(float((one - kind).abs().max()) for kind in known for one in (outputs, outputs.sigmoid())) / scale
    if columns.shape[1] == 1:  # one of several outputs, such as the mean of a distribution
        return min(float((outputs - kind).abs().min()) for kind in known) / scale
    return torch.inf


def _targets(task: Task, ready: PreparedTask, name: str) -> Tensor:
    """Return the targets of a split that count."""
    if task.per_step:
        batch = ready.batch(name, _MOST)
        return targets_of(task, batch)[counted_targets(task, batch)]
    targets = ready.splits[name].targets
    return targets[targets >= 0] if is_class(targets) else targets
