"""What the checks of a task are made of."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, islice
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from seqlab.contracts import Batch, Corpus, Examples, InputSpec, LanguageTask, Preprocessor, Ragged, Task, UserError
from seqlab.contracts.task import sample_weights, task_defaults
from seqlab.plugins import find
from seqlab.testing.hints import is_class, output_shape, perfect
from seqlab.testing.inputs import (
    CodePoints,
    Ready,
    check_defaults,
    check_more_classes,
    check_targets,
    check_tensors,
    difference,
    has_option,
    reads,
    row_keys,
    updated,
    values_of,
    windows,
)
from seqlab.testing.options import check_read
from seqlab.testing.suite import Suite, demand

SPLITS = ("train", "valid", "test")
_PIECES = 4
"""Pieces of a running text that are looked at."""


class TaskMaking(Suite):
    """Names a task and makes it ready for its checks.

    Attributes:
        task: its type, or a factory that takes its options.
        options: what the constructor is to be given, such as ``{"data_dir": ...}``.
        preprocessor: makes what encodes the texts; else the task's default is looked up.
    """

    task: ClassVar[Callable[..., Task]]
    options: ClassVar[Mapping[str, Any]] = {}
    preprocessor: ClassVar[Callable[[], Preprocessor] | None] = None
    _made: ClassVar[Ready]

    # Making things ------------------------------------------------------------------------------------------------

    def make(self, **changed: Any) -> Task:
        """Make the task, without its data."""
        made = type(self).task(**{**self.options, **changed})
        demand(isinstance(made, Task), f"it is a {type(made).__name__}, and no seqlab.Task")
        return made

    def ready(self) -> Ready:
        """Make the task and its splits; they are made once for all checks, each of which gets a copy of the task."""
        cls = type(self)
        if "_made" not in vars(cls):
            task = self.make()
            cls._made = self._ready(task, self.splits_of(task))
        made = cls._made
        try:
            return Ready(copy.deepcopy(made.task), made.splits, made.preprocessor)
        except Exception:  # a task that holds a lock, say, is made anew
            task = self.make()
            return self._ready(task, self.splits_of(task))

    def splits_of(self, task: Task) -> Mapping[str, Examples]:
        """Make the splits; running text becomes windows of tokens, up to some thousands of them."""
        splits = task.splits()
        if not isinstance(splits["train"], Corpus):
            return cast(Mapping[str, Examples], splits)
        preprocessor = self._encoder(task)
        texts = {name: list(islice(cast(Corpus, split).pieces(), _PIECES)) for name, split in splits.items()}
        preprocessor.fit(texts["train"])
        ids = {name: preprocessor.encode(pieces).values for name, pieces in texts.items()}
        counts = torch.bincount(ids["train"], minlength=preprocessor.size)
        if isinstance(task, LanguageTask):
            task.set_vocabulary(InputSpec("tokens", preprocessor.size, preprocessor.symbols), counts)
        return {name: windows(values, task.sequence_length or 1) for name, values in ids.items()}

    def _ready(self, task: Task, splits: Mapping[str, Examples]) -> Ready:
        texts = splits["train"].inputs
        if isinstance(texts, Ragged):
            return Ready(task, splits, None)
        preprocessor = self._encoder(task)
        preprocessor.fit(texts)
        return Ready(task, splits, preprocessor)

    def _encoder(self, task: Task) -> Preprocessor:
        if (factory := type(self).preprocessor) is not None:
            return factory()
        try:
            made = find("preprocessing", task_defaults(task).preprocessing or "").load()()
        except UserError:  # which test_default_preprocessing reports
            return CodePoints()
        demand(isinstance(made, Preprocessor), "the default preprocessing is no seqlab.Preprocessor")
        return made  # type: ignore[no-any-return]  # an entry point can be anything

    def perfect_outputs(self, task: Task, batch: Batch) -> Tensor:
        """Give outputs that fit the targets; for a task to override whose outputs :func:`perfect` cannot find."""
        return perfect(task, batch)

    @staticmethod
    def drawn(task: Task, batch: Batch, seed: int = 1) -> Tensor:
        """Draw outputs for a batch from the normal distribution."""
        return torch.randn(output_shape(task, batch), generator=torch.Generator().manual_seed(seed))

    @staticmethod
    def scores(task: Task, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Compute fresh metrics of some outputs."""
        return values_of(updated(task.metrics(), outputs, targets))


_FEWEST = 20
_ROWS = 1500
_SHORTEST = 6
_CHANCE = math.log(1e9)
_SHARE = 0.3


class DealingChecks(TaskMaking):
    """Valid and test are like train, and apart from it."""

    def test_splits_are_dealt_by_chance(self) -> None:
        """Neither valid nor test is of one class alone, or of none of the classes of train, as in sorted data."""
        splits = self.ready().splits
        targets = {name: splits[name].targets for name in SPLITS}
        if self.ready().task.per_step or not is_class(targets["train"]) or targets["train"].dim() != 1:
            return
        found = {name: {*part.tolist()} for name, part in targets.items()}
        if len(set().union(*found.values())) < 2:
            return
        for name in ("valid", "test"):
            if len(targets[name]) < _FEWEST:
                continue
            demand(
                len(found[name]) > 1,
                f"all {len(targets[name])} examples of {name} are of class {min(found[name])}: are the data sorted by"
                " class? Shuffle them by split_seed before they are cut",
            )
            demand(
                found[name] & found["train"],
                f"no class of {name} is in train: are the data sorted by class? Shuffle them by split_seed before they"
                " are cut",
            )

    def test_splits_share_no_steps(self) -> None:
        """No windows of valid or test overlap those of train, as where windows are shuffled before they are cut."""
        ready = self.ready()
        parts = {name: ready.splits[name].inputs for name in SPLITS}
        train = parts["train"]
        if not isinstance(train, Ragged) or train.even is None or len(train) < _FEWEST:
            return
        steps = int(train.lengths[0])
        run = steps // 2
        if steps < _SHORTEST:
            return
        rows = {name: _rows(part, steps) for name, part in parts.items() if isinstance(part, Ragged)}
        numbered = _numbered(torch.cat(list(rows.values())), list(map(len, rows.values())))
        numbers = dict(zip(rows, numbered, strict=True))
        kinds = len(torch.unique(numbers["train"]))
        places = range(steps - run, -1, -1)
        train_rows = numbers["train"]
        known = {key: place for place in places for key in _keys(train_rows[:, place : place + run])}
        if kinds < len(numbers["train"]) / 2 and run * math.log(max(kinds, 2)) < _CHANCE:
            return  # sequences of a few kinds of steps can be alike by chance
        if len(known) < len(numbers["train"]) / 2:
            return  # the same patterns everywhere
        for name in ("valid", "test"):
            found = numbers.get(name)
            if found is None or len(found) < _FEWEST:
                continue
            first, last = _keys(found[:, :run]), _keys(found[:, -run:])
            ends = zip(first, last, _varied(found[:, :run]), _varied(found[:, -run:]), strict=True)
            shared = sum(
                (v and known.get(one, 0) > 0) or (w and known.get(other, steps - run) < steps - run)
                for one, other, v, w in ends
            )
            demand(
                shared <= _SHARE * len(found),
                f"{shared} of {len(found)} sequences of {name} begin or end with {run} steps that stand elsewhere in a"
                " sequence of train: windows that overlap must not be shuffled before they are cut into splits",
            )


def _rows(part: Ragged, steps: int) -> Tensor:
    """Give up to some thousand sequences of that length, ``[rows, steps, features]``."""
    if part.even is None or part.even.shape[1] != steps:
        return part.values.new_zeros(0, steps, math.prod(part.values.shape[1:]))
    return part.even[:_ROWS].reshape(-1, steps, math.prod(part.values.shape[1:]))


def _numbered(rows: Tensor, counts: list[int]) -> list[Tensor]:
    """Give equal steps the same number, ``[rows, steps]``."""
    _, numbers = torch.unique(rows.flatten(0, 1), dim=0, return_inverse=True)
    return list(numbers.view(rows.shape[:2]).split(counts))


def _keys(numbers: Tensor) -> list[bytes]:
    return [row.tobytes() for row in numbers.contiguous().numpy()]


def _varied(numbers: Tensor) -> list[bool]:
    """Say of which rows at least half of the steps differ from the step before."""
    changes = (numbers[:, 1:] != numbers[:, :-1]).sum(1)
    return (2 * changes >= numbers.shape[1] - 1).tolist()


class DataChecks(TaskMaking):
    """What a task reads, and what it makes of it."""

    # The constructor ----------------------------------------------------------------------------------------------

    def test_constructor_needs_nothing(self) -> None:
        """Every argument of the constructor has a default."""
        check_defaults(self.make())

    def test_options_are_read(self) -> None:
        """Each option of the constructor is read by something."""
        check_read(type(self.make()))

    def test_constructor_reads_no_data(self) -> None:
        """The constructor opens no file, folder or connection."""
        with reads() as found:
            self.make()
        demand(not found, f"the constructor reads: {'; '.join(found[:3])}; splits() is the place for it")

    def test_sequence_length_is_an_option(self) -> None:
        """``sequence_length`` is an option, kept under this name; 0 and less are refused with a ValueError."""
        task = self.make()
        demand(has_option(task, "sequence_length"), "the constructor takes no sequence_length")
        for wrong in (0, -1):
            try:
                self.make(sequence_length=wrong)
            except ValueError as error:
                demand(str(error), f"sequence_length={wrong} is refused without a word")
            else:
                raise AssertionError(f"sequence_length={wrong} is accepted")
        for value, other in self._lengths(task.sequence_length or 4):
            kept = other.sequence_length
            demand(kept == value, f"sequence_length={value} is given, but the attribute is {kept}")

    def _lengths(self, start: int, count: int = 1) -> Iterator[tuple[int, Task]]:
        """Make the task with lengths from ``start`` on that it takes."""
        for value in (start, start + 1, start + 3, 2 * start + 6, 4 * start + 25):
            try:
                task = self.make(sequence_length=value)
            except ValueError:
                continue
            yield value, task
            if (count := count - 1) == 0:
                return

    # The data -----------------------------------------------------------------------------------------------------

    def test_splits_are_three(self) -> None:
        """There are the splits train, valid and test, and none is empty."""
        splits = self.splits_of(self.make())
        for name in SPLITS:
            demand(name in splits, f"there is no split {name}; there are {', '.join(splits) or 'none'}")
            demand(isinstance(splits[name], Examples), f"{name} is a {type(splits[name]).__name__}, and no Examples")
            demand(len(splits[name]) > 0, f"{name} has no examples")

    def test_splits_are_disjoint(self) -> None:
        """No input of one split is in another."""
        keys = {name: set(row_keys(examples.inputs)) for name, examples in self.splits_of(self.make()).items()}
        for one, other in combinations(SPLITS, 2):
            if both := keys[one] & keys[other]:
                shown = sorted(repr(key)[:60] for key in both if isinstance(key, str))
                such = f", such as {shown[0]}" if shown else ""
                raise AssertionError(f"{len(both)} inputs are in {one} and in {other}{such}")

    def test_inputs_are_right(self) -> None:
        """Inputs are texts, token ids from 1 on that training shows, or finite features of one size."""
        splits = self.splits_of(self.make())
        train = splits["train"].inputs
        for name, examples in splits.items():
            inputs = examples.inputs
            if not isinstance(inputs, Ragged):
                odd = next((text for text in inputs if not isinstance(text, str)), None)
                demand(odd is None, f"{name}: an input is a {type(odd).__name__}, and no text")
                demand(not isinstance(train, Ragged), f"{name} has texts, and train has tensors")
                continue
            demand(isinstance(train, Ragged), f"{name} has tensors, and train has texts")
            assert isinstance(train, Ragged)
            check_tensors(name, inputs, train)

    def test_default_preprocessing(self) -> None:
        """A task of texts names the preprocessing that encodes them; a task of tensors names none."""
        task = self.make()
        train, named = task.splits()["train"], task_defaults(task).preprocessing
        if isinstance(train, Examples) and isinstance(train.inputs, Ragged):
            demand(named is None, f"the inputs are tensors, which {named} cannot encode")
            return
        demand(named, "the inputs are texts, but no preprocessing is named")
        try:
            find("preprocessing", str(named)).load()
        except UserError as error:
            raise AssertionError(str(error)) from error

    def test_targets_are_right(self) -> None:
        """Targets are classes from 0 to outputs - 1 or finite numbers: one for each example, or for each step of it."""
        ready = self.ready()
        task, train = ready.task, ready.splits["train"].targets
        for name, examples in ready.splits.items():
            targets = examples.targets
            demand(len(targets) == len(examples.inputs), f"{name}: {len(targets)} targets, {len(examples)} inputs")
            demand(targets.dtype == train.dtype, f"the targets of {name} are {targets.dtype}, of train {train.dtype}")
            if task.per_step:
                lengths = ready.encoded(name, torch.arange(len(examples))).lengths
                longest = int(lengths.max())
                demand(
                    targets.dim() >= 2 and targets.shape[1] >= longest,
                    f"{name}: targets of the shape {tuple(targets.shape)} are not one for each of {longest} steps",
                )
                targets = targets[torch.arange(targets.shape[1]) < lengths.unsqueeze(1)]
            check_targets(name, targets, task)
            if is_class(targets):
                check_more_classes(task, ready.batch(name))

    def test_sample_weights(self) -> None:
        """Weights for drawing examples are None, or one for each training example: finite, none negative, not all 0."""
        ready = self.ready()
        weights, count = sample_weights(ready.task), len(ready.splits["train"])
        if weights is None:
            return
        demand(isinstance(weights, Tensor), f"sample_weights gives a {type(weights).__name__}, and no tensor")
        demand(tuple(weights.shape) == (count,), f"weights of the shape {tuple(weights.shape)} for {count} examples")
        demand(bool(weights.isfinite().all()), f"{int((~weights.isfinite()).sum())} weights are not finite")
        demand(float(weights.min()) >= 0, f"a weight is {float(weights.min()):.3g}; none may be below 0")
        demand(float(weights.sum()) > 0, "all weights are 0")

    def test_sequence_length_is_respected(self) -> None:
        """Texts are the same at any maximum (the framework cuts); a window is no longer, a distance no shorter."""
        task = self.make()
        meaning = task_defaults(task).sequence_length_means
        ready = self._ready(task, self.splits_of(task))
        longest = int(ready.encoded("train", torch.arange(len(ready.splits["train"]))).lengths.max())
        if meaning == "maximum":
            if isinstance(ready.splits["train"].inputs, Ragged):
                return
            for value, other in self._lengths(2):
                for name, examples in self.splits_of(other).items():
                    fault = difference(examples, ready.splits[name])
                    demand(not fault, f"sequence_length={value} changes {name}, where the framework is to cut: {fault}")
            return
        start = max(1, longest // 2) if meaning == "window" else longest + 3
        for value, other in self._lengths(start):
            made = self._ready(other, self.splits_of(other))
            lengths = made.encoded("train", torch.arange(len(made.splits["train"]))).lengths
            found = int(lengths.max())
            right = found <= value if meaning == "window" else found >= value
            demand(right, f"sequence_length={value} is a {meaning}, but the longest sequence has {found} steps")
