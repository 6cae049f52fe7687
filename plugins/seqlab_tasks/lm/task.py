"""Language modelling task."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from seqlab import Batch, Corpus, InputSpec, LanguageTask, Report
from seqlab.errors import check_choice, check_range
from seqlab_tasks.classification import check_paths, likeliest
from seqlab_tasks.lm.losses import (
    PADDING,
    AdaptiveHead,
    LargeHead,
    LossByPosition,
    cross_entropy,
    draw_loss_by_position,
    language_metrics,
    position_table,
)
from seqlab_tasks.lm.text import Errors, Part, corpus, divided, own_files, public_files, standard_library, whole
from seqlab_tasks.splitting import SPLITS

Source = Literal["stdlib", "ptb", "wikitext-2", "tinyshakespeare"]
LARGE = 1024
"""Number of token ids from which the loss is computed in chunks of rows."""


@final
class LanguageModelling(LanguageTask, preprocessing="characters", presets={"data": "text"}, max_epochs=2):
    r"""Predict each token of a text from the tokens before it.

    .. math:: L = -\frac 1 N \sum_t \ln p(u_t \mid u_{<t})

    Training is truncated back-propagation through time over ``data.batch_size`` contiguous streams, whose state is
    carried from window to window and reset at each epoch. Validation and test read the text as
    ``data.eval_batch_size`` streams (default 1), carry the state, and predict every token exactly once.

    Args:
        source: ``stdlib``, the source of Python's standard library on this machine; ``ptb``, ``wikitext-2`` or
            ``tinyshakespeare``, downloaded once.
        data: your own text file, or a pattern such as ``texts/*.txt``; overrides ``source``.
        data_dir: a folder with the files of a public ``source``, instead of a download.
        sequence_length: window size: maximum number of steps that the gradient flows back.
        held_out: share of a text without given splits for validation, and for test, at its end.
        held_out_bytes: maximum number of bytes of each of the two.
        stdlib_bytes: number of bytes read from the standard library.
        encoding_errors: how to handle bytes that are not UTF-8: ``strict`` refuses, ``replace`` uses U+FFFD.
        adaptive: token ids at which an adaptive softmax (Grave et al. 2017) divides the vocabulary into clusters;
            an empty list uses the full softmax.

    Raises:
        ValueError: an option is out of range.
    """

    monitor = "perplexity"
    mode = "min"

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
        check_choice("source", source, Source)
        check_choice("encoding_errors", encoding_errors, Errors)
        check_range("sequence_length", sequence_length, 1)
        check_range("held_out_bytes", held_out_bytes, 1)
        check_range("stdlib_bytes", stdlib_bytes, 1)
        check_range("held_out", held_out, above=0, below=0.5)
        check_paths(data, data_dir)
        if data_dir is not None and source == "stdlib":
            raise ValueError(f"data_dir={data_dir} needs a public source, got stdlib; set data for your own files")
        self.source, self.data, self.data_dir = source, data, data_dir
        self.sequence_length: int = sequence_length
        self.held_out, self.held_out_bytes, self.stdlib_bytes = held_out, held_out_bytes, stdlib_bytes
        self.encoding_errors, self.adaptive = encoding_errors, list(adaptive)
        self._symbols: list[str] | None = None
        self._counts = torch.zeros(0, dtype=torch.int64)
        self._head: AdaptiveHead | LargeHead | None = None

    def splits(self) -> Mapping[str, Corpus]:
        """Return the text of each split.

        Raises:
            ValueError, OSError: it cannot be read; the message says what to do.
        """
        where = f"task.source={self.source}" if self.data is None else f"task.data={self.data}"
        errors: Errors = self.encoding_errors
        parts = dict(zip(SPLITS, self._parts(), strict=True))
        for name, found in parts.items():
            if not found:
                raise ValueError(f"{where}: the text is too short to hold out a part for {name}")
        return {name: corpus(found, where, errors) for name, found in parts.items()}

    def _parts(self) -> list[list[Part]]:
        if self.data is None and self.source in ("ptb", "wikitext-2"):
            return [whole([path]) for path in public_files(self.source, self.data_dir)]
        if self.data is not None:
            files = own_files(self.data)
        elif self.source == "stdlib":
            files = standard_library(self.stdlib_bytes)
        else:
            files = public_files(self.source, self.data_dir)
        return divided(files, (self.held_out, self.held_out), self.held_out_bytes)

    def set_vocabulary(self, inputs: InputSpec, counts: Tensor) -> None:
        """Set the vocabulary and the frequencies of its tokens."""
        self._symbols = None if inputs.symbols is None else list(inputs.symbols)
        self._counts = counts.to(torch.int64)

    @property
    def outputs(self) -> int:
        """Number of token ids."""
        if not len(self._counts):
            raise ValueError("the vocabulary is not known yet; read the data or call load_state_dict() first")
        return len(self._counts)

    def head(self, features: int) -> nn.Module:
        """Return the layer from features to token ids: linear, or an adaptive softmax."""
        if self.adaptive:
            self._head = AdaptiveHead(features, self.outputs, self.adaptive)
        elif self.outputs >= LARGE:
            self._head = LargeHead(features, self.outputs)
        else:
            return nn.Linear(features, self.outputs)
        return self._head

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of the next tokens."""
        if self._head is not None and self._head.training:
            return self._head.loss(outputs, batch.targets)
        return cross_entropy(outputs, batch.targets)

    def metrics(self) -> MetricCollection:
        """Return perplexity and loss (nats per token)."""
        return language_metrics()

    def derived(self, metrics: Mapping[str, float], statistics: Mapping[str, Any]) -> dict[str, float]:
        """Return bits per byte, which does not depend on the tokens as long as few are unknown, and others."""
        if not statistics:
            return {}
        bits = metrics["loss"] / math.log(2) * statistics["tokens"]
        return {
            "bits_per_byte": bits / statistics["bytes"],
            "bits_per_token": metrics["loss"] / math.log(2),
            "share_unknown": statistics["share_unknown"],
        }

    def details(self) -> MetricCollection:
        """Return the loss by position in a window without carried state."""
        return MetricCollection({"by_position": LossByPosition(self.sequence_length)})

    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        """Return a table of the loss by position, and draw it as ``loss_by_position.png``."""
        if "by_position" not in details:
            return Report()
        sums = details["by_position"].cpu()
        draw_loss_by_position(sums, folder / "loss_by_position.png")
        return Report({"loss_by_position": position_table(sums)}, ["loss_by_position.png"])

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Return the log of each token's share of the training split, with add-one smoothing."""
        smoothed = self._counts.double() + 1
        smoothed[PADDING] = 1e-9
        shares = (smoothed / smoothed.sum()).log().float()
        return shares.to(batch.inputs.device).expand(*batch.inputs.shape, -1)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Return the likeliest next tokens of each row, from the logits at its last step."""
        names = self._symbols or [f"id {index}" for index in range(self.outputs)]
        return likeliest(outputs[:, -1] if outputs.dim() == 3 else outputs, top, names)

    def state_dict(self) -> dict[str, Any]:
        """Return the symbols of the tokens, and their training frequencies."""
        return {"symbols": self._symbols, "counts": self._counts.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned.

        Raises:
            ValueError: the state is not valid.
        """
        if not isinstance(state, dict) or set(state) != {"symbols", "counts"}:
            raise ValueError("the task's state must have exactly symbols and counts")
        symbols, counts = state["symbols"], state["counts"]
        if not isinstance(counts, list) or not counts or not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError("counts must be a list of integers >= 0")
        if symbols is not None and (
            not isinstance(symbols, list)
            or len(symbols) != len(counts)
            or not all(isinstance(symbol, str) for symbol in symbols)
        ):
            raise ValueError(f"symbols must be null, or a list of {len(counts)} texts")
        self._symbols, self._counts = symbols, torch.tensor(counts)
