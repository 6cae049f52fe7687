"""Checks of the constructor of a task and of its splits."""

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
from seqlab.testing.options import check_defaults, check_read, has_option
from seqlab.testing.process import record_reads
from seqlab.testing.suite import Suite, assert_close, require
from seqlab.testing.tasks.examples import (
    SPLITS,
    PreparedTask,
    check_targets,
    check_tensors,
    default_encoder,
    is_class,
    output_shape,
    perfect_outputs,
    require_same,
    row_keys,
    windows,
)

_PIECES = 4
"""Pieces of a corpus that are read."""


class TaskBase(Suite):
    """Makes the task of a :class:`seqlab.testing.TaskSuite`, its splits and outputs."""

    task: ClassVar[Callable[..., Task]]
    options: ClassVar[Mapping[str, Any]] = {}
    preprocessor: ClassVar[Callable[[], Preprocessor] | None] = None
    _prepared: ClassVar[PreparedTask]

    def make(self, **changed: Any) -> Task:
        """Return a new task, without its data."""
        made = type(self).task(**{**self.options, **changed})
        require(isinstance(made, Task), f"it is a {type(made).__name__}, not a seqlab.Task")
        return made

    def ready(self) -> PreparedTask:
        """Return a copy of the task with its splits, which are made once for all checks."""
        cls = type(self)
        if "_prepared" not in vars(cls):
            task = self.make()
            cls._prepared = self.prepare(task, self.splits_of(task))
        made = cls._prepared
        try:
            return PreparedTask(copy.deepcopy(made.task), made.splits, made.preprocessor)
        except Exception:  # such as a task that holds a lock
            task = self.make()
            return self.prepare(task, self.splits_of(task))

    def case(self, split: str = "train", most: int = 256) -> tuple[Task, Batch]:
        """Return a copy of the task, and a batch."""
        ready = self.ready()
        return ready.task, ready.batch(split, most)

    def splits_of(self, task: Task) -> Mapping[str, Examples]:
        """Return the splits; a corpus is cut into windows of tokens, up to some thousands of them."""
        splits = task.splits()
        if not isinstance(splits["train"], Corpus):
            return cast(Mapping[str, Examples], splits)
        preprocessor = self.encoder(task)
        texts = {name: list(islice(cast(Corpus, split).pieces(), _PIECES)) for name, split in splits.items()}
        preprocessor.fit(texts["train"])
        ids = {name: preprocessor.encode(pieces).values for name, pieces in texts.items()}
        counts = torch.bincount(ids["train"], minlength=preprocessor.size)
        if isinstance(task, LanguageTask):
            task.set_vocabulary(InputSpec("tokens", preprocessor.size, preprocessor.symbols), counts)
        return {name: windows(values, task.sequence_length or 1) for name, values in ids.items()}

    def encoder(self, task: Task) -> Preprocessor:
        """Return what encodes the texts, not fitted."""
        factory = type(self).preprocessor
        return default_encoder(task) if factory is None else factory()

    def prepare(self, task: Task, splits: Mapping[str, Examples]) -> PreparedTask:
        """Fit what encodes the texts, if the inputs are texts."""
        texts = splits["train"].inputs
        if isinstance(texts, Ragged):
            return PreparedTask(task, splits, None)
        preprocessor = self.encoder(task)
        preprocessor.fit(texts)
        return PreparedTask(task, splits, preprocessor)

    def perfect_outputs(self, task: Task, batch: Batch) -> Tensor:
        """Return outputs that fit the targets; override it if minimising the loss does not find them."""
        return perfect_outputs(task, batch)

    @staticmethod
    def random_outputs(task: Task, batch: Batch, seed: int = 1) -> Tensor:
        """Sample outputs for a batch from the normal distribution."""
        return torch.randn(output_shape(task, batch), generator=torch.Generator().manual_seed(seed))

    @staticmethod
    def scores(task: Task, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Compute new metrics of some outputs."""
        metrics = task.metrics()
        metrics.update(outputs, targets)
        return {name: float(value) for name, value in metrics.compute().items()}

    def monitored(self, task: Task, outputs: Tensor, batch: Batch) -> float:
        """Compute the monitored metric of some outputs."""
        return self.scores(task, outputs, batch.targets)[task.monitor]

    def _lengths(self, start: int) -> Iterator[tuple[int, Task]]:
        """Yield the first length from ``start`` on that the task accepts, and the task."""
        for value in (start, start + 1, start + 3, 2 * start + 6, 4 * start + 25):
            try:
                task = self.make(sequence_length=value)
            except ValueError:
                continue
            yield value, task
            return


def assert_scores_close(what: str, actual: Mapping[str, float], expected: Mapping[str, float]) -> None:
    """Require scores to agree, but for rounding."""
    for name, value in expected.items():
        assert_close(f"{name} {what}", torch.tensor(float(actual[name])), torch.tensor(float(value)), 1e-4)


_FEWEST = 20
_ROWS = 1500
_SHORTEST = 6
_CHANCE = math.log(1e9)
_SHARE = 0.3


class SplitChecks(TaskBase):
    """Valid and test are sampled like train, and share nothing with it."""

    def test_splits_are_shuffled(self) -> None:
        """Neither valid nor test has one class only, or none of the classes of train, as sorted data would."""
        ready = self.ready()
        targets = {name: ready.splits[name].targets for name in SPLITS}
        if ready.task.per_step or not is_class(targets["train"]) or targets["train"].dim() != 1:
            return
        found = {name: {*part.tolist()} for name, part in targets.items()}
        if len(set().union(*found.values())) < 2:
            return
        hint = "are the data sorted by class? Shuffle them by split_seed before they are cut"
        for name in ("valid", "test"):
            if len(targets[name]) >= _FEWEST:
                only = f"all {len(targets[name])} examples of {name} are of class {min(found[name])}: {hint}"
                require(len(found[name]) > 1, only)
                require(found[name] & found["train"], f"no class of {name} is in train: {hint}")

    def test_splits_share_no_steps(self) -> None:
        """No windows of valid or test overlap those of train, as if windows were shuffled before they are cut."""
        parts = {name: part.inputs for name, part in self.ready().splits.items() if name in SPLITS}
        train = parts["train"]
        if not isinstance(train, Ragged) or train.even is None or len(train) < _FEWEST:
            return
        steps = int(train.lengths[0])
        run = steps // 2
        if steps < _SHORTEST:
            return
        rows = {name: _rows(part, steps) for name, part in parts.items() if isinstance(part, Ragged)}
        joined = torch.cat(list(rows.values()))
        _, ids = torch.unique(joined.flatten(0, 1), dim=0, return_inverse=True)  # equal steps have one number
        numbers = dict(zip(rows, ids.view(joined.shape[:2]).split(list(map(len, rows.values()))), strict=True))
        own = numbers["train"]
        places = range(steps - run, -1, -1)
        known = {key: place for place in places for key in _keys(own[:, place : place + run])}
        kinds = len(torch.unique(own))
        if kinds < len(own) / 2 and run * math.log(max(kinds, 2)) < _CHANCE:
            return  # sequences of a few kinds of steps can be alike by chance
        if len(known) < len(own) / 2:
            return  # the same patterns everywhere
        for name in ("valid", "test"):
            found = numbers.get(name)
            if found is None or len(found) < _FEWEST:
                continue
            first, last = found[:, :run], found[:, -run:]
            ends = zip(_keys(first), _keys(last), _varied(first), _varied(last), strict=True)
            shared = sum(
                (v and known.get(one, 0) > 0) or (w and known.get(other, steps - run) < steps - run)
                for one, other, v, w in ends
            )
            require(
                shared <= _SHARE * len(found),
                f"{shared} of {len(found)} sequences of {name} begin or end with {run} steps that stand elsewhere in a"
                " sequence of train: windows that overlap must not be shuffled before they are cut into splits",
            )


def _rows(part: Ragged, steps: int) -> Tensor:
    """Return up to some thousand sequences of that length, ``[rows, steps, features]``."""
    size = math.prod(part.values.shape[1:])
    if part.even is None or part.even.shape[1] != steps:
        return part.values.new_zeros(0, steps, size)
    return part.even[:_ROWS].reshape(-1, steps, size)


def _keys(numbers: Tensor) -> list[bytes]:
    return [row.tobytes() for row in numbers.contiguous().numpy()]


def _varied(numbers: Tensor) -> list[bool]:
    """Return for each row whether at least half of its steps differ from the step before."""
    changes = (numbers[:, 1:] != numbers[:, :-1]).sum(1)
    return (2 * changes >= numbers.shape[1] - 1).tolist()


class DataChecks(TaskBase):
    """The constructor, the splits and their sequence length."""

    def test_constructor_needs_nothing(self) -> None:
        """Every argument of the constructor has a default."""
        check_defaults(self.make())

    def test_options_are_read(self) -> None:
        """Each option of the constructor is read by something."""
        check_read(type(self.make()))

    def test_constructor_reads_no_data(self) -> None:
        """The constructor opens no file, folder or connection."""
        with record_reads() as found:
            self.make()
        require(not found, f"the constructor reads: {'; '.join(found[:3])}; move this to splits()")

    def test_sequence_length_is_an_option(self) -> None:
        """``sequence_length`` is an option, kept under this name; 0 and less are refused with a ValueError."""
        task = self.make()
        require(has_option(task, "sequence_length"), "the constructor takes no sequence_length")
        for wrong in (0, -1):
            try:
                self.make(sequence_length=wrong)
            except ValueError as error:
                require(str(error), f"sequence_length={wrong} raises a ValueError without a message")
            else:
                raise AssertionError(f"sequence_length={wrong} is accepted")
        for value, other in self._lengths(task.sequence_length or 4):
            kept = other.sequence_length
            require(kept == value, f"sequence_length={value} is given, but the attribute is {kept}")

    def test_splits_are_three(self) -> None:
        """There are the splits train, valid and test, and none is empty."""
        splits = self.splits_of(self.make())
        for name in SPLITS:
            require(name in splits, f"there is no split {name}; there are {', '.join(splits) or 'none'}")
            kind = type(splits[name]).__name__
            require(isinstance(splits[name], Examples), f"{name} is a {kind}, not seqlab.Examples")
            require(len(splits[name]) > 0, f"{name} has no examples")

    def test_splits_are_disjoint(self) -> None:
        """No input of one split is in another."""
        keys = {name: set(row_keys(examples.inputs)) for name, examples in self.splits_of(self.make()).items()}
        for one, other in combinations(SPLITS, 2):
            both = keys[one] & keys[other]
            texts = sorted(repr(key)[:60] for key in both if isinstance(key, str))
            such = f", such as {texts[0]}" if texts else ""
            require(not both, f"{len(both)} inputs are in {one} and in {other}{such}")

    def test_inputs_are_right(self) -> None:
        """Inputs are texts, token ids from 1 on that training shows, or finite features of one size."""
        splits = self.splits_of(self.make())
        train = splits["train"].inputs
        for name, examples in splits.items():
            inputs = examples.inputs
            kinds = ["tensors" if isinstance(each, Ragged) else "texts" for each in (inputs, train)]
            require(kinds[0] == kinds[1], f"{name} has {kinds[0]}, and train has {kinds[1]}")
            if isinstance(inputs, Ragged):
                assert isinstance(train, Ragged)
                check_tensors(name, inputs, train)
                continue
            odd = next((type(text).__name__ for text in inputs if not isinstance(text, str)), None)
            require(odd is None, f"{name}: an input is a {odd}, not a text")

    def test_default_preprocessing(self) -> None:
        """A task of texts names the preprocessing that encodes them; a task of tensors names none."""
        task = self.make()
        train, named = task.splits()["train"], task_defaults(task).preprocessing
        if isinstance(train, Examples) and isinstance(train.inputs, Ragged):
            require(named is None, f"the inputs are tensors, which {named} cannot encode")
            return
        require(named, "the inputs are texts, but no preprocessing is named")
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
            require(len(targets) == len(examples.inputs), f"{name}: {len(targets)} targets, {len(examples)} inputs")
            require(targets.dtype == train.dtype, f"the targets of {name} are {targets.dtype}, of train {train.dtype}")
            if task.per_step:
                lengths = ready.encoded(name).lengths
                longest = int(lengths.max())
                require(
                    targets.dim() >= 2 and targets.shape[1] >= longest,
                    f"{name}: targets of the shape {tuple(targets.shape)} are not one for each of {longest} steps",
                )
                targets = targets[torch.arange(targets.shape[1]) < lengths.unsqueeze(1)]
            check_targets(name, targets, task)
            if is_class(targets):
                _check_more_classes(task, ready.batch(name))

    def test_sample_weights(self) -> None:
        """``sample_weights`` is None, or one weight for each training example: finite, none negative, not all 0."""
        ready = self.ready()
        weights, count = sample_weights(ready.task), len(ready.splits["train"])
        if weights is None:
            return
        require(isinstance(weights, Tensor), f"sample_weights returns a {type(weights).__name__}, not a tensor")
        require(tuple(weights.shape) == (count,), f"weights of the shape {tuple(weights.shape)} for {count} examples")
        require(bool(weights.isfinite().all()), f"{int((~weights.isfinite()).sum())} weights are not finite")
        require(float(weights.min()) >= 0, f"a weight is {float(weights.min()):.3g}; all must be >= 0")
        require(float(weights.sum()) > 0, "all weights are 0")

    def test_sequence_length_is_respected(self) -> None:
        """Texts are the same at any maximum (the framework cuts); a window is no longer, a distance no shorter."""
        task = self.make()
        meaning = task_defaults(task).sequence_length_means
        ready = self.prepare(task, self.splits_of(task))
        longest = int(ready.encoded("train").lengths.max())
        if meaning == "maximum":
            if isinstance(ready.splits["train"].inputs, Ragged):
                return
            for value, other in self._lengths(2):
                for name, examples in self.splits_of(other).items():
                    what = f"{name} with sequence_length={value}, by which the framework, not the task, cuts"
                    require_same(what, examples, ready.splits[name])
            return
        start = max(1, longest // 2) if meaning == "window" else longest + 3
        for value, other in self._lengths(start):
            found = int(self.prepare(other, self.splits_of(other)).encoded("train").lengths.max())
            right = found <= value if meaning == "window" else found >= value
            require(right, f"sequence_length={value} is a {meaning}, but the longest sequence has {found} steps")


def _check_more_classes(task: Task, batch: Batch) -> None:
    """Require the loss to accept targets beyond the outputs, as those of ordinal regression are."""
    most, outputs = int(batch.targets.max()), task.outputs
    if most < max(outputs, 2):  # one output tells two classes apart
        return
    try:
        loss = task.loss(torch.zeros(output_shape(task, batch)), batch)
        fault = "" if loss.isfinite() else f"the loss is {loss.item():g}"
    except Exception as error:
        fault = f"the loss fails: {error}".splitlines()[0]
    require(not fault, f"a target is {most}, and outputs is {outputs}, which allows 0 to {outputs - 1}; {fault}")
