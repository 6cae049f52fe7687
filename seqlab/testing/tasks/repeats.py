"""Checks that what a task draws and makes depends on its seeds alone."""

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

from seqlab.contracts import Batch, Examples, GeneratedTask, Preprocessor, Ragged, Task
from seqlab.contracts.task import detail_metrics, is_fresh, label_names, sample_weights, task_report
from seqlab.errors import UserError
from seqlab.plugins.signature import options
from seqlab.testing.hints import has_classes, is_class, live, targets_of
from seqlab.testing.inputs import (
    Ready,
    alike,
    check_plain,
    check_refuses_bad_states,
    check_report,
    check_targets,
    check_tensors,
    difference,
    has_option,
    random_numbers,
    reads,
    row_keys,
    updated,
    working_in,
    written,
)
from seqlab.testing.options import hold, no_network, variants
from seqlab.testing.process import call_elsewhere
from seqlab.testing.suite import demand
from seqlab.testing.tasks.data import SPLITS, TaskMaking
from seqlab.testing.tasks.leaks import held

_SEEDS = (1, 2, 3, 4, 11, 257, 65_537, 2**24, 2**24 + 1, 2**31 + 1, 2**32 - 5)
"""Seeds that fall together if some of their digits are lost; the framework's are below 2**32."""
_DRAWN = 100


class RepeatChecks(TaskMaking):
    """The same seeds, the same data; other seeds, other data."""

    def test_splits_are_the_same_again(self) -> None:
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
                fault = difference(splits[name], first[name])
                demand(not fault, f"{name}, {what}: {fault}")
        self._use(self._ready(task, again))
        for name in SPLITS:
            fault = difference(again[name], other[name])
            demand(not fault, f"{name} was changed as the task was used: {fault}")

    def _use(self, ready: Ready) -> None:
        """Call what a run calls."""
        task = ready.task
        for name in SPLITS:
            batch = ready.batch(name, 32)
            outputs = self.drawn(task, batch)
            task.loss(outputs, batch)
            updated(task.metrics(), outputs, batch.targets)
            task.baseline_outputs(batch)
            task.decode(outputs, 1)
        sample_weights(task)
        task.state_dict()
        if is_fresh(task):
            task.draw(3, 1)

    def test_same_in_another_process(self) -> None:
        """Splits, labels, vocabulary, state and draws are the same in another process, under another hash seed."""
        cls = type(self)
        arguments = (cls.task, dict(self.options), cls.preprocessor)
        elsewhere = call_elsewhere(fingerprint, *arguments)
        for what, value in fingerprint(*arguments).items():
            same = all(found.get(what) == value for found in elsewhere)
            demand(same, f"{what} is another one in another process (the hash order of a set?)")

    def test_global_random_numbers_are_left_alone(self) -> None:
        """Neither splits nor draws nor a loss seed the global random numbers, by which a model is initialised."""
        after: list[tuple[float, float, float]] = []
        for seed in (1, 2):
            with random_numbers(seed):
                task = self.make()
                task.splits()
                if is_fresh(task):
                    task.draw(4, 5)
                ready = self.ready()
                batch = ready.batch(most=8)
                ready.task.loss(self.drawn(ready.task, batch), batch)
                after.append((float(torch.rand(())), random.random(), float(np.random.rand())))
        for library, one, other in zip(("torch", "random", "numpy.random"), *after, strict=True):
            demand(one != other, f"the global generator of {library} is seeded; use a generator of your own")

    def test_draws_are_seeded(self) -> None:
        """Fresh examples depend on their seed alone, and are inputs and targets like those of training."""
        ready = self.ready()
        task, train = ready.task, ready.splits["train"]
        if not is_fresh(task):
            raise SkipTest("it is not fresh")
        with random_numbers(1):
            one, other = task.draw(24, 1), task.draw(24, 2)
        with random_numbers(2):
            again, later = cast(GeneratedTask, self.make()).draw(24, 1), task.draw(24, 1)
        demand(len(one) == 24, f"24 examples are to be drawn, and {len(one)} are")
        for what, found in (("by another instance", again), ("after other draws", later)):
            fault = difference(found, one)
            demand(not fault, f"24 examples drawn again by the same seed, {what}: {fault}")
        demand(difference(other, one), "another seed draws the same examples")
        held_out = {key for name in ("valid", "test") for key in row_keys(ready.splits[name].inputs)}
        both = sum(key in held_out for key in row_keys(one.inputs))
        demand(not both, f"{both} of 24 drawn inputs are in valid or test")
        demand(one.targets.dtype == train.targets.dtype, f"drawn targets are {one.targets.dtype}")
        if not task.per_step:
            check_targets("drawn", one.targets, task)
        elif isinstance(one.inputs, Ragged):
            batch = Batch(*one.inputs.padded(torch.arange(len(one))), one.targets)
            check_targets("drawn", targets_of(task, batch)[live(batch)], task)
        if isinstance(one.inputs, Ragged) and isinstance(train.inputs, Ragged):
            check_tensors("drawn", one.inputs, train.inputs)
            self._check_lengths(one.inputs, train.inputs)

    @staticmethod
    def _check_lengths(drawn: Ragged, train: Ragged) -> None:
        if int(train.lengths.min()) == int(train.lengths.max()):
            odd = int((drawn.lengths != train.lengths[0]).sum())
            demand(not odd, f"{odd} drawn sequences have another length than the {int(train.lengths[0])} of train")

    def test_draws_are_independent(self) -> None:
        """Draws by different seeds share no more examples than chance makes them."""
        task = self.ready().task
        if not is_fresh(task):
            raise SkipTest("it is not fresh")
        made = {seed: [*row_keys(task.draw(_DRAWN, seed).inputs)] for seed in _SEEDS}
        twice = max(len(keys) - len({*keys}) for keys in made.values())
        for one, other in combinations(_SEEDS, 2):
            both = len({*made[one]} & {*made[other]})
            demand(
                both <= 10 + 6 * twice,
                f"{both} of {_DRAWN} examples drawn by the seeds {one} and {other} are the same",
            )

    def test_split_seed_deals_anew(self) -> None:
        """Another ``split_seed`` deals valid and test anew, each input with its target; the same one, the same."""
        if not has_option(self.make(), "split_seed"):
            raise SkipTest("it has no option split_seed")
        made = [self.splits_of(self.make(split_seed=seed)) for seed in (1, 1, 2, 3, 4)]
        for name in SPLITS:
            fault = difference(made[1][name], made[0][name])
            demand(not fault, f"split_seed=1, made twice: {name}: {fault}")
        first, *others = [{*row_keys(made[at]["valid"].inputs)} for at in (0, 2, 3, 4)]
        one, *rest = [{*row_keys(made[at]["test"].inputs)} for at in (0, 2, 3, 4)]
        moved = any(found != first for found in others) or any(found != one for found in rest)
        demand(moved, "split_seed 1, 2, 3 and 4 give the same splits")
        for splits in made[2:]:
            _check_labels(made[0], splits)

    def test_every_option(self) -> None:
        """Each other value of an option that is a ``bool``, a ``Literal`` or an enum passes the checks, too."""
        target = type(self.make())
        named = {option.name for option in options(target)}
        for what, changed in variants(target, {key: value for key, value in self.options.items() if key in named}):
            members = {"options": {**self.options, **changed}}
            suite: Any = type(f"{type(self).__name__}_{what}", (type(self),), members)()
            try:
                with no_network():
                    suite.ready()
            except (ValueError, OSError, UserError, ImportError):
                continue  # it contradicts another option, or needs what is not here
            hold(suite, _OF_OPTIONS, what)


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
    "baseline_is_blind",
    "baseline_is_the_best_guess",
    "baseline_is_of_training",
    "splits_are_disjoint",
    "splits_are_disjoint_when_encoded",
    "splits_share_no_steps",
    "splits_are_dealt_by_chance",
    "targets_are_not_among_inputs",
    "scales_are_of_training",
    "weights_belong_to_their_examples",
    "decode_honours_top",
    "decode_gives_json",
    "labels_are_the_targets",
    "state_is_taken_back",
)
"""Checks that an option can make fail, of those that take little time."""


def fingerprint(
    task: Callable[..., Task], options: Mapping[str, Any], preprocessor: Callable[[], Preprocessor] | None
) -> dict[str, Any]:
    """Summarise what a task makes of its seeds, by name."""
    members = {"task": staticmethod(task), "options": options}
    if preprocessor is not None:
        members["preprocessor"] = staticmethod(preprocessor)
    ready = type("Again", (TaskMaking,), members)().ready()
    made = ready.task
    found: dict[str, Any] = {}
    for name, examples in ready.splits.items():
        found |= _summary(f"split {name}", examples)
    if is_fresh(made):
        found |= _summary("what is drawn by seed 1", made.draw(50, 1))
    found["the labels"] = None if label_names(made) is None else [*(label_names(made) or ())]
    found["the attribute labels"] = repr(getattr(made, "labels", None))
    found["state_dict()"] = json.dumps(made.state_dict(), default=str)
    if ready.preprocessor is not None:
        found["the vocabulary of the preprocessing"] = json.dumps(ready.preprocessor.state_dict(), default=str)
    weights = sample_weights(made)
    found["sample_weights()"] = None if weights is None else _hash(weights.numpy().tobytes())
    return found


def _summary(what: str, examples: Examples) -> dict[str, str]:
    keys = [
        key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass") for key in row_keys(examples.inputs)
    ]
    return {
        f"{what}, as a set of inputs,": _hash(b"\0\1\0".join(sorted(keys))),
        f"the order of {what}": _hash(b"\0\1\0".join(keys)),
        f"the targets of {what}": _hash(examples.targets.contiguous().numpy().tobytes()),
    }


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _check_labels(one: Mapping[str, Examples], other: Mapping[str, Examples]) -> None:
    """Check that inputs which are in two deals have the same classes there, but for their numbers."""
    if not is_class(one["train"].targets) or one["train"].targets.dim() != 1:
        return
    before: dict[str | bytes, int] = {}
    after: dict[str | bytes, int] = {}
    for name in SPLITS:
        before |= held(one[name])
        after |= held(other[name])
    pairs = [(before[key], after[key]) for key in before if key in after]
    if len(pairs) < 20:
        return
    known: dict[int, int] = {}
    for here, there in pairs:
        demand(
            known.setdefault(here, there) == there,
            f"under another split_seed an input of class {here} has class {there}, and another one has"
            f" {known[here]}: are inputs and targets shuffled together?",
        )


class AnswerChecks(TaskMaking):
    """What ``predict`` and the run folder show."""

    # What a user sees ---------------------------------------------------------------------------------------------

    def test_decode_gives_json(self) -> None:
        """``decode`` gives a list with an entry for each row, which JSON can write and other rows do not change."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("test", 6)
        outputs = self.drawn(task, batch)
        shown = task.decode(outputs)
        demand(isinstance(shown, list), f"decode gives a {type(shown).__name__}, and no list")
        demand(len(shown) == len(outputs), f"decode gives {len(shown)} entries for {len(outputs)} rows")
        together = written("what decode gives", shown)
        for row in range(len(outputs)):
            alone = task.decode(outputs[row : row + 1])
            same = len(alone) == 1 and alike(written("what decode gives", alone)[0], together[row])
            demand(same, f"row {row} alone is decoded to {alone}, and among others to {together[row]}")

    def test_decode_honours_top(self) -> None:
        """A class each row: ``top`` entries, the likeliest first, and no more than there are classes."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("test", 64)
        if task.per_step or not has_classes(task, batch):
            raise SkipTest("it does not put one class on a sequence")
        outputs = self.drawn(task, batch)
        most = task.decode(outputs, top=10_000)
        if not all(isinstance(entry, list) for entry in most):
            raise SkipTest("decode gives one value for a row, and no list")
        for top in (1, 2, 3):
            for entry, whole in zip(task.decode(outputs, top), most, strict=True):
                demand(len(entry) == min(top, len(whole)), f"top={top} gives {len(entry)} entries of {len(whole)}")
                demand(alike(entry, whole[:top]), f"top={top} gives {entry}, but the likeliest are {whole[:top]}")
        best = map(json.dumps, task.decode(self.perfect_outputs(task, batch), 1))
        shown = dict(zip(batch.targets.tolist(), best, strict=True))
        demand(
            len({*shown.values()}) == len(shown),
            f"{len(shown)} classes are all decoded to {', '.join({*shown.values()})}",
        )

    def test_labels_are_the_targets(self) -> None:
        """Where labels are named, a target is a label's place, and ``decode`` shows the label and its probability."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("test", 64)
        if (names := label_names(task)) is None:
            raise SkipTest("it names no labels")
        sound = all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names)
        demand(sound, f"the labels must be texts, all different; here are {str(names)[:80]}")
        highest = int(batch.targets.max())
        demand(highest < len(names), f"a target is {highest}, and there are {len(names)} labels")
        shown = task.decode(self.perfect_outputs(task, batch), 1)
        for target, entry in zip(batch.targets.tolist(), shown, strict=True):
            first = entry[0] if isinstance(entry, list) and entry else entry
            whole = isinstance(first, dict) and {"label", "probability"} <= first.keys()
            demand(whole, f"decode gives {str(entry)[:60]}, and no list of label and probability")
            demand(first["label"] == names[target], f"label {target} is {names[target]}, decoded as {first['label']}")
            demand(0 <= first["probability"] <= 1, f"a probability is {first['probability']}")
        for entry in task.decode(self.drawn(task, batch), 10_000):
            if not isinstance(entry, list) or len(entry) != len(names):
                continue
            found = [one["probability"] for one in entry]
            demand(
                abs(sum(found) - 1) < 1e-3, f"the probabilities of all {len(names)} labels add up to {sum(found):.4g}"
            )
            demand(found == sorted(found, reverse=True), f"the likeliest label must be first, not {found[:4]}")

    def test_report_stays_in_its_folder(self) -> None:
        """The report is tables that JSON can write, notes, and pictures in its folder; it writes nowhere else."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("test", 1024)
        details = detail_metrics(task)
        computed: dict[str, Tensor] = {}
        if details is not None:
            demand(detail_metrics(task) is not details, "details() gives the same object at every call")
            computed = dict(updated(details, self.drawn(task, batch), batch.targets).compute())
        with tempfile.TemporaryDirectory() as name:
            folder, elsewhere = Path(name).resolve() / "run", Path(name).resolve() / "elsewhere"
            folder.mkdir()
            elsewhere.mkdir()
            with working_in(elsewhere):
                report = task_report(task, computed, folder)
            strays = [*elsewhere.iterdir(), *({*folder.parent.iterdir()} - {folder, elsewhere})]
            demand(not strays, f"the report writes {', '.join(path.name for path in strays)} outside its folder")
            check_report(report, folder)

    # The state ----------------------------------------------------------------------------------------------------

    def test_state_is_plain_json(self) -> None:
        """The state is a dict of plain JSON values."""
        check_plain("state_dict()", self.ready().task.state_dict())

    def test_state_is_taken_back(self) -> None:
        """A fresh task that loads the state has the same outputs and head, and decodes to the same, without data."""
        ready = self.ready()
        task, batch, fresh = ready.task, ready.batch("test", 16), self.make()
        with reads() as found:
            fresh.load_state_dict(json.loads(json.dumps(task.state_dict())))
        demand(not found, f"loading the state reads {'; '.join(found[:3])}")
        demand(fresh.outputs == task.outputs, f"outputs is {fresh.outputs} after loading, and was {task.outputs}")
        fresh.head(3)
        for outputs in (self.drawn(task, batch), self.perfect_outputs(task, batch)):
            got, expected = fresh.decode(outputs), task.decode(outputs)
            demand(got == expected, f"after loading {str(got[0])[:60]} is decoded, and {str(expected[0])[:60]} before")
        labels = getattr(task, "labels", None)
        demand(getattr(fresh, "labels", None) == labels, "the labels are not the same after loading")
        again = fresh.state_dict()
        demand(again == task.state_dict(), "the state of the task that loaded it is another one")

    def test_bad_states_are_refused(self) -> None:
        """A state that it did not write is refused with a ValueError."""
        check_refuses_bad_states(json.loads(json.dumps(self.ready().task.state_dict())), self.make)
