"""How much of what it has read a language model uses: loss against truncated and against shuffled context."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqlab.contracts import Batch, Corpus, UserError
from seqlab.data.tokens import TokenFile, begin_id, encode_corpus
from seqlab.inference.loading import Trained
from seqlab.io.atomic import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


LENGTHS = (5, 10, 20, 50, 100, 200, 500)
"""Tokens of context that are tried."""
WITHIN = 0.01
"""A loss this much above that of the whole context, at most, counts as the same (Khandelwal et al. 2018)."""
SAME = 1e-4
"""Bits by which no token's loss may differ where the context beyond is not looked at: more than rounding makes."""
_OUTPUTS = 2**24
"""Outputs of a batch, at most: 64 MiB."""
_ROWS = 256


@final
@dataclass(frozen=True)
class ContextRow:
    """The loss with a changed context.

    Attributes:
        kind: ``truncated``, where the last ``context`` tokens are all that is read, from the state before the first
            step; or ``shuffled``, where those before them are read in another order.
        context: tokens that are left as they are.
        tokens: that were predicted.
        bits: mean loss, in bits a token.
        standard_error: of it.
        difference: mean of the loss less that with the context as it was, token by token.
        difference_error: its standard error.
        largest: the largest difference of one token, up or down.
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
    """What was found.

    Attributes:
        rows: those that were measured, the shortest context first.
        bits: loss with all of the context.
        standard_error: of it.
        tokens: that were predicted.
        whole: what all of the context is: the text before, or so many tokens for a model that carries no state.
        effective: the least context whose loss is within 1 % of that; ``None`` where the longest is not enough.
        reach: the least context from which on no prediction differs; ``None`` where the longest is not enough.
        ordered: the least context beyond which the order of what was read does not matter by more than 1 %.
        shuffled_to: tokens that were read where they are shuffled.
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


def tokens_of_test(trained: Trained) -> TokenFile:
    """Encode the test split of a language model, or find it in the cache.

    Raises:
        UserError: this is no language model, or its text cannot be had.
    """
    task = trained.task
    if not (task.carries_state and task.per_step) or trained.preprocessor is None:
        raise UserError(f"{trained.folder}: its task predicts no next token; context needs a run of task=lm")
    try:
        corpus = task.splits()["test"]
        if not isinstance(corpus, Corpus):
            raise UserError(f"{trained.folder}: its task reads no running text, so that there is no context to cut")
        return encode_corpus(corpus, trained.preprocessor, trained.nodes.get("preprocessing"), "test")
    except (ValueError, OSError) as error:
        raise UserError(f"{trained.folder}: the text it was tested on cannot be had: {error}") from error


@final
class ContextStudy:
    """Measures a model on positions of a text that are spread over it evenly.

    Memory holds a batch of at most 64 MiB of outputs, however long text and context are.

    Args:
        trained: a language model.
        tokens: the text.
        count: tokens to predict.
        lengths: tokens of context to try, at least 1 each.
        limit: how far into the text to go, since all of it up to the last position is read once.
        seed: of the shuffling.
        tell: is told how many steps of reading were done.

    Raises:
        UserError: the text is too short for the longest context.
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
        tell: Callable[[int], object] = int,
    ) -> None:
        assert trained.preprocessor is not None
        self.model, self.tell, self.seed = trained.model.eval(), tell, seed
        self.lengths = sorted(set(lengths))
        end = min(len(tokens), limit)
        longest = self.lengths[-1]
        if end <= longest + 1:
            raise UserError(f"the test split has {len(tokens):,} tokens; a context of {longest:,} needs a longer text")
        self.ids = torch.from_numpy(tokens.read(0, end))
        self.begin = begin_id(trained.preprocessor)
        self.places = torch.from_numpy(np.unique(np.linspace(longest, end - 1, min(count, end - longest)).astype(int)))
        self.outputs = trained.task.outputs
        self.carries = self._first(1)[1] is not None

    @property
    def steps(self) -> int:
        """How many steps of reading the table takes, without the search between its rows."""
        count, longest = len(self.places), self.lengths[-1]
        shuffled = longest * sum(length < longest for length in self.lengths)
        return count * (sum(self.lengths) + shuffled) + (int(self.places[-1]) if self.carries else 0)

    @torch.inference_mode()
    def run(self) -> Context:
        """Measure the whole context, the truncated ones, and the shuffled ones."""
        longest = self.lengths[-1]
        truncated = {length: self.truncated(length) for length in self.lengths}
        whole = self.streamed() if self.carries else truncated[longest]
        rows = [_row("truncated", length, bits, whole) for length, bits in truncated.items()]
        full, ordered = truncated[longest], None
        for length in self.lengths[:-1]:
            rows.append(_row("shuffled", length, self.shuffled(length, longest), full))
            if ordered is None and rows[-1].bits <= (1 + WITHIN) * float(full.mean()):
                ordered = length
        bits, error = _mean(whole)
        near = self._least(truncated, lambda losses: float(losses.mean()) <= (1 + WITHIN) * bits)
        same = self._least(truncated, lambda losses: float((losses - whole).abs().max()) <= SAME)
        measured = {row.context for row in rows if row.kind == "truncated"}
        rows += [_row("truncated", n, truncated[n], whole) for n in truncated if n not in measured]
        what = "all of the text before" if self.carries else f"{longest:,} tokens, since the model carries no state"
        rows.sort(key=lambda row: (row.kind != "truncated", row.context))
        return Context(tuple(rows), bits, error, len(self.places), what, near, same, ordered, longest)

    def _least(self, known: dict[int, Tensor], enough: Callable[[Tensor], bool]) -> int | None:
        """Find the least context that is enough, between two neighbours of the table by bisecting."""
        lengths = sorted(known)
        first = next((length for length in lengths if enough(known[length])), None)
        if first is None:
            return None
        low = max((length for length in lengths if length < first), default=0)
        while first - low > 1:
            middle = (low + first) // 2
            if middle not in known:
                known[middle] = self.truncated(middle)
            low, first = (low, middle) if enough(known[middle]) else (middle, first)
        return first

    def truncated(self, length: int) -> Tensor:
        """Predict each token from the last ``length`` ones alone: its loss in bits, ``[tokens]``."""
        return self._read(lambda places: self._before(places, length))

    def shuffled(self, length: int, longest: int) -> Tensor:
        """Predict each token from the last ``longest`` ones, all but the last ``length`` of them in another order."""
        generator = torch.Generator().manual_seed(self.seed)

        def contexts(places: Tensor) -> Tensor:
            before = self._before(places, longest)
            far = longest - length
            order = torch.rand(len(places), far, generator=generator).argsort(1)
            return torch.cat([before[:, :far].gather(1, order), before[:, far:]], dim=1)

        return self._read(contexts)

    def streamed(self) -> Tensor:
        """Predict each token from all of the text before it, in one go."""
        losses, state, begin = [], None, 0
        inputs = torch.cat([torch.tensor([self.begin]), self.ids[:-1]])
        most = max(1, min(4096, _OUTPUTS // self.outputs))
        wanted = self.places
        while begin <= int(wanted[-1]):
            chunk = inputs[begin : begin + most].unsqueeze(0)
            outputs, state = self.model(Batch(chunk, None, torch.empty(0)), state)
            here = wanted[(wanted >= begin) & (wanted < begin + most)]
            losses.append(_bits(outputs[0, here - begin], self.ids[here]))
            begin += most
            self.tell(chunk.shape[1])
        return torch.cat(losses)

    def _before(self, places: Tensor, length: int) -> Tensor:
        return self.ids[places.unsqueeze(1) - length + torch.arange(length)]

    def _read(self, contexts: Callable[[Tensor], Tensor]) -> Tensor:
        """Read contexts, some rows at once, and give the losses of the tokens behind them."""
        losses = []
        for places in self._batches(contexts):
            inputs = contexts(places)
            losses.append(_bits(self._last(inputs), self.ids[places]))
            self.tell(inputs.numel())
        return torch.cat(losses)

    def _batches(self, contexts: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        if self.carries:
            yield from torch.split(self.places, _ROWS)
            return
        length = contexts(self.places[:1]).shape[1]
        yield from torch.split(self.places, max(1, min(_ROWS, _OUTPUTS // (length * self.outputs))))

    def _last(self, inputs: Tensor) -> Tensor:
        """Give the outputs after the last step, ``[rows, outputs]``; a model with a state reads piece by piece."""
        time = inputs.shape[1]
        most = max(1, _OUTPUTS // (len(inputs) * self.outputs)) if self.carries else time
        state: Any = None
        outputs = inputs.new_empty(0)
        for begin in range(0, time, most):
            outputs, state = self.model(Batch(inputs[:, begin : begin + most], None, torch.empty(0)), state)
        return outputs[:, -1]

    @torch.inference_mode()
    def _first(self, count: int) -> Any:
        return self.model(Batch(self.ids[:count].unsqueeze(0), None, torch.empty(0)), None)


def _bits(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.double(), targets, reduction="none") / math.log(2)


def _mean(values: Tensor) -> tuple[float, float]:
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else float("nan")
    return float(values.mean()), error


def _row(kind: Literal["truncated", "shuffled"], context: int, losses: Tensor, whole: Tensor) -> ContextRow:
    more = losses - whole
    return ContextRow(kind, context, len(losses), *_mean(losses), *_mean(more), float(more.abs().max()))


_LOOKS = {"truncated": ("#0072B2", "o", "-"), "shuffled": ("#D55E00", "s", "--")}


def write_context(found: Context, path: Path) -> None:
    """Write the rows as CSV, and the whole context as one more, which has no length."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(ContextRow))
    for row in found.rows:
        writer.writerow(_cell(getattr(row, field.name)) for field in fields(ContextRow))
    writer.writerow(["whole", "", found.tokens, _cell(found.bits), _cell(found.standard_error), "", "", ""])
    write_text(path, text.getvalue())


def _cell(value: object) -> str:
    return f"{value:.8g}" if isinstance(value, float) else str(value)


def draw_context(found: Context, title: str) -> "Figure":
    """Draw bits a token against tokens of context, with two standard errors of the difference to each side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    names = {
        "truncated": "only the last n tokens are read",
        "shuffled": f"{found.shuffled_to:,} are read, those before the last n shuffled",
    }
    for kind, (colour, marker, line) in _LOOKS.items():
        rows = [row for row in found.rows if row.kind == kind]
        where, bits = [row.context for row in rows], [row.bits for row in rows]
        errors = [2 * row.difference_error for row in rows]
        look = {"color": colour, "marker": marker, "linestyle": line, "markersize": 4.5, "capsize": 3}
        axes.errorbar(where, bits, errors, label=names[kind], **look)  # type: ignore[arg-type]  # of the line
    axes.axhline(found.bits, color="0.2", linewidth=1, label=f"whole context: {found.bits:.3f}")
    axes.axhspan(found.bits, 1.01 * found.bits, color="0.2", alpha=0.12, linewidth=0, label="within 1 %")
    if found.effective is not None:
        label = f"effective context: {found.effective:,} tokens"
        axes.axvline(found.effective, color="#009E73", linestyle=":", linewidth=1.6, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("n, tokens of context left as they are")
    axes.set_ylabel("loss (bits a token)\nbars: two standard errors of the difference", fontsize=9)
    axes.set_title(f"{title}, {found.tokens:,} tokens predicted", fontsize=10, loc="left")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure
