"""Checks of a task's constructor and data."""

from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor

from seqlab.contracts import Examples, Ragged, Task, UserError
from seqlab.discovery import find
from seqlab.testing.guesses import is_class
from seqlab.testing.plain import check_defaults, has_option, reads
from seqlab.testing.suite import demand
from seqlab.testing.taskdata import (
    check_more_classes,
    check_targets,
    check_tensors,
    difference,
    row_keys,
)
from seqlab.testing.tasks.making import SPLITS, TaskMaking
from seqlab.testing.unread import check_read

_MEANINGS = ("maximum", "window", "distance")


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
        train = task.splits()["train"]
        if isinstance(train, Examples) and isinstance(train.inputs, Ragged):
            demand(task.preprocessing is None, f"the inputs are tensors, which {task.preprocessing} cannot encode")
            return
        demand(task.preprocessing, "the inputs are texts, but no preprocessing is named")
        try:
            find("preprocessing", str(task.preprocessing)).load()
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
        weights, count = ready.task.sample_weights(), len(ready.splits["train"])
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
        meaning = getattr(task, "sequence_length_means", None)
        demand(meaning in _MEANINGS, f"sequence_length_means is {meaning!r}; it must be one of {', '.join(_MEANINGS)}")
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
