"""The task: a text in, at each step what comes next."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection

from seqlab import Batch, Corpus, InputSpec, LanguageTask, Report
from seqlab_tasks.classification import likeliest
from seqlab_tasks.lm.adaptive import AdaptiveHead
from seqlab_tasks.lm.curve import draw_loss_by_position, position_table
from seqlab_tasks.lm.large import LargeHead
from seqlab_tasks.lm.metrics import PADDING, LossByPosition, language_metrics
from seqlab_tasks.lm.reading import Errors, Part, corpus, divided, whole
from seqlab_tasks.lm.sources import SPLITS, given, own, standard_library

Source = Literal["stdlib", "ptb", "wikitext-2", "tinyshakespeare"]
SOURCES = ("stdlib", "ptb", "wikitext-2", "tinyshakespeare")
LARGE = 1024
"""Token ids from which on the loss is computed some rows at a time."""


@final
class LanguageModelling(LanguageTask, preprocessing="characters", presets={"data": "text"}, max_epochs=2):
    r"""Predict each token of a text from those before it.

    .. math:: L = -\frac 1 N \sum_t \ln p(u_t \mid u_{<t})

    Training is truncated back-propagation through time over ``data.batch_size`` contiguous streams, whose state is
    carried from window to window and begins anew with each epoch. Validation and test read the text as
    ``data.eval_batch_size`` streams (1 unless set), carry the state, and predict every token exactly once.

    Args:
        source: ``stdlib``, the source of Python's standard library on this machine; ``ptb``, ``wikitext-2`` or
            ``tinyshakespeare``, downloaded once.
        data: a text file of one's own, or a pattern such as ``texts/*.txt``; wins over ``source``.
        data_dir: a folder that holds the files of a public ``source``, which then need no download.
        sequence_length: the window: time steps that the gradient reaches back, at most.
        held_out: share of a text without given splits that validation takes, and again the test, from its end.
        held_out_bytes: bytes that each of the two takes at most.
        stdlib_bytes: how much of the standard library is read.
        encoding_errors: what to do with bytes that are not UTF-8: ``strict`` refuses, ``replace`` shows U+FFFD.
        adaptive: token ids at which the vocabulary is cut into clusters for an adaptive softmax (Grave et al. 2017);
            an empty list leaves the softmax whole.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        source: Source = "stdlib",
        data: str | None = None,
        data_dir: str | None = None,
        sequence_length: int = 100,
        held_out: float = 0.05,
        held_out_bytes: int = 2_000_000,
        stdlib_bytes: int = 3_000_000,
        encoding_errors: Errors = "strict",
        adaptive: Sequence[int] = (),
    ) -> None:
        if source not in SOURCES:
            raise ValueError(f"source is {source!r}; it must be one of {', '.join(SOURCES)}")
        if encoding_errors not in ("strict", "replace"):
            raise ValueError(f"encoding_errors is {encoding_errors!r}; it must be one of strict, replace")
        for name, value in (
            ("sequence_length", sequence_length),
            ("held_out_bytes", held_out_bytes),
            ("stdlib_bytes", stdlib_bytes),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if not 0 < held_out < 0.5:
            raise ValueError(f"held_out is {held_out}; it must be above 0 and below 0.5")
        if data is not None and data_dir is not None:
            raise ValueError(
                "data and data_dir are both set; data names files of one's own, data_dir a source's folder"
            )
        if data_dir is not None and source == "stdlib":
            raise ValueError(f"data_dir={data_dir} needs a public source, and source is stdlib; name own files by data")
        self.source, self.data, self.data_dir = source, data, data_dir
        self.sequence_length: int = sequence_length
        self.held_out, self.held_out_bytes, self.stdlib_bytes = held_out, held_out_bytes, stdlib_bytes
        self.encoding_errors, self.adaptive = encoding_errors, list(adaptive)
        self._symbols: list[str] | None = None
        self._counts = torch.zeros(0, dtype=torch.int64)
        self._head: AdaptiveHead | LargeHead | None = None

    @property
    def monitor(self) -> str:
        """Perplexity."""
        return "perplexity"

    @property
    def mode(self) -> Literal["min", "max"]:
        """Smaller is better."""
        return "min"

    def splits(self) -> Mapping[str, Corpus]:
        """Find the text.

        Raises:
            ValueError, OSError: it cannot be had; the message says what to do.
        """
        where = f"task.source={self.source}" if self.data is None else f"task.data={self.data}"
        errors: Errors = self.encoding_errors
        parts = self._parts()
        for name, found in zip(SPLITS, parts, strict=True):
            if not found:
                raise ValueError(f"{where}: the text is too short to hold out a part for {name}")
        return {name: corpus(found, where, errors) for name, found in zip(SPLITS, parts, strict=True)}

    def _parts(self) -> list[list[Part]]:
        if self.data is None and self.source in ("ptb", "wikitext-2"):
            return [whole([path]) for path in given(self.source, self.data_dir)]
        if self.data is not None:
            files = own(self.data)
        elif self.source == "stdlib":
            files = standard_library(self.stdlib_bytes)
        else:
            files = given(self.source, self.data_dir)
        return divided(files, (self.held_out, self.held_out), self.held_out_bytes)

    def set_vocabulary(self, inputs: InputSpec, counts: Tensor) -> None:
        """Take the vocabulary and the frequencies of its tokens."""
        self._symbols = None if inputs.symbols is None else list(inputs.symbols)
        self._counts = counts.to(torch.int64)

    @property
    def outputs(self) -> int:
        """Number of token ids."""
        if not len(self._counts):
            raise ValueError("the vocabulary is not known yet; the data or load_state_dict() comes first")
        return len(self._counts)

    def head(self, features: int) -> nn.Module:
        """Make the layer from features to token ids: linear, or an adaptive softmax."""
        if self.adaptive:
            self._head = AdaptiveHead(features, self.outputs, self.adaptive)
        elif self.outputs >= LARGE:
            self._head = LargeHead(features, self.outputs)
        else:
            return nn.Linear(features, self.outputs)
        return self._head

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Compute the mean cross-entropy of the next tokens."""
        if self._head is not None and self._head.training:
            return self._head.loss(outputs, batch.targets)
        return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten(), ignore_index=PADDING)

    def metrics(self) -> MetricCollection:
        """Make perplexity and loss (nats a token)."""
        return language_metrics()

    def derived(self, metrics: Mapping[str, float], statistics: Mapping[str, Any]) -> dict[str, float]:
        """Compute bits per byte of the text, which no choice of tokens flatters as long as few are unknown."""
        if not statistics:
            return {}
        bits = metrics["loss"] / math.log(2) * statistics["tokens"]
        return {
            "bits_per_byte": bits / statistics["bytes"],
            "bits_per_token": metrics["loss"] / math.log(2),
            "share_unknown": statistics["share_unknown"],
        }

    def details(self) -> MetricCollection:
        """Make the loss by position in a window that is read by itself."""
        return MetricCollection({"by_position": LossByPosition(self.sequence_length)})

    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        """Make a table of the loss by position, and draw it as ``loss_by_position.png``."""
        if "by_position" not in details:
            return Report()
        sums = details["by_position"].cpu()
        draw_loss_by_position(sums, folder / "loss_by_position.png")
        return Report({"loss_by_position": position_table(sums)}, ["loss_by_position.png"])

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Give the log of each token's share of the training split, one occurrence more counted for each."""
        smoothed = self._counts.double() + 1
        smoothed[PADDING] = 1e-9
        shares = (smoothed / smoothed.sum()).log().float()
        return shares.to(batch.inputs.device).expand(*batch.inputs.shape, -1)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Name the likeliest next tokens of each row, from the logits at its last step."""
        names = self._symbols or [f"id {index}" for index in range(self.outputs)]
        return likeliest(outputs[:, -1] if outputs.dim() == 3 else outputs, top, names)

    def state_dict(self) -> dict[str, Any]:
        """Give the symbols of the tokens, and how often training shows each."""
        return {"symbols": self._symbols, "counts": self._counts.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave.

        Raises:
            ValueError: the state is not one that this task wrote.
        """
        if not isinstance(state, dict) or set(state) != {"symbols", "counts"}:
            raise ValueError("the task's state must have symbols and counts, and nothing else")
        symbols, counts = state["symbols"], state["counts"]
        if not isinstance(counts, list) or not counts or not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError("counts must be a list of whole numbers, none below 0")
        if symbols is not None and (
            not isinstance(symbols, list)
            or len(symbols) != len(counts)
            or not all(isinstance(symbol, str) for symbol in symbols)
        ):
            raise ValueError(f"symbols must be null, or a list of {len(counts)} texts")
        self._symbols, self._counts = symbols, torch.tensor(counts)
