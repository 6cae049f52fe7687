"""Checks that inputs do not contain the target, that nothing is learnt from valid or test, and of the head."""

import copy
from collections.abc import Iterator
from unittest import SkipTest

import torch
from torch import Tensor, nn

from seqlab.contracts import Batch, Examples, Ragged, Task
from seqlab.testing.suite import assert_close, require
from seqlab.testing.tasks.data import TaskBase
from seqlab.testing.tasks.examples import (
    SPLITS,
    PreparedTask,
    counted_targets,
    is_class,
    row_keys,
    targets_of,
    valid_steps,
)

_FEWEST = 20
_MOST = 20_000
_SHORT = 3
"""Letters of a label's name that may be in a text by chance."""


class LeakChecks(TaskBase):
    """Neither targets nor valid and test leak into training."""

    def test_splits_are_disjoint_when_encoded(self) -> None:
        """No text has the token ids of a text of another split; texts with unknown tokens are skipped."""
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
                split, other = seen.get(key, ("", text))
                require(
                    other == text,
                    f"{text[:60]!r} of {name} has the token ids of {other[:60]!r} of {split}: the model reads the same"
                    " text in two splits",
                )
                here[key] = (name, text)
            seen |= here

    def test_targets_are_not_among_inputs(self) -> None:
        """No token at an end of a sequence, no feature and no word of a text is its target."""
        ready = self.ready()
        rows = ready.rows("train", 2000)
        if len(rows) >= _FEWEST:
            for fault in (*_in_steps(ready, rows), *_at_ends(ready, rows), *_in_text(ready, rows)):
                raise AssertionError(fault)

    def test_scaling_comes_from_training(self) -> None:
        """Features and targets are not standardised by the statistics of all splits."""
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
        for column in range(whole.shape[1]) if bool(whole.isfinite().all()) else ():
            mean, spread = float(whole[:, column].mean()), float(whole[:, column].std())
            own = float(train[:, column].mean())
            require(
                abs(own) < 1e-4 or abs(mean) >= 1e-5 or abs(spread - 1) >= 1e-2,
                f"{what} {column} has the mean {mean:.1g} over all splits and {own:.2g} over train: it was standardised"
                " with valid and test",
            )

    def test_weights_belong_to_their_examples(self) -> None:
        """Sample weights that are as many as the examples of each class are the same within a class."""
        ready = self.ready()
        weights, targets = ready.task.sample_weights(), ready.splits["train"].targets
        if weights is None or not is_class(targets) or targets.dim() != 1 or weights.shape != targets.shape:
            return
        _, by_weight = torch.unique(weights, return_counts=True)
        _, by_class = torch.unique(targets, return_counts=True)
        if len(by_weight) < 2 or by_weight.sort().values.tolist() != by_class.sort().values.tolist():
            return
        for label in torch.unique(targets).tolist():
            found = torch.unique(weights[targets == label])
            require(
                len(found) == 1,
                f"examples of class {label} have {len(found)} weights, although each weight belongs to as many examples"
                " as a class has: are the weights in the order of other examples?",
            )


def _encoded(ready: PreparedTask, texts: list[str]) -> Iterator[bytes | None]:
    """Yield what identifies each encoded text; ``None`` if it is empty or has an unknown token."""
    assert ready.preprocessor is not None
    found = ready.preprocessor.encode(texts)
    unknown = ready.preprocessor.unknown_id
    for key, ids in zip(row_keys(found), torch.split(found.values, found.lengths.tolist()), strict=True):
        assert isinstance(key, bytes)
        yield None if not len(ids) or bool((ids == unknown).any()) else key


def _in_steps(ready: PreparedTask, rows: Tensor) -> Iterator[str]:
    """Find targets of steps that are the steps' own inputs."""
    task = ready.task
    if not task.per_step:
        return
    batch = ready.batch_of("train", rows[:200])
    counted = counted_targets(task, batch)
    targets, inputs = targets_of(task, batch)[counted], batch.inputs[counted]
    if len(targets) < _FEWEST or (targets == targets[:1]).all():
        return
    if inputs.is_floating_point():
        for feature in _features_that_tell(inputs, targets):
            yield f"feature {feature} of each step is its target"
    elif is_class(targets) and targets.dim() == 1 and bool((inputs == targets).all()):
        yield "the target of each step is its own token: must it be the next one?"


def _at_ends(ready: PreparedTask, rows: Tensor) -> Iterator[str]:
    """Find a token at an end, or a feature, that is one with the target of a sequence."""
    task = ready.task
    if task.per_step:
        return
    encoded, targets = ready.encoded("train", rows), ready.splits["train"].targets[rows]
    there = encoded.lengths > 0
    first, last = encoded.starts[there], (encoded.starts + encoded.lengths - 1)[there]
    targets = targets[there]
    ends = {"last": last} if task.sequence_length_means == "distance" else {"last": last, "first": first}
    for name, places in ends.items():
        values = encoded.values[places]
        if values.is_floating_point():
            for feature in _features_that_tell(values, targets):
                yield f"feature {feature} of the {name} step is the target"
        elif is_class(targets) and targets.dim() == 1 and _one_to_one(values, targets):
            yield f"the {name} token of a sequence tells its target: each class has a token of its own there"
    if encoded.values.is_floating_point():
        start = encoded.values[first]
        constant = (start == encoded.values[last]).all(0).nonzero().flatten()
        for feature in _features_that_tell(start[:, constant], targets):
            yield f"feature {int(constant[feature])} of every step is the target"


def _features_that_tell(values: Tensor, targets: Tensor) -> Iterator[int]:
    columns = targets.double().reshape(len(targets), -1)
    for feature in range(values.shape[1]):
        if any(_tells(values[:, feature], columns[:, place]) for place in range(columns.shape[1])):
            yield feature


def _tells(values: Tensor, targets: Tensor) -> bool:
    """Return whether numbers are the targets, but for scale, shift and a little noise."""
    pair = torch.stack([values.double(), targets.double()])
    if not bool(pair.isfinite().all()) or bool((pair.std(1) < 1e-9).any()):
        return False
    return abs(float(torch.corrcoef(pair)[0, 1])) > 1 - 1e-4


def _one_to_one(tokens: Tensor, targets: Tensor) -> bool:
    pairs = len(torch.unique(torch.stack([tokens, targets]), dim=1).t())
    return 1 < pairs == len(torch.unique(tokens)) == len(torch.unique(targets)) <= len(tokens) // 5


def _in_text(ready: PreparedTask, rows: Tensor) -> Iterator[str]:
    """Find texts that contain the name or the number of their label."""
    train, names = ready.splits["train"], ready.task.label_names()
    if isinstance(train.inputs, Ragged) or not is_class(train.targets) or train.targets.dim() != 1:
        return
    targets = train.targets[rows].tolist()
    if len({*targets}) < 2:
        return
    texts = [train.inputs[row].casefold() for row in rows.tolist()]
    pairs = list(zip(texts, targets, strict=True))
    numbers = {target: str(target) for target in targets}
    spelled = {} if names is None else {target: str(names[target]).casefold() for target in targets}
    for words in (numbers, spelled):
        hits = sum(_contains(text, words[target]) for text, target in pairs if words)
        other = sum(any(_contains(text, word) for label, word in words.items() if label != at) for text, at in pairs)
        if hits >= 0.99 * len(texts) and other < 0.5 * len(texts):
            yield f"{hits} of {len(texts)} training texts contain their own label, such as {words[targets[0]]!r}"


def _contains(text: str, word: str) -> bool:
    return word in text if len(word) >= _SHORT else word in text.split()


def targets_by_input(examples: Examples) -> dict[str | bytes, int]:
    """Return the class of each input that occurs once."""
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


class HeadChecks(TaskBase):
    """The layer from a model's features to the outputs learns, and sees one row at a time."""

    def test_head_gives_the_outputs(self) -> None:
        """``outputs`` is at least 1, and the head returns so many from a model's features."""
        task = self.ready().task
        outputs = task.outputs
        require(isinstance(outputs, int) and outputs >= 1, f"outputs is {outputs!r}; it must be at least 1")
        for features in (1, 7):
            for rows in (2, 1, 65):
                shape = (rows, 3, features) if task.per_step else (rows, features)
                got = tuple(task.head(features).eval()(torch.randn(shape)).shape)
                require(got == (*shape[:-1], outputs), f"the head returns {got} for {shape}; outputs is {outputs}")
        one, other = task.head(5), task.head(5)
        shared = {id(each) for each in one.parameters()} & {id(each) for each in other.parameters()}
        require(not shared, f"two heads share {len(shared)} parameters; head() must make a new layer at each call")

    def test_head_keeps_rows_apart(self) -> None:
        """An output depends on its own row's features alone and on no later step, in training and in evaluation."""
        task = self.ready().task
        for rows in (2, 40):
            for training, mode in _MODES:
                head = task.head(6).train(training)
                features = torch.randn((rows, 20, 6) if task.per_step else (rows, 6))
                before = _seeded(head, features)
                changed = features.clone()
                changed[0] = 3 - 2 * changed[0]
                what = f"outputs of other rows {mode}, after one row changed"
                assert_close(what, _seeded(head, changed)[1:], before[1:], 1e-5)
                if task.per_step:
                    changed = features.clone()
                    changed[:, 11:] = 3 - 2 * changed[:, 11:]
                    now = _seeded(head, changed)[:, :11]
                    assert_close(f"outputs {mode}, after later steps changed", now, before[:, :11], 1e-5)
                again = _seeded(head, features, 7 if training else 8)
                assert_close(f"outputs {mode} of the same features, after other ones,", again, before, 1e-5)

    def test_head_keeps_no_statistics(self) -> None:
        """The head's outputs in evaluation do not depend on running statistics of training."""
        task = self.ready().task
        made = task.head(6)
        features = torch.randn((64, 9, 6) if task.per_step else (64, 6))
        found = []
        for shift in (0.0, 6.0):
            head = copy.deepcopy(made).train()
            for step in range(_PASSES):
                _seeded(head, features + shift, step)
            found.append(_seeded(head.eval(), features))
        what = "outputs in evaluation, after training on features of another mean (running statistics?),"
        assert_close(what, found[1], found[0], 1e-5)

    def test_head_learns(self) -> None:
        """Gradients reach the features of every row, and a head on features that tell the targets learns them."""
        task, batch = self.case(most=96)
        features = _informative_features(task, batch)
        with torch.no_grad():
            best = float(task.loss(self.perfect_outputs(task, batch), batch))
            baseline = float(task.loss(task.blind_outputs(batch), batch))
        head = task.head(features.shape[-1]).train()
        trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
        require(trained, "no parameter of the head requires a gradient")
        self._check_reached(task, head, torch.randn(features.shape), batch)
        if not baseline > best:
            raise SkipTest("no outputs are known that have a smaller loss than the baseline's")
        _train(task, head, features, batch, trained)
        with torch.no_grad():
            got = float(task.loss(head.eval()(features), batch))
        require(
            got <= best + 0.25 * (baseline - best),
            f"a head that is trained on features which tell the targets has the loss {got:.4g}; the right outputs have"
            f" {best:.4g}, the baseline {baseline:.4g}: does the head cut a gradient, or limit its outputs?",
        )

    @staticmethod
    def _check_reached(task: Task, head: nn.Module, features: Tensor, batch: Batch) -> None:
        features.requires_grad_()
        loss = task.loss(head(features), batch)
        gradient = torch.autograd.grad(loss, features, allow_unused=True)[0] if loss.requires_grad else None
        reached = 0 if gradient is None else int(gradient.flatten(1).any(1).sum())
        fault = f"the loss in training has a gradient in the features of {reached} of {len(features)} rows only"
        require(2 * reached > len(features), fault)


def _informative_features(task: Task, batch: Batch) -> Tensor:
    """Return a code of each class, or the standardised numbers; zero in padding."""
    targets = targets_of(task, batch)
    if is_class(targets) and targets.dim() == 1 + task.per_step:
        classes = max(2, int(targets.max()) + 1)
        codes = torch.eye(classes) if classes <= _CODES else torch.randn(classes, _CODES).sign()
        features = codes[targets.clamp(min=0)]
    else:
        keep = 2 if task.per_step else 1
        numbers = targets.double().nan_to_num().clamp(-1e9, 1e9)
        numbers = numbers.flatten(keep) if targets.dim() > keep else numbers.unsqueeze(-1)
        columns = numbers.flatten(0, -2)
        features = ((numbers - columns.mean(0)) / columns.std(0).clamp(min=1e-6)).float()[..., :_CODES]
    return torch.where(valid_steps(batch).unsqueeze(-1), features, 0) if task.per_step else features


def _train(task: Task, head: nn.Module, features: Tensor, batch: Batch, trained: list[nn.Parameter]) -> None:
    largest = 1.0 if is_class(batch.targets) else float(batch.targets.double().nan_to_num().abs().max())
    optimizer = torch.optim.Adam(trained)
    steps = 120
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.2 * max(1.0, largest) * (1 - step / steps)
        optimizer.zero_grad()
        loss = task.loss(head(features), batch)
        require(loss.requires_grad, "the loss in training has no gradient in the head's parameters")
        torch.autograd.backward(loss)
        optimizer.step()


def _seeded(head: nn.Module, features: Tensor, seed: int = 7) -> Tensor:
    """Call a head from a seed."""
    torch.manual_seed(seed)
    with torch.no_grad():
        found: Tensor = head(features).clone()
    return found
