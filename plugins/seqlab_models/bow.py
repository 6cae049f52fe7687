"""A bag of n-grams and a linear layer: the opponent that a recurrent model has to beat."""

import math
from collections.abc import Callable
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqlab import Batch, InputSpec, Model, Ragged, register_export
from seqlab_models import ngrams

LONGEST = 100


@final
class BagOfNgrams(Model):
    r"""N-gram counts weighted by TF-IDF, and a linear layer from them to the outputs; it knows no order beyond n.

    With :math:`f_{dg}` how often the n-gram :math:`g` occurs in the sequence :math:`d` between a begin and an end
    marker, and :math:`n_g` in how many of the :math:`N` training sequences it occurs,

    .. math::
        w_{dg} = f_{dg} \left( \ln \frac{1 + N}{1 + n_g} + 1 \right), \quad
        o_d = s W \frac{w_d}{\lVert w_d \rVert_2} + b.

    Up to the constant :math:`s` these are the features of scikit-learn's ``TfidfVectorizer`` on marked text. N-grams
    that training has not seen are left out. :math:`W` and :math:`b` start at zero, so that nothing is drawn at random.
    How strong such a baseline is where texts are short: Wang & Manning 2012.

    Args:
        inputs: token ids; characters or words, whatever the preprocessing makes.
        outputs: number of outputs.
        per_step: must be false.
        max_order: n-grams of 1 to this many tokens, markers included.
        min_count: leave out n-grams that occur in fewer training sequences.
        scale: the factor :math:`s`. At a given learning rate the outputs move :math:`s` times (AdamW) or :math:`s^2`
            times (SGD) as fast; 10 makes the rates that suit recurrent models suit this one.

    Raises:
        ValueError: an option is out of its range, or the task is not one for a bag of n-grams.
    """

    uses_cell = False

    keys: Tensor
    idf: Tensor

    def __init__(
        self,
        inputs: InputSpec,
        outputs: int,
        per_step: bool,
        *,
        max_order: int = 4,
        min_count: int = 1,
        scale: float = 10.0,
    ) -> None:
        super().__init__()
        for name, value in (("max_order", max_order), ("min_count", min_count)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if max_order > LONGEST:
            raise ValueError(f"max_order is {max_order}; it may be {LONGEST} at most")
        if not 0 < scale < math.inf:
            raise ValueError(f"scale is {scale}; it must be greater than 0")
        if per_step:
            raise ValueError("a bag of n-grams gives one output a sequence, and this task wants one a time step")
        if inputs.kind != "tokens":
            raise ValueError(f"a bag of n-grams counts tokens, and this task's inputs are {inputs.kind}")
        self.inputs, self.outputs = inputs, outputs
        self.max_order, self.min_count, self.scale = max_order, min_count, scale
        self.register_buffer("keys", torch.empty(0, dtype=torch.int64))
        self.register_buffer("idf", torch.empty(0))
        self.weight = nn.Parameter(torch.empty(0, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def prepare(self, read: Callable[[], Ragged]) -> None:
        """Gather the n-grams of the training split and how rare each is; nothing is learned of them yet.

        Raises:
            ValueError: no n-gram occurs in ``min_count`` sequences.
        """
        training_inputs = read()
        stream = ngrams.stream(training_inputs.values, training_inputs.lengths, self.inputs.size)
        keys, counts = ngrams.learn(stream, self.inputs.size, self.max_order, self.min_count)
        if not len(keys):
            raise ValueError(
                f"min_count is {self.min_count}; no n-gram occurs in so many of the {len(training_inputs)} sequences"
            )
        self._resize(len(keys))
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.keys.copy_(keys)
        self.idf.copy_(((1 + len(training_inputs)) / (1 + counts.double())).log() + 1)

    def forward(self, batch: Batch, state: Any = None) -> tuple[Tensor, None]:
        """Compute the outputs ``[batch, outputs]``; there is no state.

        Raises:
            ValueError: neither :meth:`prepare` nor ``load_state_dict`` ran before.
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
        """Weight the known n-grams of a batch.

        Returns:
            Row after row, the place of each n-gram in ``keys`` and its weight in the normalised row; and how many
            n-grams each row has.
        """
        if not len(self.keys):
            raise ValueError("a bag of n-grams knows none before prepare or load_state_dict ran")
        ids, lengths = batch.inputs, batch.lengths
        rows, time = ids.shape
        if lengths is None:
            values, lengths = ids.flatten(), ids.new_full((rows,), time)
        else:
            values = ids[torch.arange(time, device=ids.device) < lengths.unsqueeze(1)]
        stream = ngrams.stream(values, lengths, self.inputs.size)
        row, index, times = ngrams.count(self.keys, stream, self.inputs.size, self.max_order)
        weights = times * self.idf[index]
        sizes = torch.bincount(row, minlength=rows)
        # Summed over segments: bit-identical on every device, where adding at an index is not.
        norms = torch.segment_reduce(weights.square(), "sum", lengths=sizes, unsafe=True).sqrt()
        return index, weights / norms[row], sizes

    def unexportable(self) -> str:
        """Say that the n-grams are found in a table, whose rows are as many as the input has known n-grams."""
        return "it looks up the n-grams of each input in a table, so that which operations it runs depends on the input"

    def _resize(self, size: int) -> None:
        """Make room for so many n-grams; a linear layer that fits stays, since an optimiser may hold it."""
        if size == len(self.keys):
            return
        self.keys = self.keys.new_empty(size)
        self.idf = self.idf.new_empty(size)
        self.weight = nn.Parameter(self.weight.new_empty(size, self.outputs))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take the number of n-grams from what is loaded, once that is known to be sound."""
        names = ("keys", "idf", "weight", "bias")
        given = {name: state_dict[prefix + name] for name in names if prefix + name in state_dict}
        if "keys" in given:
            _check_state(given, self.outputs)
            self._resize(len(given["keys"]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


register_export(BagOfNgrams, BagOfNgrams.unexportable)


def _check_state(given: dict[str, Tensor], outputs: int) -> None:
    keys = given["keys"]
    if keys.dtype != torch.int64 or keys.dim() != 1 or not bool((keys[1:] > keys[:-1]).all()):
        raise ValueError(f"keys is {keys.dtype} {list(keys.shape)}; it must be an ascending table of torch.int64")
    shapes = {"keys": [len(keys)], "idf": [len(keys)], "weight": [len(keys), outputs], "bias": [outputs]}
    for name, tensor in given.items():
        if list(tensor.shape) != shapes[name]:
            raise ValueError(f"{name} is {list(tensor.shape)}; it must be {shapes[name]}")
        if name != "keys" and not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}; it must be floating point")
