"""Language modelling: the task, heads that compute their own loss, metrics, and loss by position."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from seqlab import Batch, Corpus, InputSpec, LanguageTask, Report
from seqlab.errors import check_choice, check_range
from seqlab_tasks.classification import check_paths, likeliest
from seqlab_tasks.lm_text import (
    WORD_COUNTS,
    WORD_OPTIONS,
    Errors,
    Part,
    comparison_notes,
    corpus,
    count_words,
    divided,
    own_files,
    public_files,
    standard_library,
    whole,
)
from seqlab_tasks.metrics import AverageLoss
from seqlab_tasks.splitting import SPLITS

Source = Literal["stdlib", "ptb", "wikitext-2", "tinyshakespeare"]
LARGE = 1024
"""Number of token ids from which the loss is computed in chunks of rows."""


@final
class LanguageModelling(
    LanguageTask,
    preprocessing="characters",
    presets={"data": "text"},
    max_epochs=2,
    min_updates=1_000,
    of_source=dict.fromkeys(WORD_COUNTS, WORD_OPTIONS),
):
    r"""Predict each token of a text from the tokens before it.

    .. math:: L = -\frac 1 N \sum_t \ln p(u_t \mid u_{<t})

    Training is truncated back-propagation through time over ``data.batch_size`` contiguous streams, whose state is
    carried from window to window and reset at each epoch. Validation and test read the text as
    ``data.eval_batch_size`` streams (default 1), carry the state, and predict every token exactly once. On small data
    ``data.batch_size=auto`` and ``trainer.max_epochs=auto`` choose at least 1,000 updates where they can: fewer
    streams, from 64 down to 16, then up to 20 epochs.

    Args:
        source: ``stdlib``, the source of Python's standard library on this machine; ``ptb``, ``wikitext-2`` or
            ``tinyshakespeare``, downloaded once. With ``preprocessing=words``, the tokens of the first two are those of
            published perplexities.
        data: your own text file, or a pattern such as ``texts/*.txt``; overrides ``source``.
        data_dir: a folder with the files of a public ``source`` under their published names (such as
            ``ptb.train.txt``, ``wiki.train.tokens``), instead of a download.
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
        self._words: tuple[int, ...] | None = WORD_COUNTS.get(source) if data is None else None
        self._head: AdaptiveHead | LargeHead | None = None

    def splits(self) -> Mapping[str, Corpus]:
        """Return the text of each split."""
        where = f"task.source={self.source}" if self.data is None else f"task.data={self.data}"
        errors: Errors = self.encoding_errors
        parts = dict(zip(SPLITS, self._parts(), strict=True))
        for name, found in parts.items():
            if not found:
                raise ValueError(f"{where}: the text is too short to hold out a part for {name}")
        return {name: corpus(found, where, errors) for name, found in parts.items()}

    def _parts(self) -> list[list[Part]]:
        if self.data is None and self.source in WORD_COUNTS:
            paths = public_files(self.source, self.data_dir)
            if self.data_dir is not None:
                self._words = tuple(map(count_words, paths))
            return [whole([path]) for path in paths]
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
        notes = []
        if self._words is not None and len(self._counts):
            notes = comparison_notes(self.source, self._words, int(self._counts.sum()), self.outputs - 1)
        if "by_position" not in details:
            return Report(notes=notes)
        sums = details["by_position"].cpu()
        draw_loss_by_position(sums, folder / "loss_by_position.png")
        return Report({"loss_by_position": position_table(sums)}, ["loss_by_position.png"], notes)

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
        """Load what :meth:`state_dict` returned; a ValueError says what is wrong with it."""
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


PADDING = 0
SCORES = 2_000_000
"""Scores in memory at once: 8 MB, about the size of the cache."""


@final
class AdaptiveHead(nn.Module):
    """Adaptive softmax (Grave et al. 2017, arXiv 1609.04309): rare tokens in clusters with fewer features.

    Args:
        features: number of input features.
        outputs: number of token ids, sorted by falling frequency.
        cutoffs: the first id of each cluster.

    Raises:
        ValueError: the cutoffs do not ascend, or are out of range.
    """

    skips_parameters = True  # of clusters without a token in the batch

    def __init__(self, features: int, outputs: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        ascending = all(low < high for low, high in zip([0, *cutoffs], [*cutoffs, outputs], strict=True))
        if not ascending:
            raise ValueError(f"adaptive must ascend, with values > 0 and < {outputs}, got {list(cutoffs)}")
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(features, outputs, list(cutoffs))

    def forward(self, features: Tensor) -> Tensor:
        """Return the features in training mode, for :meth:`loss`; otherwise log-probabilities of all ids."""
        if self.training:
            return features
        return self.softmax.log_prob(features.flatten(0, -2)).view(*features.shape[:-1], -1)

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of the targets without padding."""
        rows, wanted = features.flatten(0, -2), targets.flatten()
        valid = wanted != PADDING
        loss: Tensor = self.softmax(rows[valid], wanted[valid]).loss
        return loss


@final
class LargeHead(nn.Linear):
    r"""Linear head for a large vocabulary, which computes its training loss in chunks of rows.

    .. math:: L = -\frac 1 N \sum_n \ln \mathrm{softmax}(W y_n + b)_{u_n}

    The gradient is computed with the loss, chunk by chunk: a window of 64 streams, 100 steps and 10,000 tokens needs
    8 MB for scores instead of three times 256 MB (idea: Wijmans et al. 2024, arXiv 2411.09009; code:
    :func:`torch.nn.functional.linear_cross_entropy`). Older versions of torch, and autocast, use one chunk.

    Args:
        features: number of input features.
        outputs: number of token ids.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        rows = max(32, SCORES // outputs)
        options: Any = getattr(nn, "LinearCrossEntropyOptions", None)
        self._options = None if options is None else options(batch_chunk_size=rows, chunking_method=None)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features in training mode, for :meth:`loss`; otherwise the scores of all ids."""
        return features if self.training else super().forward(features)

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of the targets without padding."""
        rows, wanted = features.flatten(0, -2), targets.flatten()
        if self._options is None or torch.is_autocast_enabled(rows.device.type):
            return F.cross_entropy(super().forward(rows), wanted, ignore_index=PADDING)
        loss: Tensor = F.linear_cross_entropy(
            rows, self.weight, wanted, linear_bias=self.bias, ignore_index=PADDING, options=self._options
        )
        return loss


def cross_entropy(outputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Return the cross-entropy of logits ``[..., ids]`` and targets ``[...]``, without padding."""
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), ignore_index=PADDING, reduction=reduction)


def token_losses(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy in nats, and the number of tokens, without padding."""
    return cross_entropy(outputs, targets, "sum"), (targets != PADDING).sum()


@final
class Perplexity(AverageLoss):
    r""":math:`\exp` of the mean cross-entropy."""

    def compute(self) -> Tensor:
        """Return the perplexity."""
        return super().compute().exp()


@final
class LossByPosition(Metric):
    """At each position of a window: sum of the cross-entropy, number of tokens, sum of squares, ``[3, window]``."""

    full_state_update = False
    sums: Tensor

    def __init__(self, window: int) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(3, window, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch: logits ``[rows, steps, ids]`` and targets ``[rows, steps]``."""
        losses = cross_entropy(outputs.float(), targets, "none").view_as(targets).double()
        steps = targets.shape[1]
        self.sums[0, :steps] += losses.sum(0)
        self.sums[2, :steps] += losses.square().sum(0)
        self.sums[1, :steps] += (targets != PADDING).sum(0)

    def compute(self) -> Tensor:
        """Return the sums."""
        return self.sums


def language_metrics() -> MetricCollection:
    """Return perplexity and loss, which share one update per batch."""
    return MetricCollection({"perplexity": Perplexity(token_losses), "loss": AverageLoss(token_losses)})


def position_table(sums: Tensor) -> list[dict[str, Any]]:
    """Return the mean loss at each position: number of tokens read before, nats, their standard error, tokens."""
    return [
        {
            "tokens_before": position,
            "loss": nats / count,
            "standard_error": math.sqrt(max(0.0, squares / count - (nats / count) ** 2) / count),
            "tokens": int(count),
        }
        for position, (nats, count, squares) in enumerate(sums.t().tolist())
        if count
    ]


def draw_loss_by_position(sums: Tensor, path: Path) -> None:
    """Draw the loss over the position, on a logarithmic axis, with two standard errors to each side."""
    from matplotlib.figure import Figure

    rows = position_table(sums)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    where, loss = [row["tokens_before"] + 1 for row in rows], [row["loss"] for row in rows]
    low = [row["loss"] - 2 * row["standard_error"] for row in rows]
    high = [row["loss"] + 2 * row["standard_error"] for row in rows]
    axes.fill_between(where, low, high, alpha=0.2, linewidth=0, label="two standard errors")
    axes.plot(where, loss, linewidth=1.5)
    axes.legend(frameon=False)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("tokens read, including the current one")
    axes.set_ylabel("loss (nats per token)")
    axes.set_title("Loss by position", loc="left")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
