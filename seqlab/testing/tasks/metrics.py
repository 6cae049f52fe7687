"""Checks of a task's metrics."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from seqlab.contracts import Batch, Task
from seqlab.contracts.task import derived_metrics, detail_metrics, is_solved
from seqlab.testing.hints import constants, has_classes, is_class, live, output_shape, targets_of
from seqlab.testing.inputs import Ready, agree_scores, other_inputs, other_targets, updated, values_of
from seqlab.testing.suite import agree, demand
from seqlab.testing.tasks.data import SPLITS, TaskMaking
from seqlab.testing.tasks.means import counts


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
            found = derived_metrics(task, given, {})
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
        if (whole := detail_metrics(task)) is None:
            return
        pieces = detail_metrics(task)
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
        blind = self.scores(task, task.baseline_outputs(batch), batch.targets)[task.monitor]
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
            ("baseline_outputs", lambda: task.baseline_outputs(batch)),
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


class BaselineChecks(TaskMaking):
    """The input-independent baseline, and the line from which on a task is solved."""

    def test_baseline_is_blind(self) -> None:
        """Blind outputs are finite, of the right shape, the same for all rows and for other inputs and targets."""
        ready = self.ready()
        task = ready.task
        for split in ("test", "train"):
            batch = ready.batch(split)
            blind = task.baseline_outputs(batch).clone()
            shape = output_shape(task, batch)
            demand(tuple(blind.shape) == shape, f"blind outputs are {tuple(blind.shape)}; {shape} is right")
            demand(bool(blind.isfinite().all()), f"{int((~blind.isfinite()).sum())} blind outputs are not finite")
            for what, other in (
                ("inputs", batch._replace(inputs=other_inputs(batch.inputs))),
                ("targets", batch._replace(targets=other_targets(batch.targets, task.outputs))),
            ):
                agree(f"blind outputs for other {what}", task.baseline_outputs(other), blind, 1e-6)
            agree("blind outputs at a second call", task.baseline_outputs(batch), blind, 1e-6)
            there = live(batch).unsqueeze(-1) if task.per_step else torch.ones_like(blind, dtype=torch.bool)
            longest = int(there.flatten(1).sum(1).argmax())
            expected = torch.where(there, blind[longest], blind)
            agree("blind outputs of other rows than one", blind, expected, 1e-6)

    def test_baseline_is_the_best_guess(self) -> None:
        """No constant guess does clearly better on the training split: the chance line is not set too low."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("train", 2048)
        blind = self.scores(task, task.baseline_outputs(batch), batch.targets)[task.monitor]
        share = task.mode == "max" and 0 <= blind <= 1
        margin = 1.5 / len(batch.targets) ** 0.5 if share else 0.05 * abs(blind) + 1e-6
        for what, outputs in constants(task, batch):
            guess = self.scores(task, outputs, batch.targets)[task.monitor]
            gain = guess - blind if task.mode == "max" else blind - guess
            demand(gain <= margin, f"{task.monitor} of blind outputs is {blind:.4g}; {what} has {guess:.4g}")

    def test_baseline_is_of_training(self) -> None:
        """What blind outputs know of the targets is of the training split, and not of valid or test."""
        ready = self.ready()
        task = ready.task
        blind = task.baseline_outputs(ready.batch("test", 8))[0]
        if task.per_step:
            blind = blind.mean(0)  # the same at each step, or else compared in the mean
        said = blind.double().flatten()
        known = {name: _targets(task, ready, name) for name in SPLITS}
        distance_to = _from_shares if _classes(task, ready) else _from_numbers
        away = {
            what: distance_to(task, said, torch.cat([known[name] for name in names]))
            for what, names in _SOURCES.items()
        }
        if float(said.max() - said.min()) < _EXACT and len(said) > 1:
            return  # all the same, as of classes that are balanced on purpose
        for name, distance in away.items():
            demand(
                distance > _EXACT or away["train"] < 10 * _EXACT,
                f"blind outputs are the shares (or mean) of the targets of {name}, and not of train",
            )

    def test_baseline_can_be_beaten(self) -> None:
        """On the test split, outputs that fit the targets are better than blind ones."""
        right, blind, mode = self._against_blind("test")
        better = right > blind if mode == "max" else right < blind
        demand(better, f"the truth scores {right:.4g} on the test split, and blind outputs {blind:.4g} (mode {mode})")

    def _against_blind(self, split: str) -> tuple[float, float, str]:
        ready = self.ready()
        task, batch = ready.task, ready.batch(split, 1024)
        right = self.scores(task, self.perfect_outputs(task, batch), batch.targets)[task.monitor]
        blind = self.scores(task, task.baseline_outputs(batch), batch.targets)[task.monitor]
        return right, blind, task.mode

    def test_solved_is_a_line(self) -> None:
        """``solved`` says True or nothing of the truth, and False or nothing of blind outputs and of NaN."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("test", 1024)
        truth = self.scores(task, self.perfect_outputs(task, batch), batch.targets)
        blind = self.scores(task, task.baseline_outputs(batch), batch.targets)
        for what, scores, wrong in (
            ("the truth", truth, False),
            ("blind outputs", blind, True),
            ("metrics that are all NaN", dict.fromkeys(truth, float("nan")), True),
        ):
            said = is_solved(task, scores)
            demand(said is None or isinstance(said, bool), f"solved gives a {type(said).__name__}")
            demand(said is not wrong, f"solved says {said} of {what}")


_EXACT = 2e-6
_MOST = 20_000
_SOURCES = {"train": ("train",), "all splits": ("train", "valid", "test"), "valid": ("valid",), "test": ("test",)}


def _from_shares(task: Task, said: Tensor, targets: Tensor) -> float:
    """Give the distance of class scores to the shares of the classes, also with some more examples of each class."""
    shares = said.softmax(-1) if task.outputs > 1 else torch.cat([1 - said.sigmoid(), said.sigmoid()])
    found = torch.bincount(targets, minlength=len(shares)).double()
    more = {0.0, 0.5, 1.0, 2.0}
    if len(found) > 2:  # of two classes any share is that of some number of further examples
        off, slope = found - len(targets) * shares, len(found) * shares - 1
        more.add(max(0.0, float((off * slope).sum() / (slope * slope).sum().clamp(min=1e-12))))
    known = [(found + extra) / (found + extra).sum() for extra in more]
    return min(float((shares - one).abs().max()) for one in known)


def _from_numbers(task: Task, said: Tensor, targets: Tensor) -> float:
    """Give the distance of outputs to the mean or median of the targets, or to the share of each of many labels."""
    if not targets.is_floating_point():
        if targets.dim() > 1 or not len(targets) or int(targets.max()) != task.outputs:
            return torch.inf
        above = (targets.unsqueeze(1) > torch.arange(task.outputs)).double()  # ordinal: one output for each step up
        return float((said.sigmoid() - above.mean(0)).abs().max())
    columns = targets.double().reshape(len(targets), -1)
    known = [columns.mean(0), columns.median(0).values]
    scale = float(columns.abs().max().clamp(min=1e-6))
    if columns.shape[1] == len(said):
        return min(float((one - kind).abs().max()) for kind in known for one in (said, said.sigmoid())) / scale
    if columns.shape[1] == 1:  # one of several outputs, such as the mean of a distribution
        return min(float((said - kind).abs().min()) for kind in known) / scale
    return torch.inf


def _classes(task: Task, ready: Ready) -> bool:
    return has_classes(task, ready.batch("train"))


def _targets(task: Task, ready: Ready, name: str) -> Tensor:
    """Give the targets of a split that count."""
    if task.per_step:
        batch = ready.batch(name, _MOST)
        return targets_of(task, batch)[counts(task, batch)]
    targets = ready.splits[name].targets
    return targets[targets >= 0] if is_class(targets) else targets
