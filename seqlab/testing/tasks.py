"""Checks that every task must pass."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, islice
from pathlib import Path
from typing import Any, ClassVar, cast
from unittest import SkipTest

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from seqlab.contracts import Batch, Corpus, Examples, InputSpec, Preprocessor, Ragged, Task, UserError
from seqlab.discovery import find
from seqlab.testing.guesses import constants, has_classes, live, output_shape, perfect
from seqlab.testing.plain import check_defaults, check_plain, check_refuses_bad_states, has_option, reads, written
from seqlab.testing.ready import CodePoints, Ready, windows
from seqlab.testing.suite import Suite, agree, demand
from seqlab.testing.taskdata import (
    agree_scores,
    alike,
    check_report,
    check_targets,
    check_tensors,
    difference,
    other_inputs,
    other_targets,
    random_numbers,
    row_keys,
    updated,
    values_of,
    working_in,
)

_SPLITS = ("train", "valid", "test")
_MEANINGS = ("maximum", "window", "distance")


_PIECES = 4
"""Pieces of a running text that are looked at."""


class TaskSuite(Suite):
    """Checks of a task; a subclass names it.

    Attributes:
        task: its type, or a factory that takes its options.
        options: what the constructor is to be given, such as ``{"data_dir": ...}``.
        preprocessor: makes what encodes the texts; else the task's default is looked up.
    """

    task: ClassVar[Callable[..., Task]]
    options: ClassVar[Mapping[str, Any]] = {}
    preprocessor: ClassVar[Callable[[], Preprocessor] | None] = None

    # Making things ------------------------------------------------------------------------------------------------

    def make(self, **changed: Any) -> Task:
        """Make the task, without its data."""
        made = type(self).task(**{**self.options, **changed})
        demand(isinstance(made, Task), f"it is a {type(made).__name__}, and no seqlab.Task")
        return made

    def ready(self) -> Ready:
        """Make the task and its splits."""
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
        task.observe(InputSpec("tokens", preprocessor.size, preprocessor.symbols), counts)
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
            made = find("preprocessing", task.preprocessing or "").load()()
        except UserError:  # which test_default_preprocessing reports
            return CodePoints()
        demand(isinstance(made, Preprocessor), f"preprocessing={task.preprocessing} is no seqlab.Preprocessor")
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

    # The constructor ----------------------------------------------------------------------------------------------

    def test_constructor_needs_nothing(self) -> None:
        """Every argument of the constructor has a default."""
        check_defaults(self.make())

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
        for name in _SPLITS:
            demand(name in splits, f"there is no split {name}; there are {', '.join(splits) or 'none'}")
            demand(isinstance(splits[name], Examples), f"{name} is a {type(splits[name]).__name__}, and no Examples")
            demand(len(splits[name]) > 0, f"{name} has no examples")

    def test_splits_are_disjoint(self) -> None:
        """No input of one split is in another."""
        keys = {name: set(row_keys(examples.inputs)) for name, examples in self.splits_of(self.make()).items()}
        for one, other in combinations(_SPLITS, 2):
            if both := keys[one] & keys[other]:
                shown = sorted(repr(key)[:60] for key in both if isinstance(key, str))
                such = f", such as {shown[0]}" if shown else ""
                raise AssertionError(f"{len(both)} inputs are in {one} and in {other}{such}")

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
            for name in _SPLITS:
                fault = difference(splits[name], first[name])
                demand(not fault, f"{name}, {what}: {fault}")

    def test_split_seed_deals_anew(self) -> None:
        """Another ``split_seed`` gives other splits, and the same one the same."""
        if not has_option(self.make(), "split_seed"):
            raise SkipTest("it has no option split_seed")
        made = [self.splits_of(self.make(split_seed=seed)) for seed in (1, 1, 2, 3, 4)]
        for name in _SPLITS:
            fault = difference(made[1][name], made[0][name])
            demand(not fault, f"split_seed=1, made twice: {name}: {fault}")
        moved = any(difference(splits[name], made[0][name]) for splits in made[2:] for name in _SPLITS)
        demand(moved, "split_seed 1, 2, 3 and 4 give the same splits")

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

    # The loss -----------------------------------------------------------------------------------------------------

    def test_head_gives_the_outputs(self) -> None:
        """``outputs`` is at least 1, and the head gives so many from a model's features."""
        task = self.ready().task
        outputs = task.outputs
        demand(isinstance(outputs, int) and outputs >= 1, f"outputs is {outputs!r}; it must be at least 1")
        for features in (1, 7):
            shape = (2, 3, features) if task.per_step else (2, features)
            got = tuple(task.head(features)(torch.randn(shape)).shape)
            demand(got == (*shape[:-1], outputs), f"the head gives {got} for {shape}; outputs is {outputs}")

    def test_loss_is_a_finite_scalar(self) -> None:
        """The loss is one finite number, with a finite gradient in the outputs that is not zero."""
        ready = self.ready()
        for split in _SPLITS:
            batch = ready.batch(split)
            outputs = self.drawn(ready.task, batch).requires_grad_()
            loss = ready.task.loss(outputs, batch)
            demand(loss.dim() == 0, f"{split}: the loss has the shape {tuple(loss.shape)}, and is no scalar")
            demand(bool(loss.isfinite()), f"{split}: the loss is {loss.item()}")
            demand(loss.requires_grad, f"{split}: the loss does not depend on the outputs by any gradient")
            (gradient,) = torch.autograd.grad(loss, outputs, allow_unused=True)
            demand(gradient is not None and bool(gradient.any()), f"{split}: the gradient in the outputs is zero")
            demand(bool(gradient.isfinite().all()), f"{split}: the gradient in the outputs is not finite")

    def test_loss_falls_along_its_gradient(self) -> None:
        """A small step of the outputs against the gradient lowers the loss."""
        ready = self.ready()
        batch = ready.batch()
        for seed in range(3):
            outputs = self.drawn(ready.task, batch, seed).requires_grad_()
            loss = ready.task.loss(outputs, batch)
            (gradient,) = torch.autograd.grad(loss, outputs)
            with torch.no_grad():
                direction = gradient / gradient.abs().max()
                after = [float(ready.task.loss(outputs - step * direction, batch)) for step in (1.0, 0.1, 0.01, 1e-3)]
            before = loss.item()
            demand(min(after) < before, f"the loss is {before:.6g}, and at best {min(after):.6g} after a step")

    def test_loss_prefers_the_truth(self) -> None:
        """Outputs that are sure of the true classes have a smaller loss than blind ones, and than their opposite."""
        ready = self.ready()
        batch = ready.batch()
        if not has_classes(ready.task, batch):
            raise SkipTest("the targets are no classes, one for each output")
        truth = self.perfect_outputs(ready.task, batch)
        right = float(ready.task.loss(truth, batch))
        for what, outputs in (("blind outputs", ready.task.blind_outputs(batch)), ("the opposite", -truth)):
            wrong = float(ready.task.loss(outputs, batch))
            demand(right < wrong, f"the loss of the true classes is {right:.4g}, that of {what} {wrong:.4g}")

    def test_loss_has_no_memory(self) -> None:
        """The loss of a batch is the same at every call, and the batch is left as it was."""
        ready = self.ready()
        batch, other = ready.batch(), ready.batch("test", 5)
        outputs = self.drawn(ready.task, batch)
        kept = [outputs.clone(), batch.inputs.clone(), batch.targets.clone()]
        first = ready.task.loss(outputs, batch).detach()
        ready.task.loss(self.drawn(ready.task, other), other)
        agree("the loss of the same batch, after another one,", ready.task.loss(outputs, batch), first, 1e-6)
        names = ("outputs", "inputs", "targets")
        for name, tensor, before in zip(names, (outputs, batch.inputs, batch.targets), kept, strict=True):
            same = torch.equal(tensor.nan_to_num(), before.nan_to_num())
            demand(same, f"the {name} were changed by computing the loss")

    def test_loss_takes_rows_in_any_order(self) -> None:
        """The rows of a batch in another order have the same loss."""
        ready = self.ready()
        rows = ready.rows("train", 256)
        batch, turned = ready.batch_of("train", rows), ready.batch_of("train", rows.flip(0))
        outputs = self.drawn(ready.task, batch)
        expected = ready.task.loss(outputs, batch)
        agree("the loss of the rows in reverse order", ready.task.loss(outputs.flip(0), turned), expected, 1e-4)

    def test_padding_does_not_count(self) -> None:
        """With an output for each step, those of padding change neither loss, gradient nor metrics, however many."""
        ready = self.ready()
        task = ready.task
        if not task.per_step:
            raise SkipTest("it has one output for each sequence")
        lengths = ready.encoded("train", torch.arange(len(ready.splits["train"]))).lengths
        if bool((lengths == lengths[0]).all()):
            self._check_cut(ready)
            return
        order = lengths.argsort(stable=True)
        count = min(8, len(order))
        batch = ready.batch_of("train", torch.cat([order[:count], order[-count:]]))  # the shortest and the longest
        dead = ~live(batch).unsqueeze(-1)
        outputs = self.drawn(task, batch)
        other = torch.where(dead, 100 + 3 * outputs, outputs).requires_grad_()
        loss = task.loss(other, batch)
        agree("the loss with other outputs in the padding", loss, task.loss(outputs, batch), 1e-4)
        (gradient,) = torch.autograd.grad(loss, other)
        most = float(gradient.masked_select(dead).abs().max())
        demand(most == 0, f"an output in the padding has the gradient {most:.3g}")
        expected = self.scores(task, outputs, batch.targets)
        got = self.scores(task, other.detach(), batch.targets)
        agree_scores("with other outputs in the padding", got, expected)
        what = "of short rows, padded to their own longest,"
        short = ready.batch_of("train", order[:count])
        wide = Batch(batch.inputs[:count], None if batch.lengths is None else batch.lengths[:count], short.targets)
        padded, narrow = outputs[:count], outputs[:count, : short.inputs.shape[1]]
        agree(f"the loss {what}", task.loss(narrow, short), task.loss(padded, wide), 1e-4)
        expected = self.scores(task, padded, short.targets)
        agree_scores(what, self.scores(task, narrow, short.targets), expected)

    def _check_cut(self, ready: Ready) -> None:
        """Check that outputs of fewer steps than there are targets do, where the framework may cut."""
        task = ready.task
        if task.sequence_length_means != "maximum":
            raise SkipTest("all sequences have one length, so that there is no padding")
        batch = ready.batch()
        steps = max(1, batch.inputs.shape[1] // 2)
        cut = Batch(batch.inputs[:, :steps], None, batch.targets)
        exact = Batch(cut.inputs, None, batch.targets[:, :steps])
        outputs = self.drawn(task, cut)
        agree("the loss of sequences that are cut", task.loss(outputs, cut), task.loss(outputs, exact), 1e-4)
        agree_scores(
            "of sequences that are cut",
            self.scores(task, outputs, cut.targets),
            self.scores(task, outputs, exact.targets),
        )

    # The metrics --------------------------------------------------------------------------------------------------

    def test_metrics_are_finite_scalars(self) -> None:
        """Each metric is one finite number."""
        ready = self.ready()
        for split in _SPLITS:
            batch = ready.batch(split)
            metrics = ready.task.metrics()
            demand(isinstance(metrics, MetricCollection), f"metrics() gives a {type(metrics).__name__}")
            for name, value in updated(metrics, self.drawn(ready.task, batch), batch.targets).compute().items():
                shape = tuple(torch.as_tensor(value).shape)
                demand(shape in ((), (1,)), f"{name} has the shape {shape}, and is no scalar")
                demand(bool(torch.as_tensor(value).isfinite().all()), f"{name} is {float(value)} on {split}")

    def test_monitor_is_a_metric(self) -> None:
        """``monitor`` is the name of a metric, and ``mode`` is min or max."""
        ready = self.ready()
        task, batch = ready.task, ready.batch()
        names = list(self.scores(task, self.drawn(task, batch), batch.targets))
        demand(task.monitor in names, f"monitor is {task.monitor!r}; the metrics are {', '.join(names)}")
        demand(task.mode in ("min", "max"), f"mode is {task.mode!r}; it must be min or max")

    def test_metrics_are_fresh(self) -> None:
        """Each call of ``metrics`` makes new ones, which know nothing of the others."""
        ready = self.ready()
        task, batch, other = ready.task, ready.batch(), ready.batch("test", 7)
        outputs, elsewhere = self.drawn(task, batch), self.drawn(task, other, 2)
        expected = self.scores(task, outputs, batch.targets)
        first = updated(task.metrics(), elsewhere, other.targets)
        second = task.metrics()
        demand(second is not first, "metrics() gives the same object at every call")
        agree_scores("of new metrics, after others", values_of(updated(second, outputs, batch.targets)), expected)

    def test_metrics_begin_anew_after_reset(self) -> None:
        """After a reset, metrics are as new."""
        ready = self.ready()
        task, batch, other = ready.task, ready.batch(), ready.batch("test", 7)
        outputs = self.drawn(task, batch)
        metrics = updated(task.metrics(), self.drawn(task, other, 2), other.targets)
        values_of(metrics)
        metrics.reset()
        got = values_of(updated(metrics, outputs, batch.targets))
        agree_scores("after a reset", got, self.scores(task, outputs, batch.targets))

    def test_metrics_add_up(self) -> None:
        """A split in two unequal batches has the metrics of the whole."""
        ready = self.ready()
        task, batch = ready.task, ready.batch()
        outputs, rows = self.drawn(task, batch), len(batch.targets)
        if rows < 2:
            raise SkipTest("the training split has one example")
        cut = max(1, rows // 5)
        metrics = updated(task.metrics(), outputs[:cut], batch.targets[:cut])
        got = values_of(updated(metrics, outputs[cut:], batch.targets[cut:]))
        expected = self.scores(task, outputs, batch.targets)
        agree_scores(f"of {cut} rows and {rows - cut} more, against all at once", got, expected)

    def test_mode_is_right(self) -> None:
        """Outputs that fit the targets are at least as good as blind ones, by ``monitor`` in the direction ``mode``."""
        right, blind, mode = self._against_blind("train")
        good = right >= blind if mode == "max" else right <= blind
        demand(good, f"mode is {mode}, but the truth scores {right:.4g}, and blind outputs {blind:.4g}")

    def _against_blind(self, split: str) -> tuple[float, float, str]:
        ready = self.ready()
        task, batch = ready.task, ready.batch(split, 1024)
        right = self.scores(task, self.perfect_outputs(task, batch), batch.targets)[task.monitor]
        blind = self.scores(task, task.blind_outputs(batch), batch.targets)[task.monitor]
        return right, blind, task.mode

    # The chance line ----------------------------------------------------------------------------------------------

    def test_baseline_is_blind(self) -> None:
        """Blind outputs are finite, of the right shape, and the same for other inputs and targets."""
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

    def test_baseline_can_be_beaten(self) -> None:
        """On the test split, outputs that fit the targets are better than blind ones."""
        right, blind, mode = self._against_blind("test")
        better = right > blind if mode == "max" else right < blind
        demand(better, f"the truth scores {right:.4g} on the test split, and blind outputs {blind:.4g} (mode {mode})")

    def test_solved_is_a_line(self) -> None:
        """``solved`` says True or nothing of the truth, and False or nothing of blind outputs."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("test", 1024)
        for what, outputs, wrong in (
            ("the truth", self.perfect_outputs(task, batch), False),
            ("blind outputs", task.blind_outputs(batch), True),
        ):
            said = task.solved(self.scores(task, outputs, batch.targets))
            demand(said is None or isinstance(said, bool), f"solved gives a {type(said).__name__}")
            demand(said is not wrong, f"solved says {said} of {what}")

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
        if (names := task.label_names()) is None:
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

    def test_report_stays_in_its_folder(self) -> None:
        """The report is tables that JSON can write, notes, and pictures in its folder; it writes nowhere else."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("test", 1024)
        details = task.details()
        computed: dict[str, Tensor] = {}
        if details is not None:
            demand(task.details() is not details, "details() gives the same object at every call")
            computed = dict(updated(details, self.drawn(task, batch), batch.targets).compute())
        with tempfile.TemporaryDirectory() as name:
            folder, elsewhere = Path(name).resolve() / "run", Path(name).resolve() / "elsewhere"
            folder.mkdir()
            elsewhere.mkdir()
            with working_in(elsewhere):
                report = task.report(computed, folder)
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
