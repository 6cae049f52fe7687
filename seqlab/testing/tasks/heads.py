"""Checks of a task's head, in training and in evaluation."""

import copy
from unittest import SkipTest

import torch
from torch import Tensor, nn

from seqlab.contracts import Batch, Task
from seqlab.testing.guesses import is_class, live, targets_of
from seqlab.testing.suite import agree, demand
from seqlab.testing.tasks.making import TaskMaking

_CODES = 128
"""Features that tell the target where there are more classes than this."""
_PASSES = 12
_MODES = ((True, "in training"), (False, "in evaluation"))


class HeadChecks(TaskMaking):
    """The layer from a model's features to the outputs."""

    def test_head_gives_the_outputs(self) -> None:
        """``outputs`` is at least 1, and the head gives so many from a model's features."""
        task = self.ready().task
        outputs = task.outputs
        demand(isinstance(outputs, int) and outputs >= 1, f"outputs is {outputs!r}; it must be at least 1")
        for features in (1, 7):
            for rows in (2, 1, 65):
                shape = (rows, 3, features) if task.per_step else (rows, features)
                got = tuple(task.head(features).eval()(torch.randn(shape)).shape)
                demand(got == (*shape[:-1], outputs), f"the head gives {got} for {shape}; outputs is {outputs}")
        one, other = task.head(5), task.head(5)
        shared = {id(each) for each in one.parameters()} & {id(each) for each in other.parameters()}
        demand(not shared, f"two heads share {len(shared)} parameters; head() must make a new layer at each call")

    def test_head_keeps_rows_apart(self) -> None:
        """An output depends on its own row's features alone and on no later step, in training and in evaluation."""
        task = self.ready().task
        for rows in (2, 40):
            shape = (rows, 20, 6) if task.per_step else (rows, 6)
            for training, mode in _MODES:
                head = task.head(6).train(training)
                features = torch.randn(shape)
                before = _seeded(head, features)
                changed = features.clone()
                changed[0] = 3 - 2 * changed[0]
                agree(
                    f"outputs of other rows {mode}, after one row changed", _seeded(head, changed)[1:], before[1:], 1e-5
                )
                if task.per_step:
                    changed = features.clone()
                    changed[:, 11:] = 3 - 2 * changed[:, 11:]
                    now = _seeded(head, changed)[:, :11]
                    agree(f"outputs {mode}, after later steps changed", now, before[:, :11], 1e-5)
                again = _seeded(head, features, 7 if training else 8)
                agree(f"outputs {mode} of the same features, after other ones,", again, before, 1e-5)

    def test_head_keeps_no_statistics(self) -> None:
        """What a head gives in evaluation does not depend on the features that it saw in training, but for learning."""
        task = self.ready().task
        made = task.head(6)
        drawn = torch.randn((64, 9, 6) if task.per_step else (64, 6))
        found = []
        for shift in (0.0, 6.0):
            head = copy.deepcopy(made).train()
            for step in range(_PASSES):
                _seeded(head, drawn + shift, step)
            found.append(_seeded(head.eval(), drawn))
        agree(
            "outputs in evaluation, after training on features of another mean (running statistics?),",
            found[1], found[0], 1e-5,
        )  # fmt: skip

    def test_head_learns(self) -> None:
        """Gradients reach the features of every row, and a head on features that tell the targets learns them."""
        ready = self.ready()
        task, batch = ready.task, ready.batch(most=96)
        features = telling(task, batch)
        with torch.no_grad():
            best = float(task.loss(self.perfect_outputs(task, batch), batch))
            blind = float(task.loss(task.blind_outputs(batch), batch))
        head = task.head(features.shape[-1]).train()
        trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
        demand(trained, "no parameter of the head requires a gradient")
        self._check_reached(task, head, torch.randn(features.shape), batch)
        if not blind > best:
            raise SkipTest("no outputs are known that have a smaller loss than blind ones")
        _train(task, head, features, batch, trained)
        with torch.no_grad():
            got = float(task.loss(head.eval()(features), batch))
        goal = best + 0.25 * (blind - best)
        demand(
            got <= goal,
            f"a head that is trained on features which tell the targets has the loss {got:.4g}; the right outputs have"
            f" {best:.4g}, blind ones {blind:.4g}: the head cuts a gradient, or cannot give the right outputs",
        )

    @staticmethod
    def _check_reached(task: Task, head: nn.Module, features: Tensor, batch: Batch) -> None:
        features.requires_grad_()
        loss = task.loss(head(features), batch)
        gradient = torch.autograd.grad(loss, features, allow_unused=True)[0] if loss.requires_grad else None
        reached = 0 if gradient is None else int(gradient.flatten(1).any(1).sum())
        demand(
            2 * reached > len(features),
            f"the loss in training has a gradient in the features of {reached} of {len(features)} rows",
        )


def telling(task: Task, batch: Batch) -> Tensor:
    """Give features that tell the targets: a code for each class, or the numbers scaled; zero in padding."""
    targets = targets_of(task, batch)
    if is_class(targets) and targets.dim() == 1 + task.per_step:
        classes = max(2, int(targets.max()) + 1)
        codes = torch.eye(classes) if classes <= _CODES else torch.randn(classes, _CODES).sign()
        features = codes[targets.clamp(min=0)]
    else:
        keep = 2 if task.per_step else 1
        numbers = (
            targets.double().nan_to_num().flatten(keep) if targets.dim() > keep else targets.double().unsqueeze(-1)
        )
        numbers = numbers.nan_to_num().clamp(-1e9, 1e9)
        columns = numbers.flatten(0, -2)
        features = ((numbers - columns.mean(0)) / columns.std(0).clamp(min=1e-6)).float()[..., :_CODES]
    return torch.where(live(batch).unsqueeze(-1), features, 0) if task.per_step else features


def _train(task: Task, head: nn.Module, features: Tensor, batch: Batch, trained: list[nn.Parameter]) -> None:
    numbers = batch.targets.double().nan_to_num()
    largest = 1.0 if is_class(batch.targets) else float(numbers.abs().max())
    optimizer = torch.optim.Adam(trained)
    steps = 120
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.2 * max(1.0, largest) * (1 - step / steps)
        optimizer.zero_grad()
        loss = task.loss(head(features), batch)
        demand(loss.requires_grad, "the loss in training has no gradient in the head's parameters")
        torch.autograd.backward(loss)
        optimizer.step()


def _seeded(head: nn.Module, features: Tensor, seed: int = 7) -> Tensor:
    """Call a head with the random numbers of a seed."""
    torch.manual_seed(seed)
    with torch.no_grad():
        found: Tensor = head(features).clone()
    return found
