"""Checks that nothing of the answer, and nothing of valid or test, is where a model or a baseline could read it."""

import copy
from collections.abc import Iterator
from unittest import SkipTest

import torch
from torch import Tensor, nn

from seqlab.contracts import Batch, Examples, Ragged, Task
from seqlab.contracts.task import label_names, sample_weights, task_defaults
from seqlab.testing.hints import is_class, live, targets_of
from seqlab.testing.inputs import Ready, row_keys
from seqlab.testing.suite import agree, demand
from seqlab.testing.tasks.data import SPLITS, TaskMaking
from seqlab.testing.tasks.means import counts

_FEWEST = 20
_MOST = 20_000
_SHORT = 3
"""Letters of a label's name that may be in a text by chance."""


class LeakChecks(TaskMaking):
    """What must not be known."""

    def test_splits_are_disjoint_when_encoded(self) -> None:
        """No text of valid or test has the token ids of a text of another split, unknown tokens left out of account."""
        ready = self.ready()
        if ready.preprocessor is None:
            return  # tensors are compared as they are
        seen: dict[bytes, tuple[str, str]] = {}
        for name in SPLITS:
            here: dict[bytes, tuple[str, str]] = {}
            inputs = ready.splits[name].inputs
            assert not isinstance(inputs, Ragged)
            texts = list(inputs)[:_MOST]
            for key, text in zip(_encoded(ready, texts), texts, strict=True):
                if key is None:
                    continue
                other = seen.get(key)
                demand(
                    other is None or other[1] == text,
                    f"{text[:60]!r} of {name} has the token ids of {(other or ('', ''))[1][:60]!r} of"
                    f" {(other or ('', ''))[0]}: the same text for a model, which may not be in two splits",
                )
                here[key] = (name, text)
            seen |= here

    def test_targets_are_not_among_inputs(self) -> None:
        """No token at an end of a sequence, no feature and no word of a text gives the target away."""
        ready = self.ready()
        rows = ready.rows("train", 2000)
        if len(rows) < _FEWEST:
            return
        for fault in (*_in_steps(ready, rows), *_at_ends(ready, rows), *_in_text(ready, rows)):
            raise AssertionError(fault)

    def test_scales_are_of_training(self) -> None:
        """Features and targets are not standardised with valid and test, which a model must not know."""
        ready = self.ready()
        splits = ready.splits
        features = {name: part.inputs.values for name, part in splits.items() if isinstance(part.inputs, Ragged)}
        if ready.preprocessor is None and features["train"].is_floating_point():
            self._check_scale("feature", features)
        if splits["train"].targets.is_floating_point() and not ready.task.per_step:
            self._check_scale("target", {name: part.targets for name, part in splits.items()})

    @staticmethod
    def _check_scale(what: str, parts: dict[str, Tensor]) -> None:
        flat = {name: values.double().reshape(len(values), -1) for name, values in parts.items()}
        whole, train = torch.cat([flat[name] for name in SPLITS]), flat["train"]
        if not bool(whole.isfinite().all()):
            return
        for column in range(whole.shape[1]):
            mean, spread = float(whole[:, column].mean()), float(whole[:, column].std())
            own = float(train[:, column].mean())
            exact = abs(mean) < 1e-5 and abs(spread - 1) < 1e-2
            demand(
                not exact or abs(own) < 1e-4,
                f"{what} {column} has the mean {mean:.1g} over all splits and {own:.2g} over train: it was standardised"
                " with valid and test",
            )

    def test_weights_belong_to_their_examples(self) -> None:
        """Weights for drawing examples that are as many as the examples of each class are the same within a class."""
        ready = self.ready()
        weights, targets = sample_weights(ready.task), ready.splits["train"].targets
        if weights is None or not is_class(targets) or targets.dim() != 1 or weights.shape != targets.shape:
            return
        _, by_weight = torch.unique(weights, return_counts=True)
        _, by_class = torch.unique(targets, return_counts=True)
        if len(by_weight) < 2 or by_weight.sort().values.tolist() != by_class.sort().values.tolist():
            return
        for label in torch.unique(targets).tolist():
            found = torch.unique(weights[targets == label])
            demand(
                len(found) == 1,
                f"examples of class {label} have {len(found)} weights, although each weight belongs to as many examples"
                " as a class has: are the weights in the order of other examples?",
            )


def _encoded(ready: Ready, texts: list[str]) -> Iterator[bytes | None]:
    """Give what tells encoded texts apart; nothing for those that are empty or have an unknown token."""
    assert ready.preprocessor is not None
    found = ready.preprocessor.encode(texts)
    unknown = ready.preprocessor.unknown_id
    for key, ids in zip(row_keys(found), torch.split(found.values, found.lengths.tolist()), strict=True):
        assert isinstance(key, bytes)
        yield None if not len(ids) or bool((ids == unknown).any()) else key


def _in_steps(ready: Ready, rows: Tensor) -> Iterator[str]:
    """Find targets of steps that are the steps' own inputs."""
    task = ready.task
    if not task.per_step:
        return
    batch = ready.batch_of("train", rows[:200])
    counted = counts(task, batch)
    targets = batch.targets[:, : batch.inputs.shape[1]][counted]
    inputs = batch.inputs[counted]
    if len(targets) < _FEWEST or (targets == targets[:1]).all():
        return
    if not inputs.is_floating_point():
        if is_class(targets) and targets.dim() == 1 and bool((inputs == targets).all()):
            yield "the target of each step is its own token: is it to be the next one?"
        return
    columns = targets.double().reshape(len(targets), -1)
    for place in range(columns.shape[1]):
        for feature in range(inputs.shape[1]):
            if _tells(inputs[:, feature], columns[:, place]):
                yield f"feature {feature} of each step is its target"


def _at_ends(ready: Ready, rows: Tensor) -> Iterator[str]:
    """Find a token at an end, or a feature, that is one with the target of a sequence."""
    task = ready.task
    if task.per_step:
        return
    encoded, targets = ready.encoded("train", rows), ready.splits["train"].targets[rows]
    there = encoded.lengths > 0
    first, last = encoded.starts[there], (encoded.starts + encoded.lengths - 1)[there]
    targets = targets[there]
    ends = {"last": last} if task_defaults(task).sequence_length_means == "distance" else {"last": last, "first": first}
    for name, places in ends.items():
        values = encoded.values[places]
        if not values.is_floating_point():
            if is_class(targets) and targets.dim() == 1 and _one_to_one(values, targets):
                yield f"the {name} token of a sequence tells its target: each class has a token of its own there"
            continue
        for feature in _features_that_tell(values, targets):
            yield f"feature {feature} of the {name} step is the target"
    if encoded.values.is_floating_point():
        steady = [
            index for index in range(encoded.values.shape[1])
            if bool((encoded.values[first, index] == encoded.values[last, index]).all())
        ]  # fmt: skip
        for feature in _features_that_tell(encoded.values[first][:, steady], targets):
            yield f"feature {steady[feature]} of every step is the target"


def _features_that_tell(values: Tensor, targets: Tensor) -> Iterator[int]:
    columns = targets.double().reshape(len(targets), -1)
    for feature in range(values.shape[1]):
        if any(_tells(values[:, feature], columns[:, place]) for place in range(columns.shape[1])):
            yield feature


def _tells(values: Tensor, targets: Tensor) -> bool:
    """Say whether numbers are the targets, but for scale, shift and a little noise."""
    pair = torch.stack([values.double(), targets.double()])
    if not bool(pair.isfinite().all()) or bool((pair.std(1) < 1e-9).any()):
        return False
    return abs(float(torch.corrcoef(pair)[0, 1])) > 1 - 1e-4


def _one_to_one(tokens: Tensor, targets: Tensor) -> bool:
    pairs = len(torch.unique(torch.stack([tokens, targets]), dim=1).t())
    return 1 < pairs == len(torch.unique(tokens)) == len(torch.unique(targets)) <= len(tokens) // 5


def _in_text(ready: Ready, rows: Tensor) -> Iterator[str]:
    """Find texts that hold the name or the number of their label."""
    task, train = ready.task, ready.splits["train"]
    if isinstance(train.inputs, Ragged) or not is_class(train.targets) or train.targets.dim() != 1:
        return
    names = label_names(task) if _names_labels(task) else None
    targets = train.targets[rows].tolist()
    if len({*targets}) < 2:
        return
    texts = [train.inputs[row].casefold() for row in rows.tolist()]
    shown = {target: {str(target)} for target in targets}
    for target in shown if names else ():
        shown[target].add(str((names or ())[target]).casefold())
    for kind in (0, 1):
        words = {target: sorted(found, key=len)[min(kind, len(found) - 1)] for target, found in shown.items()}
        hits = sum(_holds(text, words[target]) for text, target in zip(texts, targets, strict=True))
        other = sum(
            any(_holds(text, word) for label, word in words.items() if label != target)
            for text, target in zip(texts, targets, strict=True)
        )
        if hits >= 0.99 * len(texts) and other < 0.5 * len(texts):
            yield f"{hits} of {len(texts)} training texts hold their own label, such as {words[targets[0]]!r}"


def _names_labels(task: Task) -> bool:
    return label_names(task) is not None


def _holds(text: str, word: str) -> bool:
    return word in text if len(word) >= _SHORT else word in text.split()


def held(examples: Examples) -> dict[str | bytes, int]:
    """Give the class of each input that occurs once."""
    once: dict[str | bytes, int] = {}
    twice: set[str | bytes] = set()
    for key, target in zip(row_keys(examples.inputs), examples.targets.tolist(), strict=True):
        if key in once:
            twice.add(key)
        once[key] = target
    return {key: target for key, target in once.items() if key not in twice}


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
            blind = float(task.loss(task.baseline_outputs(batch), batch))
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
