"""Checks that a task's data depend on its seeds alone, and of its decoded outputs, report and state."""

import hashlib
import json
import random
import tempfile
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, cast
from unittest import SkipTest

import numpy as np
import torch
from torch import Tensor

from seqlab.contracts import Batch, Examples, GeneratedTask, Preprocessor, Ragged, Report, Task
from seqlab.contracts.task import detail_metrics, is_fresh, label_names, sample_weights, takes_length, task_report
from seqlab.testing.options import check_options, has_option
from seqlab.testing.process import (
    call_elsewhere,
    check_plain,
    check_refuses_bad_states,
    random_numbers,
    record_reads,
    to_json,
    working_in,
)
from seqlab.testing.suite import require
from seqlab.testing.tasks.data import TaskBase
from seqlab.testing.tasks.examples import (
    SPLITS,
    PreparedTask,
    check_targets,
    check_tensors,
    has_classes,
    is_class,
    require_same,
    row_keys,
    targets_of,
    valid_steps,
)
from seqlab.testing.tasks.leaks import targets_by_input

_SEEDS = (1, 2, 3, 4, 11, 257, 65_537, 2**24, 2**24 + 1, 2**31 + 1, 2**32 - 5)
"""Seeds that collide if some of their digits are lost; the framework's are below 2**32."""
_SAMPLES = 100


class RepeatChecks(TaskBase):
    """The same seeds give the same data; other seeds, other data."""

    def test_splits_are_reproducible(self) -> None:
        """The splits are the same when made twice and in another instance, whatever the global random numbers."""
        task = self.make()
        with random_numbers(1):
            first = self.splits_of(task)
        with random_numbers(2):
            again = self.splits_of(task)
        with random_numbers(3):
            other = self.splits_of(self.make())
        for what, splits in (("made twice by one instance", again), ("made by two instances", other)):
            for name in SPLITS:
                require_same(f"{name}, {what}", splits[name], first[name])
        self._use(self.prepare(task, again))
        for name in SPLITS:
            require_same(f"{name}, after the task was used,", again[name], other[name])

    def _use(self, ready: PreparedTask) -> None:
        """Call what a run calls."""
        task = ready.task
        for name in SPLITS:
            batch = ready.batch(name, 32)
            outputs = self.random_outputs(task, batch)
            task.loss(outputs, batch)
            self.scores(task, outputs, batch.targets)
            task.baseline_outputs(batch)
            task.decode(outputs, 1)
        sample_weights(task)
        task.state_dict()
        if is_fresh(task):
            task.draw(3, 1)

    def test_same_in_another_process(self) -> None:
        """Splits, labels, vocabulary, state and samples are the same in another process, under another hash seed."""
        cls = type(self)
        arguments = (cls.task, dict(self.options), cls.preprocessor)
        elsewhere = call_elsewhere(fingerprint, *arguments)
        for what, value in fingerprint(*arguments).items():
            same = all(found.get(what) == value for found in elsewhere)
            require(same, f"{what}: differs in another process (the hash order of a set?)")

    def test_global_random_numbers_are_left_alone(self) -> None:
        """Neither splits nor samples nor a loss seed the global random numbers, by which a model is initialised."""
        after: list[tuple[float, float, float]] = []
        for seed in (1, 2):
            with random_numbers(seed):
                task = self.make()
                task.splits()
                if is_fresh(task):
                    task.draw(4, 5)
                task, batch = self.case(most=8)
                task.loss(self.random_outputs(task, batch), batch)
                after.append((float(torch.rand(())), random.random(), float(np.random.rand())))
        for library, one, other in zip(("torch", "random", "numpy.random"), *after, strict=True):
            require(one != other, f"the global generator of {library} is seeded; use a generator of your own")

    def _fresh(self) -> tuple[PreparedTask, GeneratedTask]:
        """Return the prepared task; skip the check if it samples no new examples."""
        ready = self.ready()
        if not is_fresh(ready.task):
            raise SkipTest("it is not fresh")
        return ready, ready.task

    def test_draws_are_seeded(self) -> None:
        """New examples depend on their seed alone, and are inputs and targets like those of training."""
        ready, task = self._fresh()
        train = ready.splits["train"].inputs
        with random_numbers(1):
            one, other = task.draw(24, 1), task.draw(24, 2)
        with random_numbers(2):
            again, later = cast(GeneratedTask, self.make()).draw(24, 1), task.draw(24, 1)
        require(len(one) == 24, f"draw(24, 1) returns {len(one)} examples")
        require_same("24 examples drawn by another instance from the same seed", again, one)
        require_same("24 examples drawn again from the same seed", later, one)
        inputs = [*row_keys(one.inputs)]
        targets = [each.targets.nan_to_num() for each in (one, other)]
        changed = inputs != [*row_keys(other.inputs)] or not torch.equal(*targets)
        require(changed, "another seed draws the same examples")
        held_out = {key for name in ("valid", "test") for key in row_keys(ready.splits[name].inputs)}
        both = sum(key in held_out for key in inputs)
        require(not both, f"{both} of 24 drawn inputs are in valid or test")
        require(one.targets.dtype == ready.splits["train"].targets.dtype, f"drawn targets are {one.targets.dtype}")
        if not task.per_step:
            check_targets("drawn", one.targets, task)
        elif isinstance(one.inputs, Ragged):
            batch = Batch(*one.inputs.padded(torch.arange(len(one))), one.targets)
            check_targets("drawn", targets_of(task, batch)[valid_steps(batch)], task)
        if isinstance(one.inputs, Ragged) and isinstance(train, Ragged):
            check_tensors("drawn", one.inputs, train)
            if int(train.lengths.min()) == int(train.lengths.max()):
                odd = int((one.inputs.lengths != train.lengths[0]).sum())
                require(not odd, f"{odd} drawn sequences have another length than the {int(train.lengths[0])} of train")

    def test_draws_honour_a_length(self) -> None:
        """Examples drawn at a length are those of a task with this ``sequence_length``."""
        _, task = self._fresh()
        if not takes_length(task):
            raise SkipTest("its lengths are always fixed")
        for value, other in self._lengths((task.sequence_length or 4) + 3):
            what = f"draw(8, 1, {value}), and draw(8, 1) with sequence_length={value},"
            require_same(what, task.draw(8, 1, value), cast(GeneratedTask, other).draw(8, 1))

    def test_draws_are_independent(self) -> None:
        """Samples of different seeds share no more examples than by chance."""
        _, task = self._fresh()
        made = {seed: [*row_keys(task.draw(_SAMPLES, seed).inputs)] for seed in _SEEDS}
        twice = max(len(keys) - len({*keys}) for keys in made.values())
        for one, other in combinations(_SEEDS, 2):
            both = len({*made[one]} & {*made[other]})
            fault = f"{both} of {_SAMPLES} examples drawn by the seeds {one} and {other} are the same"
            require(both <= 10 + 6 * twice, fault)

    def test_split_seed_changes_the_splits(self) -> None:
        """Another ``split_seed`` gives other splits, each input with its target; the same one gives the same."""
        if not has_option(self.make(), "split_seed"):
            raise SkipTest("it has no option split_seed")
        first, again, *others = [self.splits_of(self.make(split_seed=seed)) for seed in (1, 1, 2, 3, 4)]
        for name in SPLITS:
            require_same(f"split_seed=1, made twice: {name}", again[name], first[name])
        moved = any(
            {*row_keys(splits[name].inputs)} != {*row_keys(first[name].inputs)}
            for splits in others
            for name in ("valid", "test")
        )
        require(moved, "split_seed 1, 2, 3 and 4 give the same splits")
        for splits in others:
            _check_labels(first, splits)

    def test_every_option(self) -> None:
        """Each other value of an option that is a ``bool``, a ``Literal`` or an enum passes the checks, too."""
        check_options(self, "ready", _OF_OPTIONS)


_OF_OPTIONS = (
    "targets_are_right",
    "sample_weights",
    "head_gives_the_outputs",
    "head_keeps_rows_apart",
    "head_keeps_no_statistics",
    "loss_has_no_memory",
    "loss_takes_rows_in_any_order",
    "classes_weigh_the_same_in_any_batch",
    "loss_is_a_finite_scalar",
    "loss_prefers_the_truth",
    "every_row_counts_alike",
    "loss_is_a_mean",
    "loss_learns_from_mistakes",
    "padding_does_not_count",
    "monitor_is_a_metric",
    "derived_figures_are_numbers",
    "metrics_add_up",
    "metrics_are_fresh",
    "metrics_join",
    "mode_is_right",
    "baseline_ignores_the_input",
    "baseline_is_the_best_guess",
    "baseline_comes_from_training",
    "splits_are_disjoint",
    "splits_are_disjoint_when_encoded",
    "splits_share_no_steps",
    "splits_are_shuffled",
    "targets_are_not_among_inputs",
    "scaling_comes_from_training",
    "weights_belong_to_their_examples",
    "decode_honours_top",
    "decode_gives_json",
    "labels_are_the_targets",
    "state_is_restored",
)
"""Checks that an option can make fail, of those that take little time."""


def fingerprint(
    task: Callable[..., Task], options: Mapping[str, Any], preprocessor: Callable[[], Preprocessor] | None
) -> dict[str, Any]:
    """Summarise the data, labels and state of a task, by name."""
    members: dict[str, Any] = {"task": staticmethod(task), "options": options}
    if preprocessor is not None:
        members["preprocessor"] = staticmethod(preprocessor)
    ready = type("Fingerprint", (TaskBase,), members)().ready()
    made, weights = ready.task, sample_weights(ready.task)
    found: dict[str, Any] = {}
    for name, examples in ready.splits.items():
        found |= _summary(f"split {name}", examples)
    if is_fresh(made):
        found |= _summary("what is drawn by seed 1", made.draw(50, 1))
    found["label_names()"] = None if label_names(made) is None else [*(label_names(made) or ())]
    found["the attribute labels"] = repr(getattr(made, "labels", None))
    found["state_dict()"] = json.dumps(made.state_dict(), default=str)
    if ready.preprocessor is not None:
        found["the vocabulary of the preprocessing"] = json.dumps(ready.preprocessor.state_dict(), default=str)
    found["sample_weights()"] = None if weights is None else _hash(weights.numpy().tobytes())
    return found


def _summary(what: str, examples: Examples) -> dict[str, str]:
    keys = [
        key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass") for key in row_keys(examples.inputs)
    ]
    return {
        f"{what}, as a set of inputs": _hash(b"\0\1\0".join(sorted(keys))),
        f"the order of {what}": _hash(b"\0\1\0".join(keys)),
        f"the targets of {what}": _hash(examples.targets.contiguous().numpy().tobytes()),
    }


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _check_labels(one: Mapping[str, Examples], other: Mapping[str, Examples]) -> None:
    """Require inputs that are in both splits to have the same classes there, but for their numbers."""
    if not is_class(one["train"].targets) or one["train"].targets.dim() != 1:
        return
    before: dict[str | bytes, int] = {}
    after: dict[str | bytes, int] = {}
    for name in SPLITS:
        before |= targets_by_input(one[name])
        after |= targets_by_input(other[name])
    pairs = [(before[key], after[key]) for key in before if key in after]
    known: dict[int, int] = {}
    for here, there in pairs if len(pairs) >= 20 else ():
        require(
            known.setdefault(here, there) == there,
            f"under another split_seed an input of class {here} has class {there}, and another one has"
            f" {known[here]}: are inputs and targets shuffled together?",
        )


class OutputChecks(TaskBase):
    """``decode``, the report and the state are right."""

    def test_decode_gives_json(self) -> None:
        """``decode`` returns a list with an entry for each row, which JSON can write and other rows do not change."""
        task, batch = self.case("test", 6)
        outputs = self.random_outputs(task, batch)
        decoded = task.decode(outputs)
        require(isinstance(decoded, list), f"decode returns a {type(decoded).__name__}, not a list")
        require(len(decoded) == len(outputs), f"decode returns {len(decoded)} entries for {len(outputs)} rows")
        together = to_json("what decode returns", decoded)
        for row in range(len(outputs)):
            alone = task.decode(outputs[row : row + 1])
            same = len(alone) == 1 and _alike(to_json("what decode returns", alone)[0], together[row])
            require(same, f"row {row} alone is decoded to {alone}, and among others to {together[row]}")

    def test_decode_honours_top(self) -> None:
        """For one class a row: ``top`` entries, the likeliest first, and no more than there are classes."""
        task, batch = self.case("test", 64)
        if task.per_step or not has_classes(task, batch):
            raise SkipTest("it does not put one class on a sequence")
        outputs = self.random_outputs(task, batch)
        most = task.decode(outputs, top=10_000)
        if not all(isinstance(entry, list) for entry in most):
            raise SkipTest("decode returns one value for a row, not a list")
        for top in (1, 2, 3):
            for entry, whole in zip(task.decode(outputs, top), most, strict=True):
                require(len(entry) == min(top, len(whole)), f"top={top} gives {len(entry)} entries of {len(whole)}")
                require(_alike(entry, whole[:top]), f"top={top} gives {entry}, but the likeliest are {whole[:top]}")
        best = map(json.dumps, task.decode(self.perfect_outputs(task, batch), 1))
        by_class = dict(zip(batch.targets.tolist(), best, strict=True))
        distinct = {*by_class.values()}
        require(len(distinct) == len(by_class), f"{len(by_class)} classes are all decoded to {', '.join(distinct)}")

    def test_labels_are_the_targets(self) -> None:
        """With label names, a target is a label's index, and ``decode`` returns the label and its probability."""
        task, batch = self.case("test", 64)
        if (names := label_names(task)) is None:
            raise SkipTest("it names no labels")
        right = all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names)
        require(right, f"label_names() must return different, non-empty texts, not {str(names)[:80]}")
        highest = int(batch.targets.max())
        require(highest < len(names), f"a target is {highest}, and there are {len(names)} labels")
        decoded = task.decode(self.perfect_outputs(task, batch), 1)
        for target, entry in zip(batch.targets.tolist(), decoded, strict=True):
            first = entry[0] if isinstance(entry, list) and entry else entry
            whole = isinstance(first, dict) and {"label", "probability"} <= first.keys()
            require(whole, f"decode returns {str(entry)[:60]}, not a list of label and probability")
            require(first["label"] == names[target], f"label {target} is {names[target]}, decoded as {first['label']}")
            require(0 <= first["probability"] <= 1, f"a probability is {first['probability']}")
        for entry in task.decode(self.random_outputs(task, batch), 10_000):
            if isinstance(entry, list) and len(entry) == len(names):
                found = [one["probability"] for one in entry]
                total = f"the probabilities of all {len(names)} labels add up to {sum(found):.4g}"
                require(abs(sum(found) - 1) < 1e-3, total)
                require(found == sorted(found, reverse=True), f"the likeliest label must be first, not {found[:4]}")

    def test_report_stays_in_its_folder(self) -> None:
        """The report is tables that JSON can write, notes, and figures in its folder; it writes nowhere else."""
        task, batch = self.case("test", 1024)
        details = detail_metrics(task)
        computed: dict[str, Tensor] = {}
        if details is not None:
            require(detail_metrics(task) is not details, "details() returns the same object at every call")
            details.update(self.random_outputs(task, batch), batch.targets)
            computed = dict(details.compute())
        with tempfile.TemporaryDirectory() as name:
            folder, elsewhere = Path(name).resolve() / "run", Path(name).resolve() / "elsewhere"
            folder.mkdir()
            elsewhere.mkdir()
            with working_in(elsewhere):
                report = task_report(task, computed, folder)
            strays = [*elsewhere.iterdir(), *({*folder.parent.iterdir()} - {folder, elsewhere})]
            require(not strays, f"the report writes {', '.join(path.name for path in strays)} outside its folder")
            _check_report(report, folder)

    def test_state_is_plain_json(self) -> None:
        """The state is a dict of plain JSON values."""
        check_plain("state_dict()", self.ready().task.state_dict())

    def test_state_is_restored(self) -> None:
        """A new task that loads the state has the same outputs and head, and decodes to the same, without data."""
        (task, batch), fresh = self.case("test", 16), self.make()
        with record_reads() as found:
            fresh.load_state_dict(json.loads(json.dumps(task.state_dict())))
        require(not found, f"loading the state reads {'; '.join(found[:3])}")
        require(fresh.outputs == task.outputs, f"outputs is {fresh.outputs} after loading, and was {task.outputs}")
        fresh.head(3)
        for outputs in (self.random_outputs(task, batch), self.perfect_outputs(task, batch)):
            got, expected = fresh.decode(outputs), task.decode(outputs)
            require(got == expected, f"after loading, {str(expected[0])[:60]} is decoded as {str(got[0])[:60]}")
        labels = getattr(task, "labels", None)
        require(getattr(fresh, "labels", None) == labels, "the labels are not the same after loading")
        require(fresh.state_dict() == task.state_dict(), "state_dict() differs after loading")

    def test_bad_states_are_refused(self) -> None:
        """A state that it did not write is refused with a ValueError."""
        check_refuses_bad_states(json.loads(json.dumps(self.ready().task.state_dict())), self.make)


def _check_report(report: Report, folder: Path) -> None:
    """Require plain tables, notes that are texts, and figures that are files in the folder."""
    require(isinstance(report, Report), f"report returns a {type(report).__name__}, not a seqlab.Report")
    to_json("the report's tables", report.tables, nan=True)
    for name, rows in report.tables.items():
        plain = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
        require(plain, f"the table {name} must be a list of rows, each a dict")
    require(all(isinstance(note, str) for note in report.notes), "a note is not a text")
    for figure in report.figures:
        path = (folder / figure).resolve()
        require(path.is_relative_to(folder), f"the figure {figure} is not in the report's folder")
        require(path.is_file() and path.stat().st_size, f"the figure {figure} is missing, or empty")


def _alike(actual: Any, expected: Any) -> bool:
    """Return whether two JSON values are the same, numbers to a part in 10,000."""
    if isinstance(actual, float) and isinstance(expected, float):
        return abs(actual - expected) <= 1e-4 * max(1.0, abs(expected))
    if isinstance(actual, dict) and isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(_alike(actual[key], expected[key]) for key in actual)
    if isinstance(actual, list) and isinstance(expected, list):
        return len(actual) == len(expected) and all(map(_alike, actual, expected))
    return bool(actual == expected)
