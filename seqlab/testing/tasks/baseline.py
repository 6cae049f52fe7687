"""Checks of what a predictor scores that ignores its input."""

import torch
from torch import Tensor

from seqlab.contracts import Task
from seqlab.testing.guesses import constants, has_classes, is_class, live, output_shape, targets_of
from seqlab.testing.ready import Ready
from seqlab.testing.suite import agree, demand
from seqlab.testing.taskdata import other_inputs, other_targets
from seqlab.testing.tasks.making import SPLITS, TaskMaking
from seqlab.testing.tasks.means import counts


class BaselineChecks(TaskMaking):
    """The input-independent baseline, and the line from which on a task is solved."""

    def test_baseline_is_blind(self) -> None:
        """Blind outputs are finite, of the right shape, the same for all rows and for other inputs and targets."""
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
            there = live(batch).unsqueeze(-1) if task.per_step else torch.ones_like(blind, dtype=torch.bool)
            longest = int(there.flatten(1).sum(1).argmax())
            expected = torch.where(there, blind[longest], blind)
            agree("blind outputs of other rows than one", blind, expected, 1e-6)

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

    def test_baseline_is_of_training(self) -> None:
        """What blind outputs know of the targets is of the training split, and not of valid or test."""
        ready = self.ready()
        task = ready.task
        blind = task.blind_outputs(ready.batch("test", 8))[0]
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
        blind = self.scores(task, task.blind_outputs(batch), batch.targets)[task.monitor]
        return right, blind, task.mode

    def test_solved_is_a_line(self) -> None:
        """``solved`` says True or nothing of the truth, and False or nothing of blind outputs and of NaN."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("test", 1024)
        truth = self.scores(task, self.perfect_outputs(task, batch), batch.targets)
        blind = self.scores(task, task.blind_outputs(batch), batch.targets)
        for what, scores, wrong in (
            ("the truth", truth, False),
            ("blind outputs", blind, True),
            ("metrics that are all NaN", dict.fromkeys(truth, float("nan")), True),
        ):
            said = task.solved(scores)
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
