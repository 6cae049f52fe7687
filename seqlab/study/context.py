"""Context use of a language model: loss against truncated and shuffled context; ``context.csv``, ``context.png``."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqlab.contracts import Batch, Corpus, LanguageTask, UserError
from seqlab.data.tokens import TokenFile, begin_id, encode_corpus
from seqlab.inference import Trained
from seqlab.io.atomic import write_text
from seqlab.io.csv_files import csv_text
from seqlab.study.plotting import COLOURS, INK, label_axes, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


LENGTHS = (5, 10, 20, 50, 100, 200, 500)
"""Default context lengths in tokens."""
TOLERANCE = 0.01
"""Relative excess over the loss with the whole context that counts as equal (Khandelwal et al. 2018)."""
ROUNDING = 1e-4
"""Largest difference of a token's loss, in bits, that counts as rounding."""
_MAX_OUTPUTS = 2**24
"""Outputs of a batch: 64 MiB."""
_MAX_ROWS = 256


@final
@dataclass(frozen=True)
class ContextRow:
    """Loss with a changed context.

    Attributes:
        kind: ``truncated``: only the last ``context`` tokens are read, from the initial state; ``shuffled``: the tokens
            before them are read in random order.
        context: tokens left unchanged.
        tokens: number of predictions.
        bits: mean loss in bits per token.
        standard_error: of ``bits``.
        difference: mean over tokens of the loss minus that with unchanged context.
        difference_error: its standard error.
        largest: largest absolute difference of a token.
    """

    kind: Literal["truncated", "shuffled"]
    context: int
    tokens: int
    bits: float
    standard_error: float
    difference: float
    difference_error: float
    largest: float


@final
@dataclass(frozen=True)
class Context:
    """Result of a study.

    Attributes:
        rows: truncated, then shuffled, by ascending context.
        bits: mean loss with the whole context.
        standard_error: of ``bits``.
        tokens: number of predictions.
        whole: description of the whole context: all text before, or a number of tokens for a model without state.
        effective: smallest context whose loss is within 1 % of ``bits``; ``None`` if the longest is too short.
        reach: smallest context from which on no prediction differs; ``None`` if the longest is too short.
        ordered: smallest context beyond which the order of tokens changes the loss by at most 1 %.
        shuffled_to: tokens read in the shuffled rows.
    """

    rows: tuple[ContextRow, ...]
    bits: float
    standard_error: float
    tokens: int
    whole: str
    effective: int | None
    reach: int | None
    ordered: int | None
    shuffled_to: int


def encode_test_split(trained: Trained) -> TokenFile:
    """Encode the test split of a language model, or read it from the cache."""
    task = trained.task
    if not isinstance(task, LanguageTask) or trained.preprocessor is None:
        raise UserError(f"{trained.folder}: its task predicts no next token; context needs a run of task=lm")
    try:
        corpus = task.splits()["test"]
        if not isinstance(corpus, Corpus):
            raise UserError(f"{trained.folder}: its task has no running text; context needs a run of task=lm")
        return encode_corpus(corpus, trained.preprocessor, trained.nodes.get("preprocessing"), "test")
    except (ValueError, OSError) as error:
        raise UserError(f"{trained.folder}: its test split cannot be read: {error}") from error


@final
class ContextStudy:
    """Measurement of a model at positions spread evenly over a text.

    Memory holds a batch of at most 64 MiB of outputs, whatever the length of text and context.

    Args:
        trained: a language model.
        tokens: the text.
        count: tokens to predict.
        lengths: context lengths; at least 1 each.
        limit: number of tokens of the text to use.
        seed: of the shuffling.
        on_progress: called with the number of steps just read.
    """

    def __init__(
        self,
        trained: Trained,
        tokens: TokenFile,
        *,
        count: int = 2_000,
        lengths: Sequence[int] = LENGTHS,
        limit: int = 200_000,
        seed: int = 0,
        on_progress: Callable[[int], object] = int,
    ) -> None:
        assert trained.preprocessor is not None
        self.model, self.on_progress, self.seed = trained.model.eval(), on_progress, seed
        self.lengths = sorted(set(lengths))
        end = min(len(tokens), limit)
        longest = self.lengths[-1]
        if end <= longest + 1:
            raise UserError(f"the test split has {len(tokens):,} tokens; a context of {longest:,} needs a longer text")
        self.ids = torch.from_numpy(tokens.read(0, end))
        self.begin = begin_id(trained.preprocessor)
        self.places = torch.from_numpy(np.unique(np.linspace(longest, end - 1, min(count, end - longest)).astype(int)))
        self.outputs = trained.task.outputs
        with torch.inference_mode():
            self.carries = self.model(_batch(self.ids[:1].unsqueeze(0)), None)[1] is not None

    @property
    def steps(self) -> int:
        """Steps of reading for the table, without the search between its rows."""
        count, longest = len(self.places), self.lengths[-1]
        shuffled = longest * sum(length < longest for length in self.lengths)
        return count * (sum(self.lengths) + shuffled) + (int(self.places[-1]) if self.carries else 0)

    @torch.inference_mode()
    def run(self) -> Context:
        """Measure the whole, the truncated and the shuffled contexts."""
        longest = self.lengths[-1]
        truncated = {length: self.truncated(length) for length in self.lengths}
        full = truncated[longest]
        whole = self.streamed() if self.carries else full
        shuffled = {length: self.shuffled(length, longest) for length in self.lengths[:-1]}
        bits, error = _mean(whole)
        limit = (1 + TOLERANCE) * float(full.mean())
        ordered = next((length for length, losses in shuffled.items() if float(losses.mean()) <= limit), None)
        effective = self._smallest(truncated, lambda losses: float(losses.mean()) <= (1 + TOLERANCE) * bits)
        reach = self._smallest(truncated, lambda losses: float((losses - whole).abs().max()) <= ROUNDING)
        rows = [_row("truncated", length, truncated[length], whole) for length in sorted(truncated)]
        rows += [_row("shuffled", length, losses, full) for length, losses in shuffled.items()]
        what = "all of the text before" if self.carries else f"{longest:,} tokens, since the model carries no state"
        return Context(tuple(rows), bits, error, len(self.places), what, effective, reach, ordered, longest)

    def _smallest(self, known: dict[int, Tensor], is_enough: Callable[[Tensor], bool]) -> int | None:
        """Find the smallest sufficient context, by bisection between two lengths of the table, and add its losses."""
        lengths = sorted(known)
        high = next((length for length in lengths if is_enough(known[length])), None)
        if high is None:
            return None
        low = max((length for length in lengths if length < high), default=0)
        while high - low > 1:
            middle = (low + high) // 2
            if middle not in known:
                known[middle] = self.truncated(middle)
            low, high = (low, middle) if is_enough(known[middle]) else (middle, high)
        return high

    def truncated(self, length: int) -> Tensor:
        """Return the loss of each token after its last ``length`` ones, in bits, ``[tokens]``."""
        return self._read(lambda places: self._before(places, length))

    def shuffled(self, length: int, longest: int) -> Tensor:
        """Return the loss of each token after its last ``longest`` ones, all but the last ``length`` shuffled."""
        generator = torch.Generator().manual_seed(self.seed)

        def contexts(places: Tensor) -> Tensor:
            before = self._before(places, longest)
            far = longest - length
            order = torch.rand(len(places), far, generator=generator).argsort(1)
            return torch.cat([before[:, :far].gather(1, order), before[:, far:]], dim=1)

        return self._read(contexts)

    def streamed(self) -> Tensor:
        """Return the loss of each token after all of the text before it, from one pass."""
        losses, state = [], None
        inputs = torch.cat([torch.tensor([self.begin]), self.ids[:-1]])
        most = max(1, min(4096, _MAX_OUTPUTS // self.outputs))
        for begin in range(0, int(self.places[-1]) + 1, most):
            chunk = inputs[begin : begin + most].unsqueeze(0)
            outputs, state = self.model(_batch(chunk), state)
            here = self.places[(self.places >= begin) & (self.places < begin + most)]
            losses.append(_bits(outputs[0, here - begin], self.ids[here]))
            self.on_progress(chunk.shape[1])
        return torch.cat(losses)

    def _before(self, places: Tensor, length: int) -> Tensor:
        return self.ids[places.unsqueeze(1) - length + torch.arange(length)]

    def _read(self, contexts: Callable[[Tensor], Tensor]) -> Tensor:
        """Read contexts in batches; return the losses of the tokens after them."""
        losses = []
        for places in self._batches(contexts):
            inputs = contexts(places)
            losses.append(_bits(self._last(inputs), self.ids[places]))
            self.on_progress(inputs.numel())
        return torch.cat(losses)

    def _batches(self, contexts: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        rows = _MAX_ROWS
        if not self.carries:
            length = contexts(self.places[:1]).shape[1]
            rows = max(1, min(rows, _MAX_OUTPUTS // (length * self.outputs)))
        yield from torch.split(self.places, rows)

    def _last(self, inputs: Tensor) -> Tensor:
        """Return the outputs after the last step, ``[rows, outputs]``; a model with state reads in pieces."""
        time = inputs.shape[1]
        most = max(1, _MAX_OUTPUTS // (len(inputs) * self.outputs)) if self.carries else time
        state: Any = None
        outputs = inputs.new_empty(0)
        for begin in range(0, time, most):
            outputs, state = self.model(_batch(inputs[:, begin : begin + most]), state)
        return outputs[:, -1]


def _batch(inputs: Tensor) -> Batch:
    return Batch(inputs, None, torch.empty(0))


def _bits(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.double(), targets, reduction="none") / math.log(2)


def _mean(values: Tensor) -> tuple[float, float]:
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else float("nan")
    return float(values.mean()), error


def _row(kind: Literal["truncated", "shuffled"], context: int, losses: Tensor, whole: Tensor) -> ContextRow:
    more = losses - whole
    return ContextRow(kind, context, len(losses), *_mean(losses), *_mean(more), float(more.abs().max()))


def write_context(found: Context, path: Path) -> None:
    """Write the rows as CSV, and a last one of kind ``whole``, without a length."""
    whole = {"kind": "whole", "tokens": found.tokens, "bits": found.bits, "standard_error": found.standard_error}
    rows = [
        {key: f"{value:.8g}" if isinstance(value, float) else value for key, value in row.items()}
        for row in (*map(asdict, found.rows), whole)
    ]
    write_text(path, csv_text(rows, list(rows[0])))


def draw_context(found: Context, title: str) -> "Figure":
    """Draw bits per token against tokens of context, with two standard errors of the difference to each side."""
    figure = new_figure(7.4, 4.6)
    axes = figure.add_subplot()
    kinds = {
        "truncated": ("only the last n tokens are read", COLOURS[0], "o", "-"),
        "shuffled": (f"{found.shuffled_to:,} are read, those before the last n shuffled", COLOURS[1], "s", "--"),
    }
    for kind, (label, colour, marker, line) in kinds.items():
        rows = [row for row in found.rows if row.kind == kind]
        axes.errorbar(
            [row.context for row in rows], [row.bits for row in rows], [2 * row.difference_error for row in rows],
            label=label, color=colour, marker=marker, linestyle=line, markersize=4.5, capsize=3,
        )  # fmt: skip
    axes.axhline(found.bits, color=INK, linewidth=1, label=f"whole context: {found.bits:.3f}")
    axes.axhspan(found.bits, 1.01 * found.bits, color=INK, alpha=0.12, linewidth=0, label="within 1 %")
    if found.effective is not None:
        label = f"effective context: {found.effective:,} tokens"
        axes.axvline(found.effective, color=COLOURS[2], linestyle=":", linewidth=1.6, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    y = "loss (bits per token)\nbars: two standard errors of the difference"
    label_axes(axes, "n, unchanged tokens of context", y, f"{title}, {found.tokens:,} tokens predicted")
    axes.legend(frameon=False, fontsize=8)
    return figure
