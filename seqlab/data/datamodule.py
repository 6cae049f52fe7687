"""The one LightningDataModule: a task's splits, encoded once into tensors."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
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
from seqlab.contracts.task import input_spec, is_fresh, label_names, max_length, sample_weights
from seqlab.data import duplicates
from seqlab.data.encoding import (
    dropped_texts,
    encode_texts,
    example_symbols,
    split_lengths,
    symbols_of,
    texts_of,
    truncate,
)
from seqlab.data.loader import BucketLoader, Share
from seqlab.data.loaders import CarriedLoader, GeneratedLoader, check_order
from seqlab.data.streams import StreamLoader, WindowLoader
from seqlab.data.tokens import Tokens, begin_id, encode_corpus, fit_corpus
from seqlab.io.tables import label_notes

SPLITS = ("train", "valid", "test")
_SHOWN = 60
"""Characters of a text in the command that a run ends with."""
_EVALUATION_WINDOW = 500
"""Time steps of a batch of running text in evaluation, where the scores below allow it: no figure depends on it."""
_EVALUATION_SCORES = 4_000_000
"""Scores of tokens that a batch of running text makes in evaluation, unless a single window makes more."""


@final
class SequenceData(pl.LightningDataModule):
    """Splits of a task as tensors, and loaders over them.

    Args:
        task: where the examples come from.
        preprocessor: encodes texts; fitted here, on the training split only. ``None`` for a task of tensors.
        batch_size: examples in a training batch.
        eval_batch_size: examples in a batch of validation and test.
        bucket: training batches among which examples are sorted by length.
        workers: processes that cut training batches ahead; 0 cuts them in this one, which is faster for small models.
        seed: of the order of training examples.
        by_heart: if not 0, train on so many batches only, the same in every epoch, and validate on them.
        fitted: whether the preprocessor stays as it is.
        pipeline: the preprocessor's node in the config, by which encoded text is found again.
        duplicates: ``drop`` leaves out training examples that a held-out split has as well after preprocessing, and
            validation examples that a test split has.
        share: which part of each batch this process takes.
    """

    def __init__(
        self,
        task: Task,
        preprocessor: Preprocessor | None,
        *,
        batch_size: int = 256,
        eval_batch_size: int = 1024,
        bucket: int = 100,
        workers: int = 0,
        seed: int = 0,
        by_heart: int = 0,
        fitted: bool = False,
        pipeline: Any = None,
        duplicates: str = "keep",
        share: Share | None = None,
    ) -> None:
        super().__init__()
        self.task, self.preprocessor = task, preprocessor
        self.batch_size, self.eval_batch_size, self.bucket, self.seed = batch_size, eval_batch_size, bucket, seed
        self.by_heart, self.pipeline, self.workers = by_heart, pipeline, workers
        self.fitted, self.share, self.duplicates = fitted, share, duplicates
        self.encoded: dict[str, tuple[Ragged, Tensor]] = {}
        self.example_texts: list[str] = []
        self.statistics: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, Tokens] = {}
        self.begin = 0
        self.dropped: dict[int, str] = {}
        self.rows: Tensor | None = None
        self.notes: list[str] = []

    def prepare(self) -> None:
        """Read, fit and encode; once.

        Raises:
            ValueError, OSError: the data cannot be had.
        """
        if self.encoded or self.tokens:
            return
        splits = self.task.splits()
        kinds = {name: type(split).__name__ for name, split in splits.items()}
        if Corpus.__name__ in kinds.values() and len(set(kinds.values())) > 1:
            found = ", ".join(f"{name} is {kind}" for name, kind in kinds.items())
            raise ValueError(f"splits must all be Examples or all be Corpus, got {found}")
        if isinstance(splits.get("train"), Corpus):
            self._prepare_text(cast(Mapping[str, Corpus], splits))
        else:
            self._prepare_examples(cast(Mapping[str, Examples], splits))

    def _prepare_examples(self, splits: Mapping[str, Examples]) -> None:
        missing = [name for name in SPLITS if name not in splits or not len(splits[name])]
        if missing:
            raise ValueError(f"the task gives no examples for {', '.join(missing)}")
        sizes = {name: len(examples) for name, examples in splits.items()}
        check_order(self.task, sizes, self.batch_size, self.eval_batch_size)
        if self.preprocessor is not None:
            splits = {**splits, "train": self._kept(splits["train"])}
            if not self.fitted:
                self.preprocessor.fit(texts_of(splits["train"]))
            self.example_texts = [text.strip().partition("\n")[0][:_SHOWN] for text in texts_of(splits["test"])[:2]]
        self.encoded = {name: (self._encode(examples), examples.targets) for name, examples in splits.items()}
        same = {} if is_fresh(self.task) else self._compare()
        unknown = None if self.preprocessor is None else self.preprocessor.unknown_id
        for name, (ids, targets) in self.encoded.items():
            counted = {"same_as_train": same[name]} if name in same else {}
            self.statistics[name] = split_lengths(ids, self._limit, unknown) | counted
            self.encoded[name] = truncate(ids, self._limit), targets
        self.notes += [*label_notes(label_names(self.task) or ()), *duplicates.duplicate_notes(self.statistics)]
        if self.preprocessor is None:
            self.example_texts = example_symbols(self.encoded["test"][0], symbols_of(input_spec(self.task)))
        if self.dropped:
            self.statistics["train"]["dropped"] = dict(Counter(self.dropped.values()).most_common())

    def _kept(self, train: Examples) -> Examples:
        """Leave out the training texts that the preprocessing drops.

        Raises:
            ValueError: none is left.
        """
        assert self.preprocessor is not None
        texts = texts_of(train)
        self.dropped = dropped_texts(texts, self.preprocessor, self.pipeline)
        if not self.dropped:
            return train
        rows = [index for index in range(len(texts)) if index not in self.dropped]
        if not rows:
            raise ValueError(f"preprocessing drops every training text, the first one for {self.dropped[0]!r}")
        self.rows = torch.tensor(rows)
        return Examples([texts[row] for row in rows], train.targets[self.rows])

    def _encode(self, examples: Examples) -> Ragged:
        if self.preprocessor is not None:
            return encode_texts(texts_of(examples), self.preprocessor, self.pipeline)
        if not isinstance(examples.inputs, Ragged):
            raise UserError("preprocessing=null: this task's inputs are texts; choose a preprocessing")
        return examples.inputs

    def _compare(self) -> dict[str, int]:
        """Count held-out examples that training has, too, as the model reads them; leave them out if asked to."""
        cut = {name: truncate(ids, self._limit) for name, (ids, _) in self.encoded.items()}
        found = duplicates.find_duplicates(
            {name: ids.digests() for name, ids in cut.items()}, drop=self.duplicates == "drop"
        )
        self.notes += found.notes
        for name, rows in found.kept.items():
            ids, targets = self.encoded[name]
            self.encoded[name] = ids.take(rows), targets[rows]
        if "train" in found.kept:
            self.rows = found.kept["train"] if self.rows is None else self.rows[found.kept["train"]]
        return found.same

    @property
    def _limit(self) -> int | None:
        return max_length(self.task)

    def draw(self, count: int, seed: int) -> tuple[Ragged, Tensor]:
        """Draw new training examples and encode them."""
        assert isinstance(self.task, GeneratedTask)
        examples = self.task.draw(count, seed)
        inputs = examples.inputs
        if not isinstance(inputs, Ragged):
            assert self.preprocessor is not None
            inputs = self.preprocessor.encode(list(inputs))
        return truncate(inputs, self._limit), examples.targets

    def _prepare_text(self, splits: Mapping[str, Corpus]) -> None:
        """Encode running text into the cache."""
        if self.preprocessor is None:
            raise UserError("preprocessing=null: this task's inputs are texts; choose a preprocessing")
        if not self.fitted:
            fit_corpus(splits["train"], self.preprocessor, self.pipeline)
        self.begin = begin_id(self.preprocessor)
        window = self.task.sequence_length or 1
        for name in SPLITS:
            tokens = self.tokens[name] = encode_corpus(splits[name], self.preprocessor, self.pipeline, name)
            if len(tokens) < window:
                short = f"the {name} split has {len(tokens)} tokens"
                raise ValueError(f"{short}, fewer than one window of task.sequence_length={window}")
            facts = tokens.facts
            self.statistics[name] = {
                "examples": len(tokens),
                "tokens": len(tokens),
                "bytes": facts["bytes"],
                "share_unknown": facts["unknown"] / len(tokens),
            }
        if isinstance(self.task, LanguageTask):
            self.task.set_vocabulary(self.inputs, torch.tensor(self.tokens["train"].facts["counts"]))
        sample = self.preprocessor.decode(self.tokens["test"].read(0, 40).tolist())
        self.example_texts = [sample.strip().partition("\n")[0]]

    @property
    def inputs(self) -> InputSpec:
        """What a model reads at each step."""
        if self.preprocessor is None and (known := input_spec(self.task)) is not None:
            return known
        if self.preprocessor is not None:
            return InputSpec("tokens", self.preprocessor.size, self.preprocessor.symbols)
        values = self.encoded["train"][0].values
        if values.is_floating_point():
            return InputSpec("features", values.shape[1])
        return InputSpec("tokens", int(values.max()) + 1)

    def training_inputs(self) -> Ragged:
        """Give the encoded training split as a whole, for a model that counts in it."""
        if not self.tokens:
            return self.encoded["train"][0]
        values = self.tokens["train"].all()
        return Ragged(values, torch.tensor([len(values)]))

    @property
    def further(self) -> tuple[str, ...]:
        """Name the splits beyond train, valid and test."""
        return tuple(name for name in self.encoded if name not in SPLITS)

    def loader(self, split: str) -> BucketLoader | CarriedLoader | GeneratedLoader | StreamLoader:
        """Make the loader of a split."""
        if self.tokens:
            return self._stream(split)
        inputs, targets = self.encoded[split]
        training = split == "train"
        if training and is_fresh(self.task):
            return self._fresh(len(targets))
        common: dict[str, Any] = {
            "batch_size": self.batch_size if training else self.eval_batch_size,
            "by_heart": self.by_heart if training else 0,
            "workers": self.workers if training else 0,
            "share": self.share,
            "by_steps": self.task.per_step,
        }
        if isinstance(self.task, StatefulTask):
            return CarriedLoader(inputs, targets, training=training, **common)
        weights = self._weights() if training else None
        return BucketLoader(
            inputs, targets, shuffle=training, seed=self.seed, bucket=self.bucket, weights=weights, **common
        )

    def _fresh(self, examples: int) -> GeneratedLoader:
        return GeneratedLoader(
            self.draw,
            examples=examples,
            batch_size=self.batch_size,
            seed=self.seed,
            by_heart=self.by_heart,
            workers=self.workers,
            share=self.share,
            by_steps=self.task.per_step,
        )

    def _weights(self) -> Tensor | None:
        weights = sample_weights(self.task)
        return weights if weights is None or self.rows is None else weights[self.rows]

    def _stream(self, split: str) -> StreamLoader:
        training, window = split == "train", self.task.sequence_length or 1
        streams = self.batch_size if training else self.eval_batch_size
        if not training:
            window = max(window, min(_EVALUATION_WINDOW, _EVALUATION_SCORES // (streams * self.task.outputs)))
        return StreamLoader(
            self.tokens[split],
            self.begin,
            streams=streams,
            window=window,
            even=training,
            limit=self.by_heart if training else 0,
            workers=self.workers if training else 0,
            share=self.share,
        )

    def probe(self, rows: int) -> Batch:
        """Give a few sequences of the validation split, spread evenly over it: the same ones every time.

        Of running text they are windows of ``task.sequence_length``, read each by itself.
        """
        if self.tokens:
            window = self.task.sequence_length or 1
            loader = WindowLoader(self.tokens["valid"], self.begin, window=window, rows=rows, most=rows * window)
            return loader.cut(loader.starts)
        inputs, targets = self.encoded["valid"]
        chosen = torch.linspace(0, len(targets) - 1, min(rows, len(targets))).long()
        return Batch(*inputs.padded(chosen), targets[chosen])

    def train_dataloader(self) -> BucketLoader | CarriedLoader | GeneratedLoader | StreamLoader:
        """Make the loader of the training split."""
        return self.loader("train")

    def val_dataloader(self) -> BucketLoader | CarriedLoader | GeneratedLoader | StreamLoader:
        """Make the loader of the validation split."""
        return self.loader("train" if self.by_heart else "valid")

    def test_dataloader(self) -> Any:
        """Make the loader of the test split, and where there are further ones a list with theirs behind it.

        For running text there is a second one, whose windows are read by themselves.
        """
        loader = self.loader("test")
        if not self.tokens:
            return [loader, *map(self.loader, self.further)] if self.further else loader
        window = self.task.sequence_length or 1
        rows = max(1, min(32, _EVALUATION_SCORES // (window * self.task.outputs)))
        return [loader, WindowLoader(self.tokens["test"], self.begin, window=window, rows=rows, share=self.share)]


def check_batches(trainer: Mapping[str, Any], data: SequenceData) -> None:
    """Check that a share of a split's batches is at least one batch, before anything is trained.

    Raises:
        UserError: it is none.
    """
    loaders: dict[str, Sequence[Any]] = {
        "limit_train_batches": [data.train_dataloader()],
        "limit_val_batches": [data.val_dataloader()],
        "limit_test_batches": _several(data.test_dataloader()),
    }
    for key, several in loaders.items():
        share = trainer.get(key, 1.0)
        fewest = min(map(len, several))
        if isinstance(share, float) and int(fewest * share) < 1:
            least = math.ceil(1e4 / fewest) / 1e4
            raise UserError(
                f"trainer.{key}={share} of {fewest} batches is none; set at least {least}, or a number of batches"
            )


def _several(loaders: Any) -> Sequence[Any]:
    return loaders if isinstance(loaders, list) else [loaders]
