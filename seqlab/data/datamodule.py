"""LightningDataModule of a task: its splits, encoded once into tensors, and loaders over them."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast, final

import pytorch_lightning as pl
import torch
from torch import Tensor

from seqlab.contracts import (
    Batch,
    Corpus,
    Examples,
    GeneratedTask,
    InputSpec,
    LanguageTask,
    Preprocessor,
    Ragged,
    StatefulTask,
    Task,
    UserError,
)
from seqlab.contracts.task import fit_weights, input_spec, is_fresh, label_names, max_length, sample_weights
from seqlab.data import statistics
from seqlab.data.encoding import dropped_texts, encode_texts, example_symbols, symbols_of, texts_of, truncate
from seqlab.data.lengths import BATCH_STEPS, LengthLoader, LengthSchedule, held_out_examples, seed_of
from seqlab.data.loaders import (
    BatchLoader,
    BucketLoader,
    ContiguousLoader,
    GeneratedLoader,
    LoaderOptions,
    Shard,
    check_carried_state,
    widened,
)
from seqlab.data.streams import StreamLoader, WindowLoader
from seqlab.data.tokens import TokenFile, begin_id, encode_corpus, fit_corpus
from seqlab.io.tables import label_notes

SPLITS = ("train", "valid", "test")
_EXAMPLE_CHARACTERS = 60
"""Characters of a text in the command that a run prints at its end."""
_EVALUATION_WINDOW = 500
"""Time steps of a batch of running text in evaluation, if the scores fit; no result depends on it."""
_EVALUATION_SCORES = 4_000_000
"""Maximum number of token scores of a batch of running text in evaluation, unless one window has more."""
_NO_PREPROCESSING = "preprocessing=null: this task's inputs are texts; choose a preprocessing"


@final
class SequenceData(pl.LightningDataModule):
    """Splits of a task as tensors, and loaders over them.

    Attributes:
        encoded: inputs and targets of each split; empty for running text.
        tokens: the tokens of each split of running text; else empty.
        statistics: of each split, for ``results.json``.
        dropped: the reason for each training text that preprocessing dropped, by its index.
        texts: of each split, as the task has them, in the order of ``encoded``; empty for a task without texts.
        notes: what a user should know about the data.
        example_texts: inputs to predict for, as examples.
        narrow_tokens: whether the model takes token ids that are not int64 (:attr:`.Model.narrow_tokens`).
        schedule: lengths of the training sequences of a generated task; ``None`` for other tasks.

    Args:
        task: source of the examples.
        preprocessor: encodes texts; fitted here, on the training split only. ``None`` for a task of tensors.
        batch_size: examples in a training batch.
        tokens_per_batch: maximum number of time steps in a training batch of generated sequences; ``None``: no maximum.
        eval_batch_size: examples in a batch of validation and test.
        bucket: training batches among which examples are sorted by length.
        workers: processes that build training batches ahead; 0 builds them in this one, faster for small models.
        seed: of the order of training examples.
        overfit_batches: if not 0, train on so many batches only, the same in every epoch, and validate on them.
        fitted: whether the preprocessor is fitted already.
        pipeline: the preprocessor's node in the config, part of the keys of the cache.
        duplicates: ``drop`` drops training examples that a held-out split has, too, after preprocessing, and
            validation examples that a test split has.
        shard: rows of each batch that this process reads.
    """

    def __init__(
        self,
        task: Task,
        preprocessor: Preprocessor | None,
        *,
        batch_size: int = 256,
        tokens_per_batch: int | None = None,
        eval_batch_size: int = 1024,
        bucket: int = 100,
        workers: int = 0,
        seed: int = 0,
        overfit_batches: int = 0,
        fitted: bool = False,
        pipeline: Any = None,
        duplicates: str = "keep",
        shard: Shard | None = None,
    ) -> None:
        super().__init__()
        self.task, self.preprocessor, self.fitted, self.pipeline = task, preprocessor, fitted, pipeline
        self.batch_size, self.eval_batch_size, self.bucket = batch_size, eval_batch_size, bucket
        self.drops_duplicates = duplicates == "drop"
        self._options = LoaderOptions(shard=shard)
        self._training_options = LoaderOptions(seed=seed, overfit_batches=overfit_batches, workers=workers, shard=shard)
        self.encoded: dict[str, tuple[Ragged, Tensor]] = {}
        self.tokens: dict[str, TokenFile] = {}
        self.statistics: dict[str, dict[str, Any]] = {}
        self.dropped: dict[int, str] = {}
        self.texts: dict[str, list[str]] = {}
        self.notes: list[str] = []
        self.example_texts: list[str] = []
        self.schedule: LengthSchedule | None = None
        self._tokens_per_batch = tokens_per_batch
        self._test_length: int | None = None
        self._begin, self.narrow_tokens = 0, False
        self._train_rows: Tensor | None = None

    def prepare(self) -> None:
        """Read, fit and encode; once.

        Raises:
            ValueError, OSError: the data cannot be read.
        """
        if self.encoded or self.tokens:
            return
        self._make_schedule()
        splits = self.task.splits()
        kinds = {name: type(split).__name__ for name, split in splits.items()}
        if Corpus.__name__ in kinds.values() and len(set(kinds.values())) > 1:
            found = ", ".join(f"{name} is {kind}" for name, kind in kinds.items())
            raise ValueError(f"splits must all be Examples or all be Corpus, got {found}")
        if isinstance(splits.get("train"), Corpus):
            self._prepare_text(cast(Mapping[str, Corpus], splits))
        else:
            self._prepare_examples(cast(Mapping[str, Examples], splits))

    def _make_schedule(self) -> None:
        task, options = self.task, self._training_options
        if isinstance(task, GeneratedTask) and task.sequence_length is not None:
            self.schedule = LengthSchedule(task, self.batch_size, self._tokens_per_batch)
            self.batch_size = self.batch_size if self.schedule.varies else self.schedule.batch_size
            for name, value in (
                ("data.workers", options["workers"]),
                ("trainer.overfit_batches", options["overfit_batches"]),
            ):
                if value and self.schedule.is_curriculum:
                    raise ValueError(f"{name} must be 0 with lengths=curriculum, got {value}")
        elif self._tokens_per_batch is not None:
            raise ValueError("data.tokens_per_batch must be null: the task does not generate its sequences")

    def _prepare_examples(self, splits: Mapping[str, Examples]) -> None:
        missing = [name for name in SPLITS if name not in splits or not len(splits[name])]
        if missing:
            raise ValueError(f"the task gives no examples for {', '.join(missing)}")
        sizes = {name: len(examples) for name, examples in splits.items()}
        check_carried_state(self.task, sizes, self.batch_size, self.eval_batch_size)
        if self.preprocessor is None:
            self._take_tensors(splits)
        else:
            self._encode(self.preprocessor, splits)
        same_as_train = {} if is_fresh(self.task) else self._find_duplicates()
        self._truncate(same_as_train)
        if self.preprocessor is None:
            self.example_texts = example_symbols(self.encoded["test"][0], symbols_of(input_spec(self.task)))
        if self.schedule is not None and not self.schedule.is_curriculum:
            self.choose_test_length(self.schedule.target)
        self.notes += [*label_notes(label_names(self.task) or ()), *statistics.duplicate_notes(self.statistics)]
        self.notes += statistics.unknown_notes(self.statistics)

    def _take_tensors(self, splits: Mapping[str, Examples]) -> None:
        for name, examples in splits.items():
            if not isinstance(examples.inputs, Ragged):
                raise UserError(_NO_PREPROCESSING)
            self.encoded[name] = examples.inputs, examples.targets

    def _encode(self, preprocessor: Preprocessor, splits: Mapping[str, Examples]) -> None:
        """Drop the training texts that preprocessing drops, fit on the others, and encode all splits."""
        splits = {**splits, "train": self._without_dropped(splits["train"], preprocessor)}
        if not self.fitted:
            preprocessor.fit(texts_of(splits["train"]))
        self.example_texts = [text for text in map(_example, texts_of(splits["test"])[:2]) if text]
        for name, examples in splits.items():
            self.texts[name] = texts_of(examples)
            self.encoded[name] = encode_texts(self.texts[name], preprocessor, self.pipeline), examples.targets

    def _without_dropped(self, train: Examples, preprocessor: Preprocessor) -> Examples:
        texts = texts_of(train)
        self.dropped = dropped_texts(texts, preprocessor, self.pipeline)
        if not self.dropped:
            return train
        rows = [index for index in range(len(texts)) if index not in self.dropped]
        if not rows:
            raise ValueError(f"preprocessing drops every training text, the first one for {self.dropped[0]!r}")
        self._train_rows = torch.tensor(rows)
        return Examples([texts[row] for row in rows], train.targets[self._train_rows])

    def _find_duplicates(self) -> dict[str, int]:
        """Count held-out examples that equal a training example as the model reads them; drop them if asked to."""
        digests = {name: truncate(ids, self._limit).digests() for name, (ids, _) in self.encoded.items()}
        found = statistics.find_duplicates(digests, drop=self.drops_duplicates)
        self.notes += found.notes
        for name, rows in found.kept.items():
            ids, targets = self.encoded[name]
            self.encoded[name] = ids.take(rows), targets[rows]
            if name in self.texts:
                self.texts[name] = [self.texts[name][row] for row in rows.tolist()]
        if "train" in found.kept:
            rows = found.kept["train"]
            self._train_rows = rows if self._train_rows is None else self._train_rows[rows]
        return found.same

    def _truncate(self, same_as_train: Mapping[str, int]) -> None:
        """Compute the statistics of each split, and truncate its sequences."""
        unknown = None if self.preprocessor is None else self.preprocessor.unknown_id
        for name, (ids, targets) in self.encoded.items():
            self.statistics[name] = statistics.split_statistics(ids, self._limit, unknown)
            if name in same_as_train:
                self.statistics[name]["same_as_train"] = same_as_train[name]
            self.encoded[name] = truncate(ids, self._limit), targets
        if self.dropped:
            self.statistics["train"]["dropped"] = dict(Counter(self.dropped.values()).most_common())

    @property
    def _limit(self) -> int | None:
        return max_length(self.task)

    def _prepare_text(self, splits: Mapping[str, Corpus]) -> None:
        """Encode running text into the cache."""
        if self.preprocessor is None:
            raise UserError(_NO_PREPROCESSING)
        if not self.fitted:
            fit_corpus(splits["train"], self.preprocessor, self.pipeline)
        self._begin = begin_id(self.preprocessor)
        for name in SPLITS:
            tokens = self.tokens[name] = encode_corpus(splits[name], self.preprocessor, self.pipeline, name)
            if len(tokens) < self._window:
                short = f"the {name} split has {len(tokens)} tokens"
                raise ValueError(f"{short}, fewer than one window of task.sequence_length={self._window}")
            self.statistics[name] = {
                "examples": len(tokens),
                "tokens": len(tokens),
                "bytes": tokens.facts["bytes"],
                "share_unknown": tokens.facts["unknown"] / len(tokens),
            }
        if isinstance(self.task, LanguageTask):
            self.task.set_vocabulary(self.inputs, torch.tensor(self.tokens["train"].facts["counts"]))
        self.notes += statistics.unknown_notes(self.statistics)
        lines = self.preprocessor.decode(self.tokens["test"].read(0, 100).tolist()).split("\n")
        self.example_texts = [next(filter(None, map(_example, lines)), "")]

    @property
    def _window(self) -> int:
        """Time steps of a window of running text."""
        return self.task.sequence_length or 1

    @property
    def inputs(self) -> InputSpec:
        """Description of what a model reads at each step."""
        if self.preprocessor is not None:
            return InputSpec("tokens", self.preprocessor.size, self.preprocessor.symbols)
        if (known := input_spec(self.task)) is not None:
            return known
        values = self.encoded["train"][0].values
        if values.is_floating_point():
            return InputSpec("features", values.shape[1])
        return InputSpec("tokens", int(values.max()) + 1)

    def training_inputs(self) -> Ragged:
        """Return the whole encoded training split, for a model that is fitted by counting."""
        if not self.tokens:
            return self.encoded["train"][0].widened()
        values = self.tokens["train"].read_all()
        return Ragged(values, torch.tensor([len(values)]))

    def draw(self, count: int, seed: int, length: int | None = None) -> tuple[Ragged, Tensor]:
        """Generate new training examples, of one length if it is given, and encode them."""
        assert isinstance(self.task, GeneratedTask)
        examples = self.task.draw(count, seed) if length is None else self.task.draw(count, seed, length)
        inputs = examples.inputs
        if not isinstance(inputs, Ragged):
            assert self.preprocessor is not None
            inputs = self.preprocessor.encode(list(inputs))
        return truncate(inputs, self._limit), examples.targets

    @property
    def extra_splits(self) -> tuple[str, ...]:
        """Names of the splits beyond train, valid and test."""
        stored = [name for name in self.encoded if name not in SPLITS]
        return tuple(dict.fromkeys([*stored, *self._further_lengths]))

    @property
    def _further_lengths(self) -> dict[str, int]:
        """Lengths of the extra splits that are generated when they are read, by name."""
        if self.schedule is None:
            return {}
        task, length = self.schedule.task, self._test_length or self.schedule.ceiling
        absolute = task.eval_lengths if self.schedule.is_curriculum else ()
        lengths = sorted({*absolute, *(multiple * length for multiple in task.eval_multiples)})
        return {f"length {each}": each for each in lengths if f"length {each}" not in self.encoded}

    def choose_test_length(self, length: int) -> None:
        """Choose the length of the test split of a curriculum, and of the multiples of it."""
        assert self.schedule is not None
        self._test_length = length
        chosen = {"test": length} if self.schedule.is_curriculum else {}
        for name, each in {**chosen, **self._further_lengths}.items():
            self.statistics[name] = self.held_out_statistics(each)

    def held_out_statistics(self, length: int) -> dict[str, Any]:
        """Return the statistics of a generated split of one length."""
        assert self.schedule is not None
        steps = self.schedule.time_steps(length)
        examples = held_out_examples(len(self.encoded["test"][1]), steps)
        even = Ragged(torch.empty(examples * steps, 0), [steps] * examples)
        return statistics.split_statistics(even, self._limit, None)

    def held_out_loader(self, split: str, length: int) -> GeneratedLoader:
        """Return a loader of held-out examples of one length, generated when they are read.

        They depend on ``task.split_seed``, the split and the length. Long sequences are fewer, in smaller batches, of
        ``data.tokens_per_batch`` at most if that is large.
        """
        assert self.schedule is not None
        steps = self.schedule.time_steps(length)
        examples = held_out_examples(len(self.encoded["test"][1]), steps)
        batch_size = max(1, min(self.eval_batch_size, max(BATCH_STEPS, self._tokens_per_batch or 0) // steps))
        return GeneratedLoader(
            lambda count, seed: self.draw(count, seed, length),
            examples=examples,
            batch_size=batch_size,
            block_size=1,
            seed=seed_of(self.schedule.task.split_seed, SPLITS.index(split), length),
            overfit_batches=-(-examples // batch_size),  # the same examples in every epoch
            shard=self._options.get("shard"),
            weigh_steps=self.task.per_step,
            narrow_tokens=self.narrow_tokens,
        )

    def loader(self, split: str) -> BatchLoader:
        """Return the loader of a split."""
        training = split == "train"
        batch_size = self.batch_size if training else self.eval_batch_size
        options = self._training_options if training else self._options
        if self.tokens:
            window = self._window
            if not training:
                fitting = _EVALUATION_SCORES // (batch_size * self.task.outputs)
                window = max(window, min(_EVALUATION_WINDOW, fitting))
            tokens = self.tokens[split]
            return StreamLoader(
                tokens, self._begin, batch_size=batch_size, window=window, drop_last=training, **options
            )
        if self.schedule is not None and self.schedule.is_curriculum and split in ("valid", "test"):
            chosen = self.schedule.ceiling if split == "valid" else self._test_length
            return self.held_out_loader(split, chosen or self.schedule.ceiling)
        if split in (further := self._further_lengths):
            return self.held_out_loader("test", further[split])
        inputs, targets = self.encoded[split]
        options = {**options, "weigh_steps": self.task.per_step, "narrow_tokens": self.narrow_tokens}
        if training and self.schedule is not None and self.schedule.varies:
            task, schedule = self.schedule.task, self.schedule
            batches = task.check_every if schedule.is_curriculum else -(-len(targets) // schedule.batch_size)
            return LengthLoader(self.draw, schedule, batches=batches, **options)
        if training and is_fresh(self.task):
            return GeneratedLoader(self.draw, examples=len(targets), batch_size=batch_size, **options)
        if isinstance(self.task, StatefulTask):
            return ContiguousLoader(inputs, targets, batch_size=batch_size, drop_last=training, **options)
        return BucketLoader(
            inputs,
            targets,
            batch_size=batch_size,
            shuffle=training,
            bucket=self.bucket,
            weights=self.sample_weights() if training else None,
            **options,
        )

    def sample_weights(self) -> Tensor | None:
        """Return the task's weights of the training examples that were not dropped."""
        return self._kept(sample_weights(self.task))

    def fit_weights(self) -> Tensor | None:
        """Return the same for a model that is not trained on batches: also weights that the task has in its loss."""
        return self._kept(fit_weights(self.task))

    def _kept(self, weights: Tensor | None) -> Tensor | None:
        return weights if weights is None or self._train_rows is None else weights[self._train_rows]

    def examples(self, split: str) -> Examples:
        """Return the encoded examples of a split."""
        inputs, targets = self.encoded[split]
        return Examples(inputs.widened(), targets)

    def probe(self, rows: int) -> Batch:
        """Return a few sequences of the validation split, spaced evenly over it: always the same ones.

        Of running text they are windows of ``task.sequence_length``, read independently.
        """
        if self.tokens:
            tokens, window = self.tokens["valid"], self._window
            loader = WindowLoader(tokens, self._begin, batch_size=rows, window=window, max_tokens=rows * window)
            return loader.build(loader.starts)
        inputs, targets = self.encoded["valid"]
        chosen = torch.linspace(0, len(targets) - 1, min(rows, len(targets))).long()
        return widened(Batch(*inputs.padded(chosen), targets[chosen]))

    def train_dataloader(self) -> BatchLoader:
        """Return the loader of the training split."""
        return self.loader("train")

    def val_dataloader(self) -> BatchLoader:
        """Return the loader of the validation split, or that of the training batches to overfit."""
        return self.loader("train" if self._training_options["overfit_batches"] else "valid")

    def test_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """Return the loader of the test split; a list if there are extra splits, or for running text.

        Running text has a second loader, whose windows are read independently.
        """
        loaders = [self.loader(split) for split in ("test", *self.extra_splits)]
        if self.tokens:
            rows = max(1, min(32, _EVALUATION_SCORES // (self._window * self.task.outputs)))
            tokens, options = self.tokens["test"], self._options
            loaders.append(WindowLoader(tokens, self._begin, window=self._window, batch_size=rows, **options))
        return loaders if len(loaders) > 1 else loaders[0]


def _example(text: str) -> str:
    """Return the beginning of a text's first line that a terminal can print, without unknown tokens."""
    line = "".join(letter for letter in text.strip().partition("\n")[0] if letter.isprintable() and letter != "\ufffd")
    return re.sub(" {2,}", " ", line)[:_EXAMPLE_CHARACTERS].strip()


def check_batches(trainer: Mapping[str, Any], data: SequenceData) -> None:
    """Check that the share of a split's batches to read is at least one batch, before anything is trained.

    Raises:
        UserError: it is none.
    """
    loaders = {
        "limit_train_batches": data.train_dataloader(),
        "limit_val_batches": data.val_dataloader(),
        "limit_test_batches": data.test_dataloader(),
    }
    for key, found in loaders.items():
        share = trainer.get(key, 1.0)
        fewest = min(map(len, found)) if isinstance(found, list) else len(found)
        if isinstance(share, float) and int(fewest * share) < 1:
            least = math.ceil(1e4 / fewest) / 1e4
            raise UserError(
                f"trainer.{key}={share} of {fewest} batches is none; set at least {least}, or a number of batches"
            )
