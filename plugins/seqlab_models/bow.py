r"""Bag of n-grams with a linear classifier, a baseline for recurrent models.

The n-grams are the nodes of a trie, found without a Python loop over items: a node's key is ``parent * radix + digit``,
the root is node 0, and the node at position ``i`` of the sorted keys is ``i + 1``. Children follow their parents, order
by order: the keys of all orders are one sorted table, and an n-gram is found by one binary search per token. Keys stay
below nodes x radix, so 64 bits suffice for any vocabulary without hashing.

Sequences are concatenated to one stream of digits: ``begin, tokens..., end, gap``. The digit of the gap is 0, which is
in no n-gram, so that n-grams stay within a sequence.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqlab import Batch, Choice, Examples, InputSpec, Model, Ragged, SearchSpace, register_export
from seqlab.errors import check_choice, check_range
from seqlab_models.exported import ExportedBag
from seqlab_models.logistic import Sparse, fit_logistic
from seqlab_models.subwords import Subwords, normalised

LONGEST = 100
Solver = Literal["lbfgs", "optimizer"]
_ROWS = 1 << 14
"""Sequences whose n-grams are counted at once."""


@final
class BagOfNgrams(Model):
    r"""N-gram counts weighted by TF-IDF, and a linear layer to the outputs.

    With :math:`f_{dg}` the count of the n-gram :math:`g` in the sequence :math:`d`, :math:`t(f) = 1 + \ln f`
    (:math:`f` without ``sublinear``), and :math:`n_g` the number of the :math:`N` training sequences that contain it,

    .. math::
        w_{dg} = t(f_{dg}) \left( \ln \frac{1 + N}{1 + n_g} + 1 \right), \quad
        o_d = s W \frac{w_d}{\lVert w_d \rVert_2} + b.

    Up to the constant :math:`s` these are the features of scikit-learn's ``TfidfVectorizer``, with ``markers`` on
    marked text. Unseen n-grams are ignored. Wang & Manning 2012 show how strong such a baseline is on short texts. With
    ``subword_order`` the n-grams of characters inside the tokens are features, too, weighted and normalised by
    themselves.

    ``solver=lbfgs`` fits multinomial logistic regression on the training split: with the weight :math:`v_d` of a
    sequence (of the task, such as ``task.balance=weights``; else 1) and its label :math:`y_d`, it minimises

    .. math::
        \tfrac12 \lVert s W \rVert^2 - C \sum_d v_d \ln \mathrm{softmax}(o_d)_{y_d}.

    Args:
        inputs: token ids.
        outputs: number of outputs.
        per_step: must be false.
        max_order: longest n-grams, including markers; null: 4 for characters, 2 for other tokens.
        markers: whether a sequence has a begin and an end marker, which are parts of n-grams; null: if its tokens are
            characters. Of words they cost accuracy where texts are short.
        min_count: minimum number of training sequences that contain an n-gram.
        scale: the factor :math:`s`, of use to ``solver=optimizer``: it multiplies the speed of the outputs at a given
            learning rate by :math:`s` (AdamW) or :math:`s^2` (SGD).
        sublinear: whether a count :math:`f` weighs :math:`1 + \ln f`.
        solver: ``lbfgs``, or ``optimizer``, which trains with ``optimizer=`` and the task's loss.
        subword_order: longest n-grams of characters inside a token and the marks ``<`` and ``>`` around it, from 2 on;
            0 for none. Unknown words have none.
        c: inverse strength :math:`C` of the penalty; null: the one of 1, 3, 10, ... with the least cross-entropy on the
            validation split.

    Raises:
        ValueError: an option is out of range, or the task is not suitable.
    """

    uses_cell = False
    added_options: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"sublinear": False, "solver": "optimizer", "c": None, "subword_order": 0, "markers": True}
    )

    @classmethod
    def search_space(cls) -> SearchSpace:
        """Return the order and least count of n-grams, and the weight of a count."""
        return {
            "max_order": Choice((None, 1, 2, 3, 5)),
            "min_count": Choice((1, 2, 3)),
            "sublinear": Choice((True, False)),
        }

    keys: Tensor
    idf: Tensor
    sublinear: Tensor

    def __init__(
        self,
        inputs: InputSpec,
        outputs: int,
        per_step: bool,
        *,
        max_order: int | None = None,
        markers: bool | None = None,
        min_count: int = 1,
        scale: float = 10.0,
        sublinear: bool = True,
        solver: Solver = "lbfgs",
        c: float | None = None,
        subword_order: int = 0,
    ) -> None:
        super().__init__()
        check_range("max_order", 1 if max_order is None else max_order, 1, LONGEST)
        check_range("min_count", min_count, 1)
        check_range("scale", scale, above=0)
        check_choice("solver", solver, Solver)
        check_range("c", 1 if c is None else c, above=0)
        if subword_order:
            check_range("subword_order", subword_order, 2, LONGEST)
            if inputs.symbols is None:
                raise ValueError(f"subword_order={subword_order} needs tokens with names, such as preprocessing=words")
        if per_step:
            raise ValueError("a bag of n-grams has one output per sequence, but this task needs one per time step")
        if inputs.kind != "tokens":
            raise ValueError(f"a bag of n-grams needs tokens, got {inputs.kind}")
        self.inputs, self.outputs = inputs, outputs
        self.max_order = default_order(inputs) if max_order is None else max_order
        self.markers = _are_characters(inputs) if markers is None else markers
        self.min_count, self.scale, self.solver, self.c = min_count, scale, solver, c
        self.subwords = Subwords(inputs.symbols, subword_order) if subword_order and inputs.symbols else None
        self.register_buffer("keys", torch.empty(0, dtype=torch.int64))
        self.register_buffer("idf", torch.empty(0))
        self.register_buffer("sublinear", torch.tensor(sublinear))
        self.weight = nn.Parameter(torch.empty(0, outputs), requires_grad=solver == "optimizer")
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=solver == "optimizer")

    def prepare(self, read: Callable[[], Ragged]) -> None:
        """Collect the n-grams of the training split and their IDF; weights and bias are zero.

        Raises:
            ValueError: no n-gram is in ``min_count`` sequences.
        """
        training_inputs = read()
        stream = mark(training_inputs.values, training_inputs.lengths, self.inputs.size)
        if not self.markers:  # no n-gram has one, so that those of a sequence are not found
            stream = stream._replace(digits=stream.digits.where(stream.digits <= self.inputs.size, 0))
        keys, counts = learn(stream, self.inputs.size, self.max_order, self.min_count)
        if not len(keys):
            total = len(training_inputs)
            raise ValueError(f"min_count={self.min_count} leaves no n-gram of the {total} sequences; set a smaller one")
        self._resize(len(keys))
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.keys.copy_(keys)
        self.idf.copy_(((1 + len(training_inputs)) / (1 + counts.double())).log() + 1)
        if self.subwords is not None:
            self.subwords.prepare(training_inputs.values, training_inputs.lengths, self.min_count)

    @torch.no_grad()
    def fit(self, train: Examples, valid: Examples, weights: Tensor | None = None) -> None:
        """Fit the weights by ``solver=lbfgs``.

        Raises:
            ValueError: a target is not the index of one label.
        """
        if self.solver == "optimizer":
            return
        if train.targets.dim() != 1 or train.targets.is_floating_point():
            raise ValueError("solver=lbfgs needs one label per sequence; set model.solver=optimizer")
        found = fit_logistic(
            (self._matrix(train.inputs), train.targets),
            (self._matrix(valid.inputs), valid.targets),
            (len(self.weight), self.outputs),
            c=self.c,
            weights=weights,
        )
        self.weight.copy_(found.weight / self.scale)
        self.bias.copy_(found.bias)

    def _matrix(self, inputs: Any) -> Sparse:
        """Return the features of all sequences ``[sequences, n-grams]``."""
        parts = []
        for rows in torch.split(torch.arange(len(inputs)), _ROWS):
            part = inputs.take(rows)
            parts.append(self._weigh(part.values, part.lengths))
        return Sparse(*map(torch.cat, zip(*parts, strict=True)))

    def forward(self, batch: Batch, state: Any = None) -> tuple[Tensor, None]:
        """Return the outputs ``[batch, outputs]``; there is no state.

        Raises:
            ValueError: neither :meth:`prepare` nor ``load_state_dict`` has run.
        """
        index, weights, sizes = self.features(batch)
        offsets = sizes.cumsum(0) - sizes
        weights = self.scale * weights
        outputs = nn.functional.embedding_bag(index, self.weight, offsets, mode="sum", per_sample_weights=weights)
        return outputs + self.bias, None

    @torch.no_grad()
    def features(
        self, batch: Batch
    ) -> tuple[Int[Tensor, " entries"], Float[Tensor, " entries"], Int[Tensor, " batch"]]:
        """Return the weighted n-grams of a batch.

        Returns:
            Row by row, the position of each n-gram in ``keys`` and its weight in the normalised row; and the number of
            n-grams in each row.
        """
        if not len(self.keys):
            raise ValueError("a bag of n-grams is empty until prepare or load_state_dict has run")
        ids, lengths = batch.inputs, batch.lengths
        rows, time = ids.shape
        if lengths is None:
            return self._weigh(ids.flatten(), ids.new_full((rows,), time))
        return self._weigh(ids[torch.arange(time, device=ids.device) < lengths.unsqueeze(1)], lengths)

    def _weigh(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what :meth:`features` does for concatenated sequences."""
        stream = mark(values, lengths, self.inputs.size)
        row, index, times = count(self.keys, stream, self.inputs.size, self.max_order)
        weights = normalised(row, self._tfidf(times, self.idf[index]), len(lengths))
        if self.subwords is not None:
            rows, indices, times = self.subwords.count(values, lengths)
            further = normalised(rows, self._tfidf(times, self.subwords.idf[indices]), len(lengths))
            row, order = torch.cat([row, rows]).sort(stable=True)
            index = torch.cat([index, len(self.keys) + indices])[order]
            weights = torch.cat([weights, further])[order]
        return index, weights, torch.bincount(row, minlength=len(lengths))

    def _tfidf(self, times: Tensor, idf: Tensor) -> Tensor:
        return (1 + times.to(idf.dtype).log() if bool(self.sublinear) else times) * idf

    def exported(self) -> ExportedBag:
        """Return a module of the same outputs whose sizes do not depend on the input.

        Raises:
            ValueError: neither :meth:`prepare` nor ``load_state_dict`` has run.
        """
        if not len(self.keys):
            raise ValueError("a bag of n-grams is empty until prepare or load_state_dict has run")
        weight = self.scale * self.weight
        tables = {"keys": self.keys, "idf": self.idf, "weight": weight[: len(self.keys)], "bias": self.bias}
        if self.subwords is not None:
            tables |= {"subwords": self.subwords.padded(), "subword_idf": self.subwords.idf}
            tables["subword_weight"] = weight[len(self.keys) :]
        return ExportedBag(tables, self.inputs.size, self.max_order, bool(self.sublinear))

    def _resize(self, size: int) -> None:
        """Allocate the tables; a weight of the right size is kept, since an optimiser may hold it."""
        if size == len(self.keys):
            return
        self.keys = self.keys.new_empty(size)
        self.idf = self.idf.new_empty(size)
        rows = size + self._subword_count
        self.weight = nn.Parameter(self.weight.new_empty(rows, self.outputs), self.weight.requires_grad)

    @property
    def _subword_count(self) -> int:
        return 0 if self.subwords is None else len(self.subwords)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Allocate the tables for the loaded number of n-grams, after checking them."""
        names = ("keys", "idf", "weight", "bias")
        given = {name: state_dict[prefix + name] for name in names if prefix + name in state_dict}
        if "keys" in given:
            _check_state(given, self.outputs, self._subword_count)
            self._resize(len(given["keys"]))
            # Before version 0.2, counts were not damped.
            state_dict.setdefault(f"{prefix}sublinear", torch.tensor(False))
        super()._load_from_state_dict(state_dict, prefix, *rest)


register_export(BagOfNgrams, BagOfNgrams.exported)


def default_order(inputs: InputSpec) -> int:
    """Return the longest n-grams by default: 4 for characters and unnamed tokens, 2 for words and their parts."""
    return 4 if _are_characters(inputs) else 2


def _are_characters(inputs: InputSpec) -> bool:
    """Return whether most tokens are single characters, or have no names."""
    lengths = [len(symbol) for symbol in inputs.symbols or ("",)]
    return sum(length <= 1 for length in lengths) * 2 > len(lengths)


def _check_state(given: dict[str, Tensor], outputs: int, subwords: int) -> None:
    keys = given["keys"]
    if keys.dtype != torch.int64 or keys.dim() != 1 or not bool((keys[1:] > keys[:-1]).all()):
        raise ValueError(f"keys must be an ascending list of torch.int64, got {keys.dtype} {list(keys.shape)}")
    shapes = {"keys": [len(keys)], "idf": [len(keys)], "bias": [outputs]}
    shapes["weight"] = [len(keys) + subwords, outputs]
    for name, tensor in given.items():
        if list(tensor.shape) != shapes[name]:
            raise ValueError(f"{name} must have the shape {shapes[name]}, got {list(tensor.shape)}")
        if name != "keys" and not tensor.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {tensor.dtype}")


@final
class Stream(NamedTuple):
    """Concatenated sequences.

    Attributes:
        digits: of each place ``[places]``: token id + 1, a marker, or 0 for a gap.
        rows: the sequence of each place ``[places]``.
    """

    digits: Int[Tensor, " places"]
    rows: Int[Tensor, " places"]


def radix(size: int) -> int:
    """Return the number of digits: token ids, the two markers and the gap."""
    return size + 3


def mark(values: Int[Tensor, " total"], lengths: Int[Tensor, " rows"], size: int) -> Stream:
    """Concatenate sequences with markers around and gaps between them.

    Args:
        values: the token ids of all sequences, each less than ``size``.
        lengths: steps of each sequence.
        size: number of token ids.
    """
    numbers = torch.arange(len(lengths), device=lengths.device)
    widths = lengths + 3
    starts = widths.cumsum(0) - widths
    digits = values.new_zeros(len(values) + 3 * len(lengths))
    # Before a sequence's tokens are its begin marker and three extra places for each earlier sequence.
    places = torch.arange(len(values), device=values.device) + (3 * numbers + 1).repeat_interleave(lengths)
    digits[places] = values + 1
    digits[starts] = size + 1
    digits[starts + lengths + 1] = size + 2
    return Stream(digits, numbers.repeat_interleave(widths))


def learn(
    stream: Stream, size: int, max_order: int, min_count: int
) -> tuple[Int[Tensor, " nodes"], Int[Tensor, " nodes"]]:
    """Collect the n-grams of orders 1 to ``max_order`` that are in at least ``min_count`` sequences.

    Returns:
        The sorted keys of the trie's nodes, and the number of sequences with each.
    """
    digits, rows = stream
    nodes = torch.zeros_like(digits)
    keys, counts, known = [], [], 0
    sequences = int(rows[-1]) + 1 if len(rows) else 0
    for order in range(1, max_order + 1):
        places = len(digits) - order + 1
        digit = digits[order - 1 :]
        valid = ((nodes[:places] >= 0) & (digit > 0)).nonzero().squeeze(1)
        new, which = torch.unique(nodes[valid] * radix(size) + digit[valid], return_inverse=True)
        # Count each pair of n-gram and sequence once.
        count = torch.bincount(torch.unique(which * sequences + rows[valid]) // max(1, sequences), minlength=len(new))
        kept = count >= min_count
        if not bool(kept.any()):
            break
        nodes = torch.full_like(digit, -1)
        nodes[valid] = torch.where(kept, known + kept.cumsum(0), -1)[which]
        keys.append(new[kept])
        counts.append(count[kept])
        known += len(keys[-1])
    empty = digits.new_empty(0)
    return torch.cat([empty, *keys]), torch.cat([empty, *counts])


def count(
    keys: Int[Tensor, " nodes"], stream: Stream, size: int, max_order: int
) -> tuple[Int[Tensor, " entries"], Int[Tensor, " entries"], Int[Tensor, " entries"]]:
    """Count the known n-grams of each sequence.

    Args:
        keys: of :func:`learn`; not empty.
        stream: the sequences.
        size: number of token ids.
        max_order: the longest n-grams.

    Returns:
        For each n-gram of each sequence, ordered by sequence, then n-gram: the sequence, the n-gram's position in
        ``keys``, and its count.
    """
    digits, rows = stream
    nodes = torch.zeros_like(digits)
    pairs = [digits.new_empty(0)]
    for order in range(1, max_order + 1):
        places = len(digits) - order + 1
        if places < 1:
            break
        key = nodes[:places] * radix(size) + digits[order - 1 :]
        place = torch.searchsorted(keys, key).clamp_(max=len(keys) - 1)
        hit = keys[place] == key
        nodes = torch.where(hit, place + 1, -1)
        pairs.append((rows[:places] * len(keys) + place)[hit])
    entries, times = torch.unique(torch.cat(pairs), return_counts=True)
    return entries // len(keys), entries % len(keys), times
