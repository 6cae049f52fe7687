"""N-gram language model, a baseline for neural ones."""

from collections.abc import Callable
from typing import Any, Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seqlab import Batch, InputSpec, Model, Ragged, register_export
from seqlab.errors import check_choice, check_range
from seqlab_models import kneser_ney
from seqlab_models.exported import ExportedNGram
from seqlab_models.inputs import with_history

LONGEST = 100
Smoothing = Literal["kneser-ney", "none"]
TINY = torch.finfo(torch.float32).tiny
"""The probability 1.2e-38 instead of zero, for finite logarithms."""


@final
class NGram(Model):
    r"""Probability of the next token after the last ``order`` - 1 tokens, from counts of the training split.

    With :math:`h` the context, :math:`h'` the context without its first token, and :math:`c` the count of an n-gram,
    ``smoothing=kneser-ney`` is interpolated Kneser-Ney with three discounts an order (Chen & Goodman 1999):

    .. math::
        P(w | h) = \frac{\max(a(hw) - D(a(hw)), 0)}{\sum_v a(hv)} + γ(h) P(w | h'), \quad
        P(w) = \frac{\max(a(w) - D(a(w)), 0)}{\sum_v a(v)} + γ \frac{1}{V},

    where :math:`a = c` in the highest order and, below it, the number of distinct tokens before the n-gram; :math:`D`
    depends on the counts of counts of each order (:func:`seqlab_models.kneser_ney.discounts`), :math:`γ` is the
    remaining probability, and :math:`V` the vocabulary size without the padding. ``smoothing=none`` is

    .. math:: P(w | h) = c(hw) / c(h)

    with :math:`h` shortened to its longest suffix that has a follower in training; tokens that never followed it have
    the probability 1.2e-38 instead of zero.

    Contexts are shorter at the start of a stream. The model has no parameters: :meth:`prepare` counts, and the tables
    are saved like weights.

    Args:
        inputs: token ids.
        outputs: number of outputs, which must be the number of token ids.
        per_step: must be true.
        order: longest n-grams, including the predicted token.
        smoothing: ``kneser-ney`` or ``none``.
        reset: a symbol that resets the context, such as ``<eos>``, as in toolkits that read one sentence at a time
            (n-grams that start with it keep their own counts). Empty for a stream without resets.

    Raises:
        ValueError: an option is out of range, or the task does not predict the next token.
    """

    uses_cell = False

    keys: Tensor
    alpha: Tensor
    gamma: Tensor
    unigram: Tensor

    def __init__(
        self,
        inputs: InputSpec,
        outputs: int,
        per_step: bool,
        *,
        order: int = 5,
        smoothing: Smoothing = "kneser-ney",
        reset: str = "",
    ) -> None:
        super().__init__()
        check_range("order", order, 1, LONGEST)
        check_choice("smoothing", smoothing, Smoothing)
        if inputs.kind != "tokens":
            raise ValueError(f"an n-gram model needs tokens, got {inputs.kind}")
        if not per_step:
            raise ValueError("an n-gram model predicts each next token, not one output per sequence; use model=bow")
        if outputs != inputs.size:
            raise ValueError(
                f"an n-gram model needs a task that predicts the next token, such as task=lm: it has {inputs.size}"
                f" outputs, the task {outputs}"
            )
        self.inputs, self.order, self.smoothing = inputs, order, smoothing
        self.reset = _token(inputs, reset) if reset else None
        self.register_buffer("keys", torch.empty(0, dtype=torch.int64))
        for name in ("alpha", "gamma", "unigram"):
            self.register_buffer(name, torch.empty(0))

    def prepare(self, read: Callable[[], Ragged]) -> None:
        """Count the training split.

        Raises:
            ValueError: it has no tokens, or a token id out of range.
        """
        trie, counts = kneser_ney.count(read(), self.inputs.size, self.order, self.reset)
        if self.smoothing == "none":
            tables = kneser_ney.relative(trie, counts)
        else:
            tables = kneser_ney.smoothed(trie, counts, self.reset)
        for name in ("keys", "alpha", "gamma", "unigram"):
            setattr(self, name, torch.from_numpy(getattr(tables, name)).to(getattr(self, name)))

    @torch.no_grad()
    def forward(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
        """Return the log-probabilities ``[batch, time, outputs]``.

        Raises:
            ValueError: neither :meth:`prepare` nor ``load_state_dict`` has run, or the state has other rows.
        """
        if not len(self.keys):
            raise ValueError("an n-gram model is empty until prepare or load_state_dict has run")
        known, state = with_history(batch, state, max(0, self.order - 2))
        rows, time = batch.inputs.shape
        probabilities = self._probabilities(self._contexts(known, time), rows * time)
        outputs = probabilities.clamp_(min=TINY).log_().view(rows, time, self.inputs.size)
        return outputs, state if self.carries_state else None

    def _contexts(self, known: Int[Tensor, "batch known"], time: int) -> list[Int[Tensor, " places"]]:
        """Return the nodes of the last 1, 2, ... tokens of each time step; -1 for unseen contexts."""
        nodes = torch.zeros_like(known)
        found: list[Tensor] = []
        for _ in range(self.order - 1):
            # The last k tokens are the k - 1 of the step before, and one more.
            before = nodes if not found else torch.nn.functional.pad(nodes[:, :-1], (1, 0), value=-1)
            key = before * self.inputs.size + known
            place = torch.searchsorted(self.keys, key).clamp_(max=len(self.keys) - 1)
            nodes = torch.where((self.keys[place] == key) & (before >= 0), place + 1, -1)
            found.append(nodes[:, known.shape[1] - time :].flatten())
        return found

    def _probabilities(self, contexts: list[Int[Tensor, " places"]], count: int) -> Float[Tensor, "places outputs"]:
        """Return the unigrams times all back-off weights, plus the followers of each longer context."""
        size = self.inputs.size
        first = torch.arange(count, device=self.keys.device) * size  # start of each position's outputs
        scale = self.unigram.new_ones(count)
        terms = []
        for nodes in reversed(contexts):
            low, high = torch.searchsorted(self.keys, torch.stack([nodes, nodes + 1]) * size)
            children = high - low
            total = int(children.sum())
            child = torch.repeat_interleave(low - children.cumsum(0) + children, children, output_size=total)
            child += torch.arange(total, device=child.device)
            # A key without its parent is a token.
            index = torch.repeat_interleave(first - nodes * size, children, output_size=total)
            index += self.keys.index_select(0, child)
            values = torch.repeat_interleave(scale, children, output_size=total)
            values *= self.alpha.index_select(0, child)
            terms.append((index, values))
            scale = torch.where(nodes > 0, scale * self.gamma[(nodes - 1).clamp(min=0)], scale)
        outputs = scale.unsqueeze(1) * self.unigram
        for index, values in reversed(terms):
            outputs.view(-1).scatter_add_(0, index, values)  # indices are unique in one order
        return outputs

    def state_size(self) -> int:
        """Return the number of tokens before the current one."""
        return max(0, self.order - 2)

    def exported(self) -> ExportedNGram:
        """Return a module of the same outputs that can be traced; each sequence is a stream of its own.

        Raises:
            ValueError: neither :meth:`prepare` nor ``load_state_dict`` has run.
        """
        if not len(self.keys):
            raise ValueError("an n-gram model is empty until prepare or load_state_dict has run")
        tables = {name: getattr(self, name) for name in ("keys", "alpha", "gamma", "unigram")}
        return ExportedNGram(tables, self.order, TINY)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Allocate the tables for the loaded sizes, after checking them."""
        names = ("keys", "alpha", "gamma", "unigram")
        given = {name: state_dict[prefix + name] for name in names if prefix + name in state_dict}
        if len(given) == len(names):
            _check_tables(given, self.inputs.size)
            for name, tensor in given.items():
                setattr(self, name, getattr(self, name).new_empty(tensor.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


register_export(NGram, NGram.exported)


def _token(inputs: InputSpec, symbol: str) -> int:
    if inputs.symbols is None:
        raise ValueError(f"reset={symbol!r} needs a preprocessing with known symbols")
    if symbol not in inputs.symbols:
        raise ValueError(f"reset must be a symbol of the vocabulary or empty, got {symbol!r}")
    return inputs.symbols.index(symbol)


def _check_tables(given: dict[str, Tensor], size: int) -> None:
    keys = given["keys"]
    if keys.dtype != torch.int64 or keys.dim() != 1 or not len(keys) or not bool((keys[1:] > keys[:-1]).all()):
        raise ValueError(f"keys must be an ascending list of torch.int64, got {keys.dtype} {list(keys.shape)}")
    # Every context with a follower needs a weight.
    contexts = max(int(keys[-1]) // size, given["gamma"].numel())
    shapes = {"alpha": [len(keys)], "gamma": [contexts], "unigram": [size]}
    for name, shape in shapes.items():
        if list(given[name].shape) != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {list(given[name].shape)}")
        if not given[name].is_floating_point():
            raise ValueError(f"{name} must be floating point, got {given[name].dtype}")
