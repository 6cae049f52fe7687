"""Multinomial logistic regression on sparse features, by full-batch L-BFGS."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

log = logging.getLogger("seqlab")

_GRID = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Inverse penalties to try; the search begins in the middle."""
_STEPS, _TOLERANCE = 60, 1e-5
_HISTORY = 10
"""Pairs of steps that L-BFGS keeps, each as large as the weights."""


@final
class Sparse(NamedTuple):
    """Sparse matrix by rows.

    Attributes:
        columns: column of each entry, row by row.
        values: of the entries.
        sizes: number of entries of each row.
    """

    columns: Int[Tensor, " entries"]
    values: Float[Tensor, " entries"]
    sizes: Int[Tensor, " rows"]

    def __matmul__(self, other: Tensor) -> Tensor:
        """Multiply with a dense matrix ``[columns, n]``."""
        offsets = self.sizes.cumsum(0) - self.sizes
        return F.embedding_bag(self.columns, other, offsets, mode="sum", per_sample_weights=self.values)

    def transposed(self, width: int) -> "Sparse":
        """Return the transposed matrix, given the number of columns of this one."""
        rows = torch.repeat_interleave(torch.arange(len(self.sizes)), self.sizes)
        order = self.columns.argsort(stable=True)
        return Sparse(rows[order], self.values[order], torch.bincount(self.columns, minlength=width))


@final
@dataclass(frozen=True)
class Logistic:
    """Fitted classifier: the scores before softmax are ``features @ weight + bias``.

    Attributes:
        weight: ``[features, classes]``.
        bias: ``[classes]``.
        c: inverse strength of the penalty.
        loss: cross-entropy on the validation split.
    """

    weight: Tensor
    bias: Tensor
    c: float
    loss: float


Labelled = tuple[Sparse, Tensor]
"""Features and the class of each example ``[examples]``."""


def fit_logistic(
    train: Labelled,
    valid: Labelled,
    shape: tuple[int, int],
    *,
    c: float | None = None,
    weights: Tensor | None = None,
) -> Logistic:
    r"""Minimise :math:`\tfrac12 \lVert W \rVert^2 - C \sum_i v_i \ln \mathrm{softmax}(x_i W + b)_{y_i}`.

    The bias is not penalised. L-BFGS ends after 60 steps at the latest, and each ``c`` starts where the one before it
    ended. scikit-learn's ``LogisticRegression`` has the same objective for three classes and more; of two it has one
    vector, whose ``C`` is twice this one.

    Args:
        train: examples to fit on.
        valid: examples to choose ``c`` on: by their cross-entropy, each with the mean weight of its class.
        shape: number of features and of classes.
        c: :math:`C`; ``None`` chooses it.
        weights: :math:`v` of the training examples, scaled to a mean of 1; ``None``: all 1.
    """
    weights = torch.ones(len(train[1])) if weights is None else weights / weights.mean()
    objective = _Objective(train, weights, shape)
    totals = torch.zeros(shape[1], dtype=torch.float64).index_add(0, train[1], weights.double())
    class_weights = totals / torch.bincount(train[1], minlength=shape[1]).clamp(min=1)

    def fit(value: float) -> Logistic:
        weight, bias = objective.minimise(value)
        loss = _cross_entropy(valid[0] @ weight + bias, valid[1], class_weights)
        return Logistic(weight, bias, value, loss)

    with _one_thread():
        best = _search(fit) if c is None else fit(c)
    log.info("logistic regression: C=%g, validation cross-entropy %.4f", best.c, best.loss)
    return best


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: a step takes milliseconds, and would wait for a second thread on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _cross_entropy(outputs: Tensor, targets: Tensor, class_weights: Tensor) -> float:
    importance = class_weights.double()[targets]
    losses = F.cross_entropy(outputs.double(), targets, reduction="none") * importance
    return float(losses.sum() / importance.sum())


def _search(fit: Callable[[float], Logistic]) -> Logistic:
    """Return the classifier of least loss: go from the middle of the grid to larger values, else to smaller ones."""
    middle = len(_GRID) // 2 - 1
    first = best = fit(_GRID[middle])
    for values in (_GRID[middle + 1 :], _GRID[middle - 1 :: -1]):
        for value in values:
            if (found := fit(value)).loss >= best.loss:
                break
            best = found
        if best is not first:
            break
    return best


@final
class _Objective:
    """The objective over the number of examples, with its gradient; it keeps the last minimum."""

    def __init__(self, train: Labelled, weights: Tensor, shape: tuple[int, int]) -> None:
        self.features, self.targets = train
        self.transposed = self.features.transposed(shape[0])
        self.weights = weights.to(self.features.values.dtype)
        self.parameters = self.features.values.new_zeros(shape[0] + 1, shape[1])  # the bias is the last row
        self.parameters.requires_grad_()

    def minimise(self, c: float) -> tuple[Tensor, Tensor]:
        """Return weight and bias."""
        total, decay = self.weights.sum(), 1 / (c * len(self.targets))
        optimizer = torch.optim.LBFGS(
            [self.parameters],
            max_iter=_STEPS,
            history_size=_HISTORY,
            tolerance_grad=_TOLERANCE,
            line_search_fn="strong_wolfe",
        )

        @torch.no_grad()
        def evaluate() -> Tensor:
            weight, bias = self.parameters[:-1], self.parameters[-1]
            logs = (self.features @ weight + bias).log_softmax(1)
            losses = -logs.gather(1, self.targets.unsqueeze(1)).squeeze(1)
            slope = logs.exp()
            slope[torch.arange(len(slope)), self.targets] -= 1
            slope *= (self.weights / total).unsqueeze(1)
            gradient = self.transposed @ slope + decay * weight
            self.parameters.grad = torch.cat([gradient, slope.sum(0, keepdim=True)])
            return (losses * self.weights).sum() / total + decay / 2 * weight.square().sum()

        optimizer.step(evaluate)  # type: ignore[no-untyped-call]  # torch's own
        found = self.parameters.detach().clone()
        return found[:-1], found[-1]
