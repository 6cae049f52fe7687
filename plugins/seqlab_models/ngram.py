"""Counts of n-grams: the opponent of a language model that learns."""

from collections.abc import Callable
from typing import Any, Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seqlab import Batch, InputSpec, Model, Ragged, register_export
from seqlab_models import kneser_ney
from seqlab_models.history import extend
from seqlab_models.ngram_counts import count

LONGEST = 100
SMOOTHING = ("kneser-ney", "none")
TINY = torch.finfo(torch.float32).tiny
"""The probability 1.2e-38 that stands for zero, so that logarithms are finite."""


@final
class NGram(Model):
    r"""The next token's probability after the last ``order`` - 1 tokens, from counts of the training split.

    With :math:`h` the context, :math:`h'` the same without its first token, and :math:`c` how often an n-gram occurs,
    ``smoothing=kneser-ney`` is interpolated Kneser-Ney with three discounts an order (Chen & Goodman 1999):

    .. math::
        P(w | h) = \frac{\max(a(hw) - D(a(hw)), 0)}{\sum_v a(hv)} + γ(h) P(w | h'), \quad
        P(w) = \frac{\max(a(w) - D(a(w)), 0)}{\sum_v a(v)} + γ \frac{1}{V},

    where :math:`a = c` in the highest order and, in those below, the number of distinct tokens that were seen before
    the n-gram; :math:`D` comes from the counts of counts of each order (:func:`seqlab_models.kneser_ney.discounts`),
    :math:`γ` is what it leaves, and :math:`V` counts the vocabulary without the padding. ``smoothing=none`` is

    .. math:: P(w | h) = c(hw) / c(h)

    with :math:`h` cut to its longest ending that was seen with a token after it: what did not follow that has the
    probability 1.2e-38, which stands for zero.

    At the beginning of a stream contexts are as short as what there is. The model has no parameters: :meth:`prepare`
    counts, and the tables are saved like weights.

    Args:
        inputs: token ids.
        outputs: number of outputs, which must be the number of token ids.
        per_step: must be true.
        order: the longest n-grams, the predicted token included.
        smoothing: ``kneser-ney`` or ``none``.
        reset: a symbol at which contexts begin anew, such as ``<eos>``; then nothing before it is looked at, which is
            how toolkits that read one sentence at a time count (n-grams that begin with it keep their own counts).
            Empty for a stream, whose contexts cross it.

    Raises:
        ValueError: an option is out of its range, or the task does not predict the next token.
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
        smoothing: Literal["kneser-ney", "none"] = "kneser-ney",
        reset: str = "",
    ) -> None:
        super().__init__()
        if order < 1:
            raise ValueError(f"order is {order}; it must be at least 1")
        if order > LONGEST:
            raise ValueError(f"order is {order}; it may be {LONGEST} at most")
        if smoothing not in SMOOTHING:
            raise ValueError(f"smoothing is {smoothing}; it must be one of {', '.join(SMOOTHING)}")
        if inputs.kind != "tokens":
            raise ValueError(f"an n-gram model counts tokens, and this task's inputs are {inputs.kind}")
        if not per_step:
            raise ValueError(
                "an n-gram model predicts the token after each time step, and this task wants one output a sequence; "
                "model=bow counts n-grams for that"
            )
        if outputs != inputs.size:
            raise ValueError(
                f"an n-gram model has one output a token id, {inputs.size}, and this task has {outputs} outputs; "
                "it is for tasks that predict the next token, such as task=lm"
            )
        self.inputs, self.order, self.smoothing = inputs, order, smoothing
        self.reset = _token(inputs, reset) if reset else None
        self.register_buffer("keys", torch.empty(0, dtype=torch.int64))
        self.register_buffer("alpha", torch.empty(0))
        self.register_buffer("gamma", torch.empty(0))
        self.register_buffer("unigram", torch.empty(0))

    def prepare(self, read: Callable[[], Ragged]) -> None:
        """Count the training split.

        Raises:
            ValueError: it has no tokens, or a token id that the vocabulary does not have.
        """
        trie, counts = count(read(), self.inputs.size, self.order, self.reset)
        if self.smoothing == "none":
            tables = kneser_ney.relative(trie, counts)
        else:
            tables = kneser_ney.smoothed(trie, counts, self.reset)
        self.keys = torch.from_numpy(tables.keys).to(self.keys)
        self.alpha = torch.from_numpy(tables.alpha).to(self.alpha)
        self.gamma = torch.from_numpy(tables.gamma).to(self.gamma)
        self.unigram = torch.from_numpy(tables.unigram).to(self.unigram)

    @torch.no_grad()
    def forward(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
        """Compute the log-probabilities ``[batch, time, outputs]``.

        Args:
            batch: token ids ``[batch, time]``.
            state: the last tokens of each row, as this method returned them; ``None`` to begin anew.

        Raises:
            ValueError: neither :meth:`prepare` nor ``load_state_dict`` ran before, or the state is another batch's.
        """
        if not len(self.keys):
            raise ValueError("an n-gram model knows none before prepare or load_state_dict ran")
        known, state = extend(batch, state, max(0, self.order - 2))
        rows, time = batch.inputs.shape
        probabilities = self._probabilities(self._contexts(known, time), rows * time)
        outputs = probabilities.clamp_(min=TINY).log_().view(rows, time, self.inputs.size)
        return outputs, state if self.carries_state else None

    def _contexts(self, known: Int[Tensor, "batch known"], time: int) -> list[Int[Tensor, " places"]]:
        """Find the nodes of the last 1, 2, ... tokens of each time step; -1 where that context was not seen."""
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
        """Scale the unigrams by all back-off weights, and add what each longer context has seen after it."""
        size = self.inputs.size
        first = torch.arange(count, device=self.keys.device) * size  # where each place's outputs begin
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
        made = scale.unsqueeze(1) * self.unigram
        for index, values in reversed(terms):
            made.view(-1).scatter_add_(0, index, values)  # no index occurs twice in one order
        return made

    def state_size(self) -> int:
        """Count the tokens before the current one that are looked at."""
        return max(0, self.order - 2)

    def unexportable(self) -> str:
        """Say that the n-grams are found in a table, whose rows are as many as the input has known n-grams."""
        return "it looks up the n-grams of each input in a table, so that which operations it runs depends on the input"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take the sizes of the tables from what is loaded, once that is known to be sound."""
        names = ("keys", "alpha", "gamma", "unigram")
        given = {name: state_dict[prefix + name] for name in names if prefix + name in state_dict}
        if len(given) == len(names):
            _check_tables(given, self.inputs.size)
            for name, tensor in given.items():
                setattr(self, name, getattr(self, name).new_empty(tensor.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


register_export(NGram, NGram.unexportable)


def _token(inputs: InputSpec, symbol: str) -> int:
    if inputs.symbols is None:
        raise ValueError(f"reset is {symbol!r}, and this preprocessing does not say what its token ids stand for")
    if symbol not in inputs.symbols:
        raise ValueError(f"reset is {symbol!r}, which is no symbol of the vocabulary; leave it empty for a stream")
    return inputs.symbols.index(symbol)


def _check_tables(given: dict[str, Tensor], size: int) -> None:
    keys = given["keys"]
    if keys.dtype != torch.int64 or keys.dim() != 1 or not len(keys) or not bool((keys[1:] > keys[:-1]).all()):
        raise ValueError(f"keys is {keys.dtype} {list(keys.shape)}; it must be an ascending table of torch.int64")
    # Every context that has a follower needs a weight.
    contexts = max(int(keys[-1]) // size, given["gamma"].numel())
    shapes = {"alpha": [len(keys)], "gamma": [contexts], "unigram": [size]}
    for name, shape in shapes.items():
        if list(given[name].shape) != shape:
            raise ValueError(f"{name} is {list(given[name].shape)}; it must be {shape}")
        if not given[name].is_floating_point():
            raise ValueError(f"{name} is {given[name].dtype}; it must be floating point")
