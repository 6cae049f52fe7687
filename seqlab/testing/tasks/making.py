"""What the checks of a task are made of."""

import copy
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from seqlab.contracts import Batch, Corpus, Examples, InputSpec, Preprocessor, Ragged, Task, UserError
from seqlab.discovery import find
from seqlab.testing.guesses import output_shape, perfect
from seqlab.testing.ready import CodePoints, Ready, windows
from seqlab.testing.suite import Suite, demand
from seqlab.testing.taskdata import (
    updated,
    values_of,
)

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
