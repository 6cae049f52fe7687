"""Checks that nothing of the answer, and nothing of valid or test, is where a model or a baseline could read it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from seqlab.contracts import Examples, Ragged, Task
from seqlab.testing.guesses import is_class
from seqlab.testing.ready import Ready
from seqlab.testing.suite import demand
from seqlab.testing.taskdata import row_keys
from seqlab.testing.tasks.making import SPLITS, TaskMaking
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
        weights, targets = ready.task.sample_weights(), ready.splits["train"].targets
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
    ends = {"last": last} if task.sequence_length_means == "distance" else {"last": last, "first": first}
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
    names = task.label_names() if _names_labels(task) else None
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
    return task.label_names() is not None


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
